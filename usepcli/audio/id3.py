"""ID3 tags (id3.org, versions 1, 2.2, 2.3 and 2.4) as texts under the names of Vorbis comments, and back as 2.4."""

from __future__ import annotations

import re
from collections.abc import Iterable

FRAMES = {
    "TIT2": "TITLE", "TPE1": "ARTIST", "TALB": "ALBUM", "TDRC": "DATE", "TCON": "GENRE", "TRCK": "TRACKNUMBER",
    "TCOP": "COPYRIGHT", "TCOM": "COMPOSER", "TPE2": "ALBUMARTIST", "TPOS": "DISCNUMBER", "TPUB": "ORGANIZATION",
    "TBPM": "BPM", "TIT1": "GROUPING", "TIT3": "SUBTITLE", "TEXT": "LYRICIST", "TSRC": "ISRC", "TLAN": "LANGUAGES",
}  # fmt: skip
_OLD = {
    "TT2": "TIT2", "TP1": "TPE1", "TAL": "TALB", "TYE": "TDRC", "TYER": "TDRC", "TCO": "TCON", "TRK": "TRCK",
    "TCR": "TCOP", "TCM": "TCOM", "TP2": "TPE2", "TPA": "TPOS", "TPB": "TPUB", "TBP": "TBPM", "COM": "COMM",
    "TXX": "TXXX", "PIC": "APIC", "TT1": "TIT1", "TT3": "TIT3",
}  # fmt: skip
_OF_THE_CODING = ("TSSE", "TENC", "TLEN", "TSS", "TEN", "TLE", "TDTG", "TFLT")
_CODES = ("latin-1", "utf-16", "utf-16-be", "utf-8")


def parse(tag: bytes) -> tuple[list[tuple[str, str]], int]:
    """Return the texts of an ID3v2 tag, and how many pictures it holds; nothing of what is damaged."""
    if tag[:3] != b"ID3" or len(tag) < 10 or tag[3] not in (2, 3, 4):
        return [], 0
    version, flags = tag[3], tag[5]
    data = tag[10 : 10 + _safe(tag[6:10])]
    if flags & 0x80 and version < 4:
        data = data.replace(b"\xff\x00", b"\xff")
    at = 0
    if flags & 0x40 and version > 2:
        at = _safe(data[:4]) if version == 4 else 4 + int.from_bytes(data[:4])
    texts: list[tuple[str, str]] = []
    pictures, width = 0, 3 if version == 2 else 4
    while at + 2 * width <= len(data) and data[at : at + 1].strip(b"\0"):
        name = data[at : at + width].decode("latin-1")
        size = data[at + width : at + 2 * width]
        length = _safe(size) if version == 4 else int.from_bytes(size)
        at += 2 * width + (2 if version > 2 else 0)
        name = _OLD.get(name, name)
        pictures += name == "APIC"
        texts += _frame(name, data[at : at + length])
        at += length
    return texts, pictures


def _safe(data: bytes) -> int:
    return sum((byte & 0x7F) << shift for byte, shift in zip(data, (21, 14, 7, 0), strict=False))


def _frame(name: str, data: bytes) -> list[tuple[str, str]]:
    if not data or data[0] > 3 or name in _OF_THE_CODING or not (name.startswith("T") or name == "COMM"):
        return []
    try:
        if name == "COMM":
            return [("COMMENT", _two(data[4:], data[0])[1])]
        if name == "TXXX":
            key, text = _two(data[1:], data[0])
            return [(key, text)] if key else []
        text = data[1:].decode(_CODES[data[0]])
    except (UnicodeDecodeError, UnicodeError):
        return []
    return [(FRAMES.get(name, name), part) for part in text.split("\0") if part]


def _two(data: bytes, code: int) -> tuple[str, str]:
    """Return a description and the text behind it; a byte order mark may stand before either."""
    step = 2 if code in (1, 2) else 1
    end = next((at for at in range(0, len(data), step) if not any(data[at : at + step])), len(data))
    first, second = data[:end].decode(_CODES[code]), data[end + step :].decode(_CODES[code])
    return first, second.strip("\0")


def parse_v1(tag: bytes) -> list[tuple[str, str]]:
    """Return the texts of the 128 bytes of an ID3v1 tag, nothing of other bytes."""
    if tag[:3] != b"TAG":
        return []
    fields = (("TITLE", 3, 33), ("ARTIST", 33, 63), ("ALBUM", 63, 93), ("DATE", 93, 97), ("COMMENT", 97, 125))
    found = [(name, tag[a:b].split(b"\0")[0].decode("latin-1").strip()) for name, a, b in fields]
    return [(name, text) for name, text in found if text]


def build(texts: Iterable[tuple[str, str]]) -> bytes:
    """Return an ID3v2.4 tag in UTF-8: frames of their own where there are, COMM, and TXXX for all others."""
    own = {name: frame for frame, name in FRAMES.items()}
    frames: dict[tuple[str, str], list[str]] = {}
    for name, text in texts:
        frame = own.get(name) or (name if re.fullmatch("T[0-9A-Z]{3}", name) and name != "TXXX" else "TXXX")
        frame = "COMM" if name == "COMMENT" else frame
        frames.setdefault((frame, name if frame == "TXXX" else ""), []).append(text)
    body = b""
    for (frame, name), several in frames.items():
        if frame == "COMM":
            body += b"".join(_coded("COMM", b"\3und\0" + text.encode()) for text in several[:1])
            continue
        head = b"\3" + (name.encode() + b"\0" if frame == "TXXX" else b"")
        body += _coded(frame, head + "\0".join(several).encode())
    return b"ID3\4\0\0" + _synchsafe(len(body)) + body


def _coded(frame: str, data: bytes) -> bytes:
    return frame.encode("ascii") + _synchsafe(len(data)) + b"\0\0" + data


def _synchsafe(size: int) -> bytes:
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
