"""Ogg files that were joined (RFC 3533, section 4): links, each a whole stream, read as one.

libsndfile reads the first link and takes the rest for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import BinaryIO, NamedTuple

import numpy as np

from usepcli.audio import raws
from usepcli.audio.chunks import stray
from usepcli.audio.plain import PlainFile
from usepcli.audio.riff import Patched

_FIXED = 27  # bytes of a page before the lengths of its segments
_BEGINS, _ENDS = 2, 4  # flags of a page


class Link(NamedTuple):
    """One stream of a joined file: its bytes, and the samples per channel that they hold."""

    start: int
    size: int
    frames: int


class Pages(NamedTuple):
    """What the pages of an Ogg file say: where each link begins and how many streams it holds, bytes that are no page,
    whether every link has its last page, and whether pages are lost on the way.
    """

    starts: tuple[int, ...]
    streams: tuple[int, ...]
    stray: int
    ended: bool
    torn: bool


@raws.once
def pages(file: BinaryIO) -> Pages:
    """Go through the pages of an Ogg file, looking at their heads alone; found once for a file that does not change."""
    with raws.mapped(file) as data:
        starts, streams, lost, torn, cut, at, fresh = list[int](), list[int](), 0, False, False, 0, False
        numbers: dict[bytes, int] = {}  # of the next page of each stream that has not ended
        ended = True
        while 0 <= at < len(data):
            head = data[at : at + _FIXED + 255]
            size = _page_size(head)
            if size and data[at + size : at + size + 5] != b"OggS\0" and data.find(b"OggS\0", at + 1, at + size) >= 0:
                size = 0  # cut short by what was joined to it
            if not size or at + size > len(data):
                behind = data.find(b"OggS\0", at + 1)
                if behind < 0:
                    cut, lost = bool(size), lost + (0 if size else stray(file, at, len(data)))
                    break
                lost, at = lost + behind - at, behind
                continue
            flags, serial, number = head[5], head[14:18], int.from_bytes(head[18:22], "little")
            if flags & _BEGINS and not fresh:  # streams that sound together begin together
                ended, numbers = ended and not numbers, {}
                starts.append(at)
                streams.append(0)
            fresh = bool(flags & _BEGINS)
            if fresh:
                streams[-1] += 1
            torn = torn or numbers.get(serial, number) != number
            numbers[serial] = number + 1
            if flags & _ENDS:
                del numbers[serial]
            at += size
        return Pages(tuple(starts), tuple(streams), lost, ended and not numbers and not cut, torn)


def _page_size(head: bytes) -> int:
    """Return the bytes of the page that begins with these; 0 if none does."""
    if head[:5] != b"OggS\0" or len(head) < _FIXED:
        return 0
    sizes = head[_FIXED : _FIXED + head[26]]
    return _FIXED + len(sizes) + sum(sizes) if len(sizes) == head[26] else 0


@raws.once
def links(file: BinaryIO) -> tuple[Link, ...]:
    """Return the links of an Ogg file that sound like its first one, none for a file that was not joined.

    Found once for a file while its size and time stay the same. LibsndfileError if one cannot be opened.
    """
    starts = pages(file).starts
    return tuple(_alike(file, starts, raws.size(file))) if len(starts) > 1 else ()


def _alike(file: BinaryIO, starts: Sequence[int], total: int) -> list[Link]:
    found: list[Link] = []
    kind = None
    for start, end in zip(starts, [*starts[1:], total], strict=True):
        with PlainFile(Patched(file, b"", start, [(start, end - start)])) as part:
            kind = kind or (part.samplerate, part.channels)
            if (part.samplerate, part.channels) != kind:
                break
            found.append(Link(start, end - start, part.frames))
    return found


class ChainFile:
    """The links of an Ogg file, one open at a time, with the attributes and methods of `plain.PlainFile`.

    `left_over` counts the bytes from the first link on that has another rate or number of channels.
    """

    exact, promised, seeks = True, 0, True

    def __init__(self, file: BinaryIO, parts: tuple[Link, ...]) -> None:
        self._file, self._links = file, parts
        self.fault: OSError | None = None  # what reading the disk met
        self._open(0)
        self.samplerate, self.channels = self._part.samplerate, self._part.channels
        self.subtype, self.format = self._part.subtype, self._part.format
        self.frames = sum(link.frames for link in parts)
        self.left_over = raws.size(file) - parts[-1].start - parts[-1].size

    def _open(self, number: int) -> None:
        link = self._links[number]
        self._now, self._view = number, Patched(self._file, b"", link.start, [(link.start, link.size)])
        self._part = PlainFile(self._view)

    def _go(self, number: int) -> None:
        self.close()
        self._open(number)

    def move(self, frame: int) -> None:
        """Go to sample `frame`."""
        number = 0
        while number + 1 < len(self._links) and frame >= self._links[number].frames:
            frame -= self._links[number].frames
            number += 1
        self._go(number)
        self._part.move(frame)

    def take(self, frames: int = -1, dtype: str = "float32") -> np.ndarray:
        """Return the next `frames` samples (T, C), fewer at the end, -1 for all; LibsndfileError if decoding stops."""
        pieces = [self._part.take(frames, dtype)]
        done = len(pieces[0])
        while self._now + 1 < len(self._links) and (frames < 0 or done < frames):
            self._go(self._now + 1)
            pieces.append(self._part.take(frames if frames < 0 else frames - done, dtype))
            done += len(pieces[-1])
        return np.concatenate(pieces)

    def close(self) -> None:
        """Close the link that is open."""
        self._part.close()
        self.fault = self.fault or self._view.fault

    def __enter__(self) -> ChainFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
