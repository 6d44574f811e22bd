"""Where the samples lie inside a file of chunks, and how many its header promises, without a decoder.

Containers: WAV and RF64 (EBU Tech 3306), AIFF, CAF (Apple), Wave64 (Sony), AU.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

from usepcli.audio.formats import HEAD

_PCM, _EXTENSIBLE = 1, 0xFFFE
_PLAIN = (_PCM, 3, 6, 7)  # integers, floats, A-law, mu-law: samples that can be put one behind the other
_FOUR_GIB = 1 << 32
_W64_HEADER = 24  # a Wave64 chunk counts its own 16 bytes of name and 8 of size


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


def _is_open(size: int) -> bool:
    # Programs that write into a pipe cannot come back to fill in the length: FFmpeg leaves 2**32 - 1, SoX
    # 2**31 - 4096 plus what its header takes, arecord 2**31.
    return 0x7FFFF000 <= size <= 0x80000000 or size >= 0xFFFFF000


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
            unknown = _is_open(size) or (not size and _ends_with_data(head, at + 8))
            return None if form is None else WavLayout(*form, at + 8, None if unknown else size)
        at += 8 + size + size % 2  # chunks are padded to even lengths
    return None


def _ends_with_data(head: bytes, offset: int) -> bool:
    """Return whether the outer length leaves no room for a chunk behind the samples that begin at `offset`."""
    outer, size = struct.unpack_from("<I", head, 4)[0], struct.unpack_from("<I", head, offset - 4)[0]
    return _is_open(outer) or outer + 8 <= offset + size + 1


def reads_on(head: bytes, total: int) -> WavLayout | None:
    """Return the layout of a WAV of `total` bytes that holds more samples than its open header says, else None."""
    layout = parse_wav(head)
    if layout is None or layout.declared is not None or not _ends_with_data(head, layout.offset):
        return None
    stated = struct.unpack_from("<I", head, layout.offset - 4)[0]
    return layout if total - layout.offset > stated else None


def closed_header(head: bytes, offset: int, total: int) -> bytes:
    """Return the header of a WAV, samples from `offset`, with the lengths of a file of `total` bytes.

    From 4 GiB on it is one of RF64, which is 36 bytes longer.
    """
    size = total - offset
    if total < _FOUR_GIB:
        return b"RIFF" + struct.pack("<I", total - 8) + head[8 : offset - 4] + struct.pack("<I", size)
    sizes = b"ds64" + struct.pack("<IQQQI", 28, total + 28, size, 0, 0)
    return b"RF64\xff\xff\xff\xffWAVE" + sizes + head[12 : offset - 4] + b"\xff\xff\xff\xff"


def data_parts(file: BinaryIO, layout: WavLayout, total: int) -> tuple[list[tuple[int, int]], int]:
    """Return where a WAV of `total` bytes keeps its samples, (offset, bytes) each, and the bytes that nothing explains.

    An interrupted recorder leaves a second data chunk, and two files that were joined a second header: both are read on
    while the samples are of the same kind, and counted as unexplained otherwise.
    """
    if layout.declared is None:
        return [(layout.offset, total - layout.offset)], 0
    parts = [(layout.offset, max(0, min(layout.declared, total - layout.offset)))]
    at = layout.offset + layout.declared + layout.declared % 2
    while at + 8 <= total:
        file.seek(at)
        head = file.read(HEAD)
        name, size = head[:4], struct.unpack_from("<I", head, 4)[0]
        if name == b"RIFF" and head[8:12] == b"WAVE":
            other = parse_wav(head)
            if other is None or other[:4] != layout[:4]:
                return parts, total - at
            at += other.offset - 8
            name, size = b"data", total - at - 8 if other.declared is None else other.declared
        if name == b"data" and layout.codec in _PLAIN:
            parts.append((at + 8, min(size, total - at - 8)))
        elif name == b"data" or not _is_name(name) or at + 8 + size > total + 1:
            return parts, total - at if any(head) else 0  # zeros: room that a recorder had set aside
        at += 8 + size + size % 2
    frame = max(1, layout.channels * layout.bits // 8)
    return [*((start, length - length % frame) for start, length in parts[:-1]), parts[-1]], 0


def _is_name(name: bytes) -> bool:
    return all(32 <= byte < 127 for byte in name)


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


def declared_data(file: BinaryIO) -> tuple[int, int] | None:
    """Return (offset, promised bytes) of the samples of a WAV, RF64, AIFF, CAF, W64 or AU; None without a promise."""
    file.seek(0)
    head = file.read(HEAD)
    if head[:4] == b".snd" and len(head) >= 12:
        offset, size = struct.unpack_from(">II", head, 4)
        return None if size == 0xFFFFFFFF else (offset, size)
    for name, offset, size in _chunks(file, head):
        if name in (b"data", b"SSND"):
            if head[:4] == b"RIFF" and (_is_open(size) or (not size and _ends_with_data(head, offset))):
                return None
            if head[:4] == b"RF64" and size == 0xFFFFFFFF:
                size = struct.unpack_from("<Q", head, 28)[0]
            return None if size < 0 else (offset, size)  # CAF writes -1 for unknown
    return None


_CHUNKED = {  # first bytes: where chunks begin, their header, what the size includes of it, padding
    b"RIFF": (12, "<4sI", 0, 2),
    b"RF64": (12, "<4sI", 0, 2),
    b"FORM": (12, ">4sI", 0, 2),
    b"caff": (8, ">4sq", 0, 1),
    b"riff": (40, "<16sQ", _W64_HEADER, 8),
}


def _chunks(file: BinaryIO, head: bytes) -> Iterator[tuple[bytes, int, int]]:
    if head[:4] not in _CHUNKED:
        return
    at, form, included, pad = _CHUNKED[head[:4]]
    length = struct.calcsize(form)
    end = file.seek(0, os.SEEK_END)
    while at + length <= end:
        file.seek(at)
        name, size = struct.unpack(form, file.read(length))
        size -= included
        yield name[:4], at + length, size
        if size < 0:
            return
        at += length + size + (-size % pad)
