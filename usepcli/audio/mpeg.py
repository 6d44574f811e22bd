"""MP3 without a Xing tag: how many frames it has, counted from their headers (ISO 11172-3, 13818-3).

Without the tag libsndfile multiplies the file's size by the bit rate of the first frame. With a variable bit rate
that is wrong, and what lies behind the guess is never decoded. Here the tag is made and put in front.
"""

from __future__ import annotations

import mmap
import struct
from typing import BinaryIO

from usepcli.audio.formats import tag_bytes

_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by version: 1, 2, 2.5
_KBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MARKS = (b"Xing", b"Info")
_SAME = b"\xff\xfe\x0c"  # sync, version, layer and rate do not change within a stream
_BIT_RATE = 8  # an index whose frames, at every rate, have room for the tag
_FIRST = 1 << 20  # bytes among which the first frame must lie


def xing_for(file: BinaryIO) -> tuple[bytes, int]:
    """Return the frame with a Xing tag to put before an MP3 file's frames, and where these begin.

    The frame is empty where the file has one, or holds no frames of layer III.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = _first_frame(data)
        if at < 0:
            return b"", 0
        head = data[at : at + 4]
        if any(mark in data[at : at + 64] for mark in _MARKS):
            return b"", 0
        count = _count(data, at, head)
    mono, version_1 = head[3] >> 6 == 3, head[1] >> 3 & 3 == 3
    side = (17 if mono else 32) if version_1 else (9 if mono else 17)
    start = bytes((head[0], head[1] | 1, _BIT_RATE << 4 | head[2] & 0x0C, head[3]))  # bit 1: without checksum
    tag = start + bytes(side) + b"Xing" + struct.pack(">II", 1, count)
    return tag.ljust(_length(start), b"\0"), at


def _first_frame(data: mmap.mmap) -> int:
    at = tag_bytes(data[:10])
    end = at + _FIRST
    while (at := data.find(b"\xff", at, end)) >= 0:
        length = _length(data[at : at + 4])
        if length and (at + length >= len(data) or _length(data[at + length : at + length + 4])):
            return at
        at += 1
    return -1


def _length(head: bytes) -> int:
    """Return the bytes of the layer III frame that begins with these four, 0 if none does."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return 0
    version, index, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or index in (0, 15) or rate == 3:
        return 0
    kbits, slots = (_KBITS_1, 144) if version == 3 else (_KBITS_2, 72)
    return slots * kbits[index] * 1000 // _RATES[version][rate] + (head[2] >> 1 & 1)


def _count(data: mmap.mmap, at: int, like: bytes) -> int:
    wanted = bytes(a & b for a, b in zip(like, _SAME, strict=False))
    count, end = 0, len(data)
    while 0 <= at < end - 3:
        head = data[at : at + 4]
        length = _length(head)
        if length and bytes(a & b for a, b in zip(head, _SAME, strict=False)) == wanted:
            count += at + length <= end
            at += length
        else:
            at = data.find(b"\xff", at + 1)  # other bytes between frames, a tag at the end for example
    return count
