"""How what a recording says besides its sound goes into the files made of it, as far as their formats hold it.

WAV and AIFF take the chunks of their own kind as they stand, and texts of others as bext, INFO, cue and ID3; FLAC and
Ogg take Vorbis comments, MP3 takes ID3v2, CAF takes its info chunk; W64 takes nothing.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from usepcli.audio import id3
from usepcli.audio.metadata import AIFF, BEXT, BEXT_FIXED, INFO, Tags

_LOUDNESS = slice(412, 422)  # of a Broadcast extension: true of the recording, not of its sources
_UNSAID = struct.pack("<h", 0x7FFF) * 5
_OGG_MOST = 40_000  # bytes of comments that leave room for all of Vorbis' own in one page
_CHAPTER = re.compile(r"CHAPTER(\d+)(NAME)?")


@dataclass(frozen=True)
class Fit:
    """What goes into a file: `extra` bytes, where (`gap`: before the byte of this number of what the library writes, or
    where `finish` puts them), and the names of what its format cannot hold.
    """

    extra: bytes = b""
    gap: int = 0
    finish: Callable[[BinaryIO, bytes], None] = lambda file, extra: None
    lost: tuple[str, ...] = ()


NOTHING = Fit()


def fit(tags: Tags, suffix: str, rate: int, *, early: bool = True) -> Fit:
    """Return how `tags` go into a file of this suffix and rate in Hz; a WAV that may pass 4 GiB takes them at its end
    (`early` False).
    """
    suffix = suffix.lower()
    pictures = ("pictures",) if tags.pictures else ()
    places = ("speaker positions",) if tags.speakers and not (early and suffix == ".wav") else ()
    lost = (*tags.untold, *pictures, *places)
    if not tags:
        return Fit()
    if suffix in (".wav", ".rf64"):
        own = tags.family == b"RIFF"
        extra = _pack(_unsaid_loudness(tags.chunks) if own else _riff(tags.texts, rate), "<")
        where = Fit(extra, 12, _grow_riff) if early and suffix == ".wav" else Fit(extra, -1, _append_riff)
        return Fit(where.extra, where.gap, where.finish, places if own else lost)
    if suffix in (".aiff", ".aif"):
        own = tags.family == b"FORM"
        extra = _pack(tags.chunks if own else _aiff(tags.texts), ">")
        return Fit(extra, -1, _append_form, () if own else lost)
    if suffix == ".flac":
        return Fit(_flac_block(tags.texts) if tags.texts else b"", 42, _close_flac, lost)
    if suffix in (".ogg", ".opus"):
        texts = _that_fit(tags.texts, _OGG_MOST)
        return Fit(_comments(texts) if texts else b"", -1, _repage, (*lost, *names(set(tags.texts) - set(texts))))
    if suffix == ".mp3":
        return Fit(id3.build(tags.texts) if tags.texts else b"", 0, lambda file, extra: None, lost)
    if suffix == ".caf":
        return Fit(_caf(tags.texts), -1, _append, lost)
    return Fit(lost=(*names(tags.texts), *lost))


def names(texts: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return what texts are called in a message, each once."""
    shown = ("cue points" if _CHAPTER.fullmatch(name) else name.lower().replace("_", " ") for name, _ in texts)
    return tuple(dict.fromkeys(shown))


def _pack(chunks: Iterable[tuple[bytes, bytes]], order: str) -> bytes:
    return b"".join(name + struct.pack(order + "I", len(data)) + data + bytes(len(data) % 2) for name, data in chunks)


def _unsaid_loudness(chunks: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    found = []
    for name, data in chunks:
        if name == b"bext" and len(data) >= BEXT_FIXED and any(data[_LOUDNESS]):  # from version 2 on
            data = data[: _LOUDNESS.start] + _UNSAID + data[_LOUDNESS.stop :]
        found.append((name, data))
    return found


def _riff(texts: Sequence[tuple[str, str]], rate: int) -> list[tuple[bytes, bytes]]:
    """Return texts as chunks of a WAV: bext, LIST INFO, cue points with labels, and an ID3 tag for what is left."""
    found = []
    bext, rest = _split(texts, BEXT)
    if bext:
        found.append((b"bext", _bext(dict(bext))))
    ids = {name: key for key, name in INFO.items()}
    info, rest = _split(rest, ids)
    if info:
        parts = [(ids[name], text.encode() + b"\0") for name, text in info]
        found.append((b"LIST", b"INFO" + _pack(parts, "<")))
    found += _cues(texts, rate)
    left = [pair for pair in rest if not _CHAPTER.fullmatch(pair[0])]
    return [*found, (b"id3 ", id3.build(left))] if left else found


def _split(
    texts: Sequence[tuple[str, str]], known: Iterable[str]
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the texts whose names are known, the first of each, and all others."""
    wanted, found, rest = set(known), dict[str, str](), []
    for name, text in texts:
        if name in wanted and name not in found:
            found[name] = text
        else:
            rest.append((name, text))
    return list(found.items()), rest


def _bext(texts: dict[str, str]) -> bytes:
    head = b"".join(
        texts.get(name, "").encode("utf-8")[:width].ljust(width, b"\0")
        for name, width in zip(BEXT, (256, 32, 32, 10, 8), strict=False)
    )
    reference = texts.get("TIME_REFERENCE", "0")
    head += struct.pack("<QH", int(reference) if reference.isdecimal() and len(reference) < 19 else 0, 1)
    return head.ljust(BEXT_FIXED, b"\0") + texts.get("CODING_HISTORY", "").encode("utf-8")


def _cues(texts: Iterable[tuple[str, str]], rate: int) -> list[tuple[bytes, bytes]]:
    points: dict[int, int] = {}
    labels: dict[int, str] = {}
    for name, text in texts:
        if (match := _CHAPTER.fullmatch(name)) and match[2]:
            labels[int(match[1])] = text
        elif match and (place := re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", text)):
            points[int(match[1])] = round((int(place[1]) * 3600 + int(place[2]) * 60 + float(place[3])) * rate)
    if not points:
        return []
    rows = [struct.pack("<II4sIII", key, at, b"data", 0, 0, at) for key, at in points.items()]
    found = [(b"cue ", struct.pack("<I", len(rows)) + b"".join(rows))]
    named = [(b"labl", struct.pack("<I", key) + text.encode() + b"\0") for key, text in labels.items()]
    return [*found, (b"LIST", b"adtl" + _pack(named, "<"))] if named else found


def _aiff(texts: Sequence[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    ids = {name: key for key, name in AIFF.items()}
    known, _ = _split(texts, ids)
    found = [(ids[name], text.encode()) for name, text in known]
    return [*found, (b"ID3 ", id3.build(texts))] if len(known) < len(texts) else found


def _comments(texts: Iterable[tuple[str, str]]) -> bytes:
    """Return Vorbis comments, their count first; the vendor is the library's own."""
    rows = [f"{name}={text}".encode() for name, text in texts]
    return struct.pack("<I", len(rows)) + b"".join(struct.pack("<I", len(row)) + row for row in rows)


def _that_fit(texts: Sequence[tuple[str, str]], most: int) -> list[tuple[str, str]]:
    found, size = [], 0
    for name, text in texts:
        length = 5 + len(name) + len(text.encode())
        if size + length <= most:
            found.append((name, text))
            size += length
    return found


def _caf(texts: Sequence[tuple[str, str]]) -> bytes:
    known = {"COMMENT": "comments"}
    rows = b"".join(f"{known.get(name, name.lower())}\0{text}\0".encode() for name, text in texts)
    data = struct.pack(">I", len(texts)) + rows
    return b"info" + struct.pack(">q", len(data)) + data if texts else b""


def _append(file: BinaryIO, extra: bytes) -> None:
    file.seek(0, os.SEEK_END)
    file.write(extra)


def _grow_riff(file: BinaryIO, extra: bytes) -> None:
    """Let the outer length count the bytes that were put in."""
    file.seek(0)
    head = file.read(28)
    if head[:4] == b"RF64":
        file.seek(20)
        file.write(struct.pack("<Q", int.from_bytes(head[20:28], "little") + len(extra)))
        return
    file.seek(4)
    file.write(struct.pack("<I", min(int.from_bytes(head[4:8], "little") + len(extra), 0xFFFFFFFF)))


def _append_riff(file: BinaryIO, extra: bytes) -> None:
    extra = bytes(file.seek(0, os.SEEK_END) % 2) + extra
    _append(file, extra)
    _grow_riff(file, extra)


def _append_form(file: BinaryIO, extra: bytes) -> None:
    total = file.seek(0, os.SEEK_END)
    _append(file, bytes(total % 2) + extra)
    file.seek(4)
    file.write(struct.pack(">I", total + total % 2 + len(extra) - 8))


def _close_flac(file: BinaryIO, extra: bytes) -> None:
    """Make the library's own block of comments, of a vendor alone, padding: a file has one such block."""
    file.seek(42 + len(extra))
    head = file.read(4)
    if head[:1] and head[0] & 0x7F == 4:
        size = int.from_bytes(head[1:])
        file.seek(42 + len(extra))
        file.write(bytes((1 | head[0] & 0x80,)) + head[1:] + bytes(size))


def _flac_block(texts: Iterable[tuple[str, str]]) -> bytes:
    """Return a block of Vorbis comments for a FLAC file, to stand behind its first block."""
    vendor = b"usep"
    data = struct.pack("<I", len(vendor)) + vendor + _comments(texts)
    return b"\x04" + len(data).to_bytes(3) + data


_CRC = [0] * 256
for _byte in range(256):
    _value = _byte << 24
    for _ in range(8):
        _value = (_value << 1 ^ (0x04C11DB7 if _value & 0x80000000 else 0)) & 0xFFFFFFFF
    _CRC[_byte] = _value


def _crc(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc = crc << 8 & 0xFFFFFFFF ^ _CRC[crc >> 24 ^ byte]
    return crc


def _repage(file: BinaryIO, extra: bytes) -> None:
    """Put comments into an Ogg file: its header packets are written anew, on as many pages as they had."""
    file.seek(0)
    data = file.read()
    pages, at, packets, open_packet = [], 0, list[bytes](), b""
    count = 3 if data[28:35] == b"\x01vorbis" else 2
    while len(packets) < count and data[at : at + 4] == b"OggS":
        sizes = data[at + 27 : at + 27 + data[at + 26]]
        begin = at + 27 + len(sizes)
        pages.append(data[at : at + 27])
        for size in sizes:
            open_packet += data[begin : begin + size]
            begin += size
            if size < 255:
                packets.append(open_packet)
                open_packet = b""
        at = begin
    mark = 7 if count == 3 else 8
    old = packets[1]
    vendor = old[mark : mark + 4 + int.from_bytes(old[mark : mark + 4], "little")]
    packets[1] = old[:mark] + vendor + extra + (b"\x01" if count == 3 else b"")
    head = b"".join(_pages(packets[1:], pages[1:]))
    file.seek(0)
    file.write(_first_page(data) + head + data[at:])
    file.truncate()


def _first_page(data: bytes) -> bytes:
    return data[: 27 + data[26] + sum(data[27 : 27 + data[26]])]


def _pages(packets: Sequence[bytes], heads: Sequence[bytes]) -> list[bytes]:
    """Return packets on pages with these heads."""
    sizes = [size for p in packets for size in (*[255] * (len(p) // 255), len(p) % 255)]
    body, each = b"".join(packets), -(-len(sizes) // len(heads))
    found, begun = [], False
    for number, head in enumerate(heads):
        mine = sizes[number * each : (number + 1) * each]
        part, body = body[: sum(mine)], body[sum(mine) :]
        ends = any(size < 255 for size in mine)
        start = head[:5] + bytes((int(begun),)) + (bytes(8) if ends else b"\xff" * 8) + head[14:22]
        tail = bytes((len(mine),)) + bytes(mine) + part
        found.append(start + struct.pack("<I", _crc(start + bytes(4) + tail)) + tail)
        begun = bool(mine) and mine[-1] == 255
    return found
