"""Decoded stretches of sound kept in one piece of memory, which all data workers of a run share.

The piece is made before the workers are, so what one of them has decoded is there for the others and for later epochs,
and `limit_bytes` holds for all of them together.  Samples that 16 bits hold exactly take two bytes, others four: what
comes back has the bits of what was put in.  Its layout, in bytes:
  0        how many bytes are taken, uint64
  64       a table of places, four uint64 each: a digest of the name in two, where the samples begin, and 2 n + f for n
           samples, f being 1 for float32; a place without a digest is free
  behind   samples, each stretch from a multiple of 8 on
"""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import numpy as np

from usepcli.errors import IOFault

_HEAD = 64
_PLACE = 32  # bytes of a row of the table
_EACH = 1 << 14  # bytes of samples for which there is one place, so that the table is a five-hundredth of all
_LOOKED_AT = 32  # places that a name may stand in, side by side


class Kept:
    """Keeps float32 waves (T,) by name, up to `limit_bytes` in all; what finds no room is not kept.

    shares: processes that get a copy of this where they do not inherit its memory; each then has a share of the limit.
    IOFault where the system does not give the memory.
    """

    def __init__(self, limit_bytes: int, shares: int = 1) -> None:
        self.limit, self.shares = limit_bytes, max(1, shares)
        self._places = max(_LOOKED_AT, limit_bytes // (_EACH + _PLACE))
        self._file = _memory()
        weakref.finalize(self, self._file.close)
        try:
            os.ftruncate(self._file.fileno(), limit_bytes)
            self._all = mmap.mmap(self._file.fileno(), limit_bytes)
        except (OSError, ValueError) as fault:
            raise IOFault(
                f"data.cache: {limit_bytes} bytes of memory cannot be had for decoded audio ({fault}); set data.cache "
                "to false"
            ) from fault
        self._taken = np.frombuffer(self._all, np.uint64, 1)
        self._table = np.frombuffer(self._all, np.uint64, 4 * self._places, _HEAD).reshape(-1, 4)
        with self._alone():
            self._taken[0] = self._taken[0] or _HEAD + _PLACE * self._places

    def __reduce__(self) -> tuple[Any, ...]:
        return Kept, (self.limit // self.shares,)

    @property
    def taken(self) -> int:
        """Bytes in use, the table among them."""
        return int(self._taken[0])

    def room(self, count: int) -> bool:
        """Return whether `count` samples may find room, of two bytes at least."""
        return self.taken + 2 * count <= self.limit

    def find(self, name: str, first: int = 0, count: int = -1) -> np.ndarray | None:
        """Return `count` samples (-1: all) of a wave from `first` on as float32, a copy; None where it is not kept."""
        digest = _digest(name)
        with self._alone():
            place = self._place(digest)
            if place is None or not self._table[place, 0]:
                return None
            begin, what = (int(value) for value in self._table[place, 2:])
        kind, frames = (np.float32 if what & 1 else np.int16), what >> 1
        wave = np.frombuffer(self._all, kind, frames, begin)[first : frames if count < 0 else first + count]
        return wave.copy() if what & 1 else wave.astype(np.float32) / np.float32(32768)

    def add(self, name: str, wave: np.ndarray) -> None:
        """Keep a wave (T,) of float32 under its name, if there is room."""
        if not self.room(wave.size):
            return
        samples = _compact(wave)
        digest, size = _digest(name), -(-samples.nbytes // 8) * 8
        with self._alone():
            place, begin = self._place(digest), self.taken
            if place is None or self._table[place, 0] or begin + size > self.limit:
                return
            # Taken first and named last: a process that is killed on the way leaves a hole and no wrong samples.
            self._taken[0] = begin + size
            np.frombuffer(self._all, samples.dtype, samples.size, begin)[:] = samples
            self._table[place, 1:] = digest[1], begin, 2 * samples.size + (samples.dtype == np.float32)
            self._table[place, 0] = digest[0]

    def _place(self, digest: tuple[int, int]) -> int | None:
        """Return the place of a name, or a free one for it; None where all that it may stand in are taken."""
        for step in range(_LOOKED_AT):
            place = (digest[1] + step) % self._places
            if not self._table[place, 0] or (int(self._table[place, 0]), int(self._table[place, 1])) == digest:
                return place
        return None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the piece against other processes; the system gives it back where one dies."""
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)


def _memory() -> Any:
    """Return an open file without a name: of memory alone where the system has such files."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("usep"), "r+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


def _digest(name: str) -> tuple[int, int]:
    found = blake2b(name.encode("utf-8", "surrogateescape"), digest_size=16).digest()
    return int.from_bytes(found[:8], "little") | 1, int.from_bytes(found[8:], "little")


def _compact(wave: np.ndarray) -> np.ndarray:
    """Return a wave as int16 where that holds every bit of it, else as float32."""
    wave = np.ascontiguousarray(wave, np.float32)
    with np.errstate(invalid="ignore"):
        codes = np.clip(np.rint(wave * np.float32(32768)), -32768, 32767).astype(np.int16)
    back = codes.astype(np.float32) / np.float32(32768)
    return codes if np.array_equal(back.view(np.uint32), wave.view(np.uint32)) else wave
