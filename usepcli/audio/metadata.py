"""What a sound file says besides its sound: chunks as they stand, and texts under the names of Vorbis comments.

Read from: WAV and RF64 (Broadcast extension, EBU Tech 3285; LIST INFO and adtl, cue, iXML, GUANO, id3), AIFF (text
chunks, markers, ID3), FLAC and Ogg (Vorbis comments), MP3 (ID3v2, ID3v1), CAF (info), and by PyAV what FFmpeg calls
metadata.  What speaks of the coding alone (encoder, gains of a player, a picture of the waveform) is not taken.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from usepcli.audio import id3, raws, speakers
from usepcli.audio.checks import PathLike
from usepcli.audio.chunks import Chunk, chunks
from usepcli.audio.codecs import CodecFile
from usepcli.audio.formats import HEAD, sniff, tag_bytes

INFO = {
    b"INAM": "TITLE", b"IART": "ARTIST", b"ICMT": "COMMENT", b"ICRD": "DATE", b"IPRD": "ALBUM", b"IGNR": "GENRE",
    b"ICOP": "COPYRIGHT", b"ITRK": "TRACKNUMBER", b"ISFT": "SOFTWARE", b"IENG": "ENGINEER", b"IKEY": "KEYWORDS",
    b"ISBJ": "SUBJECT", b"ISRC": "SOURCE", b"ITCH": "TECHNICIAN", b"IARL": "ARCHIVE", b"IMED": "MEDIUM",
}  # fmt: skip
AIFF = {b"NAME": "TITLE", b"AUTH": "ARTIST", b"(c) ": "COPYRIGHT", b"ANNO": "COMMENT"}
BEXT = ("DESCRIPTION", "ORIGINATOR", "ORIGINATOR_REFERENCE", "ORIGINATION_DATE", "ORIGINATION_TIME", "TIME_REFERENCE",
        "CODING_HISTORY")  # fmt: skip
_BEXT_WIDTHS = (256, 32, 32, 10, 8)
BEXT_FIXED = 602  # bytes of a Broadcast extension before its coding history
_WHOLE = {b"iXML": "IXML", b"guan": "GUANO", b"axml": "AXML"}  # chunks that are one text
_OF_THE_SOUND = (b"fmt ", b"data", b"fact", b"ds64", b"PEAK", b"JUNK", b"junk", b"PAD ", b"FLLR", b"levl", b"MD5 ",
                 b"COMM", b"SSND", b"FVER")  # fmt: skip
_OF_THE_CODING = ("ENCODER", "ENCODED_BY", "ENCODED-BY", "ENCODING", "ENCODERSETTINGS", "MAJOR_BRAND", "MINOR_VERSION",
                  "COMPATIBLE_BRANDS", "HANDLER_NAME", "VENDOR_ID", "LANGUAGE", "DURATION")  # fmt: skip
_GAINS = ("REPLAYGAIN_", "R128_", "WAVEFORMATEXTENSIBLE", "STATISTICS_TAGS", "_STATISTICS", "ITUNSMPB", "ITUNNORM")
_MOST = 1 << 24  # bytes of what is read whole


@dataclass(frozen=True)
class Tags:
    """What a file says: `chunks` (name, content) of a container of the `family` RIFF or FORM, as they stand; `texts`
    (name, text), which mean the same as far as texts can; how many `pictures`, which are not kept; and the `speakers`
    of its channels where they are not the usual ones.
    """

    family: bytes = b""
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    texts: tuple[tuple[str, str], ...] = ()
    pictures: int = 0
    speakers: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.chunks or self.texts or self.pictures or self.speakers)

    @property
    def untold(self) -> tuple[str, ...]:
        """The chunks that no text stands for, by name."""
        known = (b"bext", b"LIST", b"cue ", b"MARK", b"COMT", b"id3 ", b"ID3 ", *_WHOLE, *AIFF)
        return tuple(dict.fromkeys(name.decode("latin-1").strip() for name, _ in self.chunks if name not in known))


def read(path: PathLike) -> Tags:
    """Return what a sound file says besides its sound; what is damaged is left out. OSError as it comes."""
    with raws.open_raw(path) as file:
        head = file.read(HEAD)
        kind = sniff(head)
        family = {b"RIFF": b"RIFF", b"RF64": b"RIFF", b"BW64": b"RIFF", b"FORM": b"FORM"}.get(head[:4], b"")
        if head[8:12] in (b"WAVE", b"AIFF", b"AIFC") and family:
            return _of_chunks(file, family)
        if head[:4] == b"caff":
            found = [chunk for chunk in chunks(file) if chunk.name == b"info"]
            return Tags(texts=_kept(pair for chunk in found for pair in _caf(_content(file, chunk))))
        file.seek(tag_bytes(head))
        if file.read(4) == b"fLaC":
            return _of_flac(file)
        if head[:4] == b"OggS":
            return Tags(texts=_kept(_comments(_ogg_packet(file))))
        if kind is not None and kind.demuxer == "mp3":
            return _of_mp3(file)
    if kind is not None and not kind.plain:
        with CodecFile(path, kind) as codec:
            return Tags(texts=_kept(codec.metadata))
    return Tags()


def _kept(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return the texts that say something, under their names in capitals, each once."""
    named = ((name.upper(), text.strip("\0 ")) for name, text in pairs)
    found = [
        (name, text) for name, text in named if text and name not in _OF_THE_CODING and not name.startswith(_GAINS)
    ]
    return tuple(dict.fromkeys(found))


def _content(file: BinaryIO, chunk: Chunk) -> bytes:
    file.seek(chunk.start)
    return file.read(min(chunk.size, _MOST))


def _of_chunks(file: BinaryIO, family: bytes) -> Tags:
    found = chunks(file)
    form = next((_content(file, chunk) for chunk in found if chunk.name in (b"fmt ", b"COMM")), b"")
    rate = struct.unpack_from("<I", form, 4)[0] if family == b"RIFF" and len(form) >= 8 else 0
    kept = [(chunk.name, _content(file, chunk)) for chunk in found if chunk.name not in _OF_THE_SOUND]
    texts: list[tuple[str, str]] = []
    pictures = 0
    cues: dict[int, int] = {}
    labels: dict[int, str] = {}
    for name, data in kept:
        if name == b"bext":
            texts += bext_texts(data)
        elif name == b"LIST" and data[:4] == b"INFO":
            texts += [(INFO.get(key, key.decode("latin-1")), _text(text)) for key, text in _parts(data[4:])]
        elif name == b"LIST" and data[:4] == b"adtl":
            labels |= {_int(t[:4]): _text(t[4:]) for key, t in _parts(data[4:]) if key == b"labl" and len(t) > 4}
        elif name == b"cue ":
            cues |= {_int(data[at : at + 4]): _int(data[at + 20 : at + 24]) for at in range(4, len(data) - 23, 24)}
        elif name in _WHOLE:
            texts.append((_WHOLE[name], _text(data)))
        elif name in AIFF:
            texts.append((AIFF[name], _text(data)))
        elif name in (b"id3 ", b"ID3 "):
            more, seen = id3.parse(data)
            texts, pictures = texts + more, pictures + seen
    texts += _chapters(cues, labels, rate)
    return Tags(family, tuple(kept), _kept(texts), pictures, speakers.named(form) if family == b"RIFF" else ())


def _int(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _text(data: bytes) -> str:
    data = data.split(b"\0", 1)[0]
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _parts(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size = _int(data[at + 4 : at + 8])
        yield data[at : at + 4], data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def bext_texts(data: bytes) -> list[tuple[str, str]]:
    """Return the fields of a Broadcast extension; the time reference counts samples from midnight."""
    found, at = [], 0
    for name, width in zip(BEXT, _BEXT_WIDTHS, strict=False):
        found.append((name, _text(data[at : at + width])))
        at += width
    if len(data) >= at + 8 and (reference := _int(data[at : at + 8])):
        found.append(("TIME_REFERENCE", str(reference)))
    return [*found, ("CODING_HISTORY", _text(data[BEXT_FIXED:]).strip())]


def _chapters(cues: dict[int, int], labels: dict[int, str], rate: int) -> Iterator[tuple[str, str]]:
    """Yield cue points as chapters: CHAPTER001=00:00:01.500 and CHAPTER001NAME."""
    if not rate:
        return
    for number, (key, frame) in enumerate(sorted(cues.items(), key=lambda item: item[1]), 1):
        minutes, seconds = divmod(frame / rate, 60)
        yield f"CHAPTER{number:03d}", f"{int(minutes) // 60:02d}:{int(minutes) % 60:02d}:{seconds:06.3f}"
        if labels.get(key):
            yield f"CHAPTER{number:03d}NAME", labels[key]


def _comments(packet: bytes) -> Iterator[tuple[str, str]]:
    """Yield the texts of Vorbis comments: a vendor, a count, and so many of NAME=text, each after its length."""
    at = 4 + _int(packet[:4])
    count, at = _int(packet[at : at + 4]), at + 4
    for _ in range(count):
        size = _int(packet[at : at + 4])
        if at + 4 > len(packet):
            return
        name, equals, text = packet[at + 4 : at + 4 + size].decode("utf-8", "replace").partition("=")
        if equals:
            yield name, text
        at += 4 + size


def _of_flac(file: BinaryIO) -> Tags:
    texts: list[tuple[str, str]] = []
    pictures = 0
    while len(head := file.read(4)) == 4:
        size = int.from_bytes(head[1:])
        data = file.read(size)
        if head[0] & 0x7F == 4:
            texts += _comments(data)
        pictures += head[0] & 0x7F == 6
        if head[0] & 0x80:
            break
    return Tags(texts=_kept(texts), pictures=pictures)


def _ogg_packet(file: BinaryIO) -> bytes:
    """Return the comments of the first stream: its second packet, without the mark in front."""
    packet, number, serial, at = b"", 0, b"", 0
    while number < 2 and len(packet) < _MOST:
        file.seek(at)
        head = file.read(27)
        if len(head) < 27 or head[:4] != b"OggS":
            break
        sizes = file.read(head[26])
        serial = serial or head[14:18]
        for size in sizes if head[14:18] == serial else b"":
            data = file.read(size)
            packet += data if number == 1 else b""
            number += size < 255
            if number > 1:
                break
        at += 27 + len(sizes) + sum(sizes)
    if packet.startswith(b"\x03vorbis"):
        return packet[7:]
    return packet[8:] if packet.startswith(b"OpusTags") else packet[4:] if packet[:1] == b"\x84" else b""


def _of_mp3(file: BinaryIO) -> Tags:
    file.seek(0)
    size = tag_bytes(file.read(10))
    file.seek(0)
    texts, pictures = id3.parse(file.read(min(size, _MOST))) if size else ([], 0)
    if not texts and file.seek(0, 2) > 128:
        file.seek(-128, 2)
        texts = id3.parse_v1(file.read(128))
    return Tags(texts=_kept(texts), pictures=pictures)


def _caf(data: bytes) -> Iterator[tuple[str, str]]:
    parts = data[4:].split(b"\0")
    for name, text in zip(parts[::2], parts[1::2], strict=False):
        yield {"comments": "COMMENT"}.get(_text(name), _text(name)), _text(text)


def of(path: Path) -> Tags:
    """Return `read(path)`, nothing where the file cannot be read a second time."""
    try:
        return read(path)
    except OSError:
        return Tags()
