"""Ogg files that were joined (RFC 3533, section 4): links, each a whole stream, read as one.

libsndfile reads the first link and takes the rest for nothing.
"""

from __future__ import annotations

import mmap
import os
from types import TracebackType
from typing import BinaryIO, NamedTuple

import numpy as np

from usepcli.audio.plain import PlainFile
from usepcli.audio.riff import Patched

_FIRST = b"OggS\x00\x02"  # a page that begins a stream
_FIXED = 27  # bytes of a page before the lengths of its segments
_KNOWN: dict[tuple[int, int, int, int], tuple[Link, ...]] = {}


class Link(NamedTuple):
    """One stream of a joined file: its bytes, and the samples per channel that they hold."""

    start: int
    size: int
    frames: int


def links(file: BinaryIO) -> tuple[Link, ...]:
    """Return the links of an Ogg file that sound like its first one, none for a file that was not joined.

    Found once for a file while its size and time stay the same. LibsndfileError if one cannot be opened.
    """
    held = os.fstat(file.fileno())
    key = (held.st_dev, held.st_ino, held.st_size, held.st_mtime_ns)
    if key not in _KNOWN:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            starts = _starts(data)
        _KNOWN[key] = tuple(_alike(file, starts, held.st_size)) if len(starts) > 1 else ()
    return _KNOWN[key]


def _starts(data: mmap.mmap) -> list[int]:
    found, behind, at = [], -1, data.find(_FIRST)
    while at >= 0:
        if at != behind:  # streams that sound together begin together
            found.append(at)
        sizes = data[at + _FIXED : at + _FIXED + data[at + 26]] if at + _FIXED <= len(data) else b""
        behind = at + _FIXED + len(sizes) + sum(sizes)
        at = data.find(_FIRST, behind)
    return found


def _alike(file: BinaryIO, starts: list[int], total: int) -> list[Link]:
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

    def __init__(self, file: BinaryIO, parts: tuple[Link, ...]) -> None:
        self._file, self._links = file, parts
        self.fault: OSError | None = None  # what reading the disk met
        self._open(0)
        self.samplerate, self.channels = self._part.samplerate, self._part.channels
        self.subtype, self.format = self._part.subtype, self._part.format
        self.frames = sum(link.frames for link in parts)
        self.left_over = os.fstat(file.fileno()).st_size - parts[-1].start - parts[-1].size

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
