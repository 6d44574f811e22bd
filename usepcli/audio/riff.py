"""A WAV file's header at a glance, and a file with another header in place of its own (the whole: chunks.py)."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

_PCM, _EXTENSIBLE = 1, 0xFFFE


class WavLayout(NamedTuple):
    """Place and kind of a WAV file's samples; `declared` is the number of bytes that the header claims."""

    codec: int
    channels: int
    rate: int
    bits: int
    offset: int
    declared: int | None

    @property
    def is_pcm16_mono(self) -> bool:
        """Return True where the body is one channel of 16-bit little-endian integers."""
        return self.codec == _PCM and self.channels == 1 and self.bits == 16


def is_open(size: int) -> bool:
    """Return whether a length of 32 bits is the mark of one that was never filled in."""
    # Programs that write into a pipe cannot come back to fill in the length: FFmpeg leaves 2**32 - 1, SoX
    # 2**31 - 4096 (AIFF: 127 * 2**24) plus what its header takes, arecord 2**31.
    return 0x7FFFF000 <= size <= 0x80000000 or size >= 0xFFFFF000 or 0x7F000000 <= size <= 0x7F000100


def parse_wav(head: bytes) -> WavLayout | None:
    """Read the RIFF chunks in a file's first bytes; None if it is no WAV or its data lie further on.

    `declared` is None where the writer never filled it in: a pipe's mark, or zero bytes in a file whose
    outer length ends there as well.
    """
    if len(head) < 12 or head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    at, form = 12, None
    while at + 8 <= len(head):
        name, size = head[at : at + 4], struct.unpack_from("<I", head, at + 4)[0]
        if name == b"fmt " and at + 24 <= len(head):
            codec, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", head, at + 8)
            if codec == _EXTENSIBLE and size >= 26 and at + 34 <= len(head):
                codec = struct.unpack_from("<H", head, at + 32)[0]  # the sub-format's first two bytes
            form = (codec, channels, rate, bits)
        elif name == b"data":
            unknown = is_open(size) or (not size and _ends_with_data(head, at + 8))
            return None if form is None else WavLayout(*form, at + 8, None if unknown else size)
        at += 8 + size + size % 2  # chunks are padded to even lengths
    return None


def _ends_with_data(head: bytes, offset: int) -> bool:
    """Return whether the outer length leaves no room for a chunk behind the samples that begin at `offset`."""
    outer, size = struct.unpack_from("<I", head, 4)[0], struct.unpack_from("<I", head, offset - 4)[0]
    return is_open(outer) or outer + 8 <= offset + size + 1


class Patched:
    """A file, read only, with `head` in place of its first bytes up to `offset`: what libsndfile needs of a file.

    With `parts`, (offset, bytes) each, these alone follow the head. libsndfile takes an exception for the end of the
    file; `fault` keeps it.
    """

    def __init__(
        self, file: BinaryIO, head: bytes, offset: int, parts: Sequence[tuple[int, int]] | None = None
    ) -> None:
        self._file, self._head = file, head
        self.fault: OSError | None = None
        end = file.seek(0, os.SEEK_END)
        self._parts = [(offset, max(0, end - offset))] if parts is None else list(parts)
        self._total = len(head) + sum(length for _, length in self._parts)
        self._at = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move as `io.IOBase.seek` does."""
        self._at = max(0, offset + (0, self._at, self._total)[whence])
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes."""
        end = self._total if size < 0 else min(self._total, self._at + size)
        found = [self._head[self._at : end]]
        self._at = max(self._at, min(end, len(self._head)))
        try:
            first = len(self._head)
            for start, length in self._parts:
                if first <= self._at < min(end, first + length):
                    self._file.seek(start + self._at - first)
                    found.append(self._file.read(min(end, first + length) - self._at))
                    self._at += len(found[-1])
                first += length
        except OSError as err:
            self.fault = err
        return b"".join(found)
