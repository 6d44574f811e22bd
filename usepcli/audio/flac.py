"""How many samples a FLAC file holds, from the number in its last frame (RFC 9639, section 9), and what lies behind.

The total in the first block is what the writer meant to write: a pipe leaves it 0, and it is wrong in a file that was
edited or joined.  The last frame knows the number of its own first sample.
"""

from __future__ import annotations

import mmap
from typing import BinaryIO, NamedTuple

from usepcli.audio import raws
from usepcli.audio.chunks import stray
from usepcli.audio.formats import tag_bytes

# A stream's first bytes, and the head of a STREAMINFO of 34 bytes; the second where no other block follows.
_MARKS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")
_MOST = (1 << 36) - 1  # samples that a total can state
_TOTAL = 26  # bytes from the mark up to the end of the total
_WINDOW = 1 << 20  # bytes at the end among which a frame must begin
_LONGEST = 1 << 17  # bytes of a frame that are looked through for its end
_HEAD_MOST = 16  # bytes of the head of a frame


class Flac(NamedTuple):
    """The samples per channel that the first block states (0: unknown), those up to the end of the last frame (0: none
    was found), and the bytes behind the stream that nothing explains.

    `header`, in place of the first `offset` bytes, states no total: a decoder reads on until the frames end.
    """

    stated: int
    held: int
    left_over: int
    header: bytes
    offset: int


@raws.once
def look(file: BinaryIO) -> Flac | None:
    """Return what a FLAC file holds; None for other files."""
    with raws.mapped(file) as data:
        at = tag_bytes(data[:10])
        info = data[at : at + 42]
        if len(info) < 42 or info[:4] != _MARKS[0][:4] or info[4] & 0x7F or info[5:8] != _MARKS[0][5:8]:
            return None
        stated = int.from_bytes(info[21:26]) & _MOST
        stated = 0 if stated == _MOST else stated
        second = min((found for mark in _MARKS if (found := data.find(mark, at + 42)) > 0), default=len(data))
        head = data[: at + 21] + bytes((info[21] & 0xF0, 0, 0, 0, 0))
        frame, held = _last_frame(data, info, second)
        lost = len(data) - second
        if held and not lost:
            lost = stray(file, _end(data, frame, second, int.from_bytes(info[12:15])), second)
        return Flac(stated, held, lost, head, at + _TOTAL)


def _last_frame(data: mmap.mmap, info: bytes, end: int) -> tuple[int, int]:
    """Return where the last frame begins, and the number of the sample behind it."""
    least, at = max(0, end - _WINDOW), end
    while (at := data.rfind(b"\xff", least, at)) >= 0:
        if held := _behind(data[at : at + _HEAD_MOST], info):
            return at, held
    return 0, 0


def _behind(head: bytes, info: bytes) -> int:
    """Return the number of the sample behind the frame that begins with these bytes; 0 if none does."""
    if len(head) < 6 or head[1] & 0xFE != 0xF8 or head[3] & 1 or head[2] >> 4 == 0 or head[2] & 0x0F == 15:
        return 0
    channels = (info[20] >> 1 & 7) + 1
    code = head[3] >> 4
    if code > 10 or (code + 1 if code < 8 else 2) != channels:
        return 0
    length = 8 - (head[4] ^ 0xFF).bit_length() or 1  # of the number, which is coded as UTF-8 would
    number, at = head[4] & 0xFF >> (length + 1 if length > 1 else 1), 4 + length
    for byte in head[5:at]:
        if byte & 0xC0 != 0x80:
            return 0
        number = number << 6 | byte & 0x3F
    size, extra = _size(head[2] >> 4, head[at : at + 2])
    at += extra + {12: 1, 13: 2, 14: 2}.get(head[2] & 0x0F, 0)
    if at >= len(head) or _crc8(head[:at]) != head[at]:
        return 0
    return (number if head[1] & 1 else number * int.from_bytes(info[8:10])) + size


def _size(code: int, behind: bytes) -> tuple[int, int]:
    """Return the samples of a frame from their code, and the bytes behind the number that say them."""
    if code in (6, 7):
        return int.from_bytes(behind[: code - 5]) + 1, code - 5
    return (192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8), 0


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc << 1 & 0xFF ^ (7 if crc & 0x80 else 0)
    return crc


_CRC16 = [0] * 256
for _byte in range(256):
    _value = _byte << 8
    for _ in range(8):
        _value = _value << 1 & 0xFFFF ^ (0x8005 if _value & 0x8000 else 0)
    _CRC16[_byte] = _value


def _end(data: mmap.mmap, frame: int, end: int, least: int) -> int:
    """Return where the frame ends: with its own checksum, which makes that of all its bytes 0."""
    crc, first = 0, 0
    for at, byte in enumerate(data[frame : min(end, frame + _LONGEST)], frame + 1):
        crc = crc << 8 & 0xFFFF ^ _CRC16[crc >> 8 ^ byte]
        if not crc and at - frame >= max(least, 8):
            if at == end:
                return at
            first = first or at
    return first or end
