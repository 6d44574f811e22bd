"""How many frames an MP3 file has, counted from their headers where its Xing tag is absent or does not fit its size.

Without the tag libsndfile multiplies the file's size by the bit rate of the first frame. With a variable bit rate
that is wrong, and what lies behind the guess is never decoded; neither is what was joined to a file whose tag speaks
of the first part alone. Here the tag is made, or mended (ISO 11172-3, 13818-3; Xing's: flags, frames, bytes).
"""

from __future__ import annotations

import mmap
import struct
from typing import BinaryIO, NamedTuple

from usepcli.audio.formats import tag_bytes

_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by version: 1, 2, 2.5
_KBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MARKS = (b"Xing", b"Info")
_SAME = b"\xff\xfe\x0c"  # sync, version, layer and rate do not change within a stream
_BIT_RATE = 8  # an index whose frames, at every rate, have room for the tag
_SLACK = 1024  # bytes behind the frames that an old tag takes, or less than a joined part
_FIRST = 1 << 20  # bytes among which the first frame must lie


class Frames(NamedTuple):
    """What to put in place of an MP3 file's first `offset` bytes (b"": nothing), and whether it came `tagged`.

    `lost` bytes are of frames of another kind, with another rate or number of channels: no decoder goes on with them.
    """

    head: bytes
    offset: int
    tagged: bool
    lost: int


def look(file: BinaryIO) -> Frames:
    """Return how an MP3 file has to be read so that all its frames are; errors of the disk as they come."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = _first_frame(data)
        if at < 0:
            return Frames(b"", 0, False, 0)
        head = data[at : at + 4]
        mark = next((found for mark in _MARKS if (found := data.find(mark, at, at + 64)) >= 0), -1)
        if mark < 0:
            count, lost = _count(data, at, head)
            return Frames(_tag(head, count), at, False, lost)
        flags, stated, size = struct.unpack_from(">III", data, mark + 4)
        if flags & 3 == 3 and len(data) - at <= size + _SLACK:
            return Frames(b"", 0, True, 0)
        count, lost = _count(data, at, head)  # the tag's own frame among them
        if flags & 3 != 3 or count - 1 <= stated:
            return Frames(b"", 0, True, lost)
        end = at + _length(head)
        mended = struct.pack(">II", count - 1, min(len(data) - at, 0xFFFFFFFF))
        return Frames(data[at : mark + 8] + mended + data[mark + 16 : end], end, True, lost)


def _tag(head: bytes, count: int) -> bytes:
    """Return a frame of the kind of `head` with a Xing tag that says `count`."""
    mono, version_1 = head[3] >> 6 == 3, head[1] >> 3 & 3 == 3
    side = (17 if mono else 32) if version_1 else (9 if mono else 17)
    start = bytes((head[0], head[1] | 1, _BIT_RATE << 4 | head[2] & 0x0C, head[3]))  # bit 1: without checksum
    tag = start + bytes(side) + b"Xing" + struct.pack(">II", 1, count)
    return tag.ljust(_length(start), b"\0")


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


def _count(data: mmap.mmap, at: int, like: bytes) -> tuple[int, int]:
    """Return how many frames are of the kind of `like`, and the bytes of those that are not."""
    wanted, lost = _kind(like), 0
    count, end = 0, len(data)
    while 0 <= at < end - 3:
        head = data[at : at + 4]
        length = _length(head)
        if length and _kind(head) == wanted:
            count += at + length <= end
            at += length
        elif (
            length
            and at + length < end - 3
            and _length(data[at + length : at + length + 4])
            and (_kind(data[at + length : at + length + 4]) == _kind(head))
        ):
            lost += length
            at += length
        else:
            at = data.find(b"\xff", at + 1)  # other bytes between frames, a tag at the end for example
    return count, lost


def _kind(head: bytes) -> bytes:
    return bytes(a & b for a, b in zip(head, _SAME, strict=False)) + bytes([head[3] >> 6 == 3])
