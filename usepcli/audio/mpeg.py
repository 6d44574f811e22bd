"""How many frames an MP3 file has, counted from their headers whatever its Xing tag says.

Without the tag libsndfile multiplies the file's size by the bit rate of the first frame. With a variable bit rate
that is wrong, and what lies behind the guess is never decoded; neither is what was joined to a file whose tag speaks
of the first part alone. Here the tag is made, or mended (ISO 11172-3, 13818-3; Xing's: flags, frames, bytes, and what
follows).  A tag that promises more frames and more bytes than there are is right: the file was cut.
"""

from __future__ import annotations

import mmap
import struct
from typing import BinaryIO, NamedTuple

from usepcli.audio import raws
from usepcli.audio.chunks import stray
from usepcli.audio.formats import tag_bytes

_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by version: 1, 2, 2.5
_KBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MARKS = (b"Xing", b"Info")
_SAME = b"\xff\xfe\x0c"  # sync, version, layer and rate do not change within a stream
_BIT_RATE = 8  # an index whose frames, at every rate, have room for the tag
_CUT, _OTHER, _END = "a frame that is cut", "frames of another kind", "no frame"
_FIRST = 1 << 20  # bytes among which the first frame must lie


class Frames(NamedTuple):
    """What to put in place of an MP3 file's first `offset` bytes (b"": nothing), and whether it came `tagged`.

    cut: it holds fewer frames than its tag says.
    `lost` bytes lie behind the last frame that goes on with the first one's rate and channels: no decoder reads them.
    """

    head: bytes
    offset: int
    tagged: bool
    lost: int
    cut: bool = False


@raws.once
def look(file: BinaryIO) -> Frames:
    """Return how an MP3 file has to be read so that all its frames are; errors of the disk as they come."""
    with raws.mapped(file) as data:
        at = _first_frame(data)
        if at < 0:
            return Frames(b"", 0, False, 0)
        head = data[at : at + 4]
        end = at + _length(head)
        mark = next((found for mark in _MARKS if (found := data.find(mark, at, at + 64)) >= 0), -1)
        begin = end if mark >= 0 or data[at + 36 : at + 40] == b"VBRI" else at  # at one place in all kinds of frames
        count, stop, end_of = _count(data, begin, head)
        lost = {_CUT: 0, _OTHER: len(data) - stop}.get(end_of, stray(file, stop, len(data)))
        if mark < 0:
            return Frames(_tag(head, count), begin, False, lost)
        tag = _Tag.of(data[mark:end])
        cut = tag.frames > count and (tag.size > len(data) - at or end_of == _CUT)
        off = 100 * abs(len(data) - at - tag.size) > tag.size > 0  # of which the decoder would speak on stderr
        if cut or (tag.frames == count and not off):
            return Frames(b"", 0, True, lost, cut)
        mended = data[at:mark] + tag.mended(count, min(len(data) - at, 0xFFFFFFFF))
        return Frames(mended[: end - at].ljust(end - at, b"\0"), end, True, lost)


class _Tag(NamedTuple):
    """What a Xing tag says: frames, bytes (0 where it does not), and the fields behind."""

    mark: bytes
    flags: int
    frames: int
    size: int
    rest: bytes

    @classmethod
    def of(cls, data: bytes) -> _Tag:
        flags, at, found = int.from_bytes(data[4:8]), 8, [0, 0]
        for k in (0, 1):
            if flags >> k & 1:
                found[k] = int.from_bytes(data[at : at + 4])
                at += 4
        return cls(data[:4], flags, found[0], found[1], data[at:])

    def mended(self, frames: int, size: int) -> bytes:
        """Return the tag with other numbers."""
        return self.mark + struct.pack(">III", self.flags | 3, frames, size) + self.rest


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


def _count(data: mmap.mmap, at: int, like: bytes) -> tuple[int, int, str]:
    """Return how many frames from `at` on are of the kind of `like`, where they end, and before what.

    They end at the first two of another kind, with which no decoder goes on; one alone is an accident.
    """
    wanted, count, end, stop = _kind(like), 0, len(data), at
    while 0 <= at < end - 3:
        head = data[at : at + 4]
        length = _length(head)
        alike = length > 0 and _kind(head) == wanted
        if alike and at + length > end:
            return count, stop, _CUT
        if alike and (at == stop or _goes_on(data, at + length, head)):
            count, at = count + 1, at + length
            stop = at
        elif length and not alike and _goes_on(data, at + length, head):
            return count, stop, _OTHER
        else:  # other bytes between frames, a tag at the end for example
            at = data.find(b"\xff", at + max(1, tag_bytes(data[at : at + 10])))
    return count, stop, _END


def _goes_on(data: mmap.mmap, at: int, like: bytes) -> bool:
    """Whether a frame of the same kind, or the end, follows."""
    head = data[at : at + 4]
    return at == len(data) or (_length(head) > 0 and _kind(head) == _kind(like))


def _kind(head: bytes) -> bytes:
    return bytes(a & b for a, b in zip(head, _SAME, strict=False)) + bytes([head[3] >> 6 == 3])
