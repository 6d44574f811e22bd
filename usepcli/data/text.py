"""The bytes of a table: held in memory, or of a large one read from the file where they are wanted.

Most tables are held, and what becomes of the file is then no matter. One of more than HELD bytes stays open: replaced
as usep replaces files it goes on as it was, and where it is written over in place the reader is told so.
"""

from __future__ import annotations

import os
import weakref
import zlib
from pathlib import Path

from usepcli.errors import BadInput
from usepcli.files import show

HELD = 64 << 20
_STEP = 4 << 20


class Text:
    """The bytes [0, size) of a file as they are when it is opened; OSError where it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path: Path | None = path
        self._open(path)
        self._stamp = self._now()
        self.size = self._stamp[0]
        self._held: bytes | None = None
        self._sum: int | None = None
        if self.size <= HELD:
            self._hold(path.read_bytes())

    @classmethod
    def of(cls, text: bytes) -> Text:
        """Return bytes that no file holds; the path is None."""
        made = cls.__new__(cls)
        made.path = None
        made._hold(text)
        return made

    def _hold(self, text: bytes) -> None:
        self._held, self.size = text, len(text)
        if hasattr(self, "_file"):
            self._file.close()

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key != "_file"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        if self._held is None:  # in a process that was started anew
            assert self.path is not None
            self._open(self.path)

    def _open(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        weakref.finalize(self, self._file.close)

    def part(self, begin: int, end: int) -> bytes:
        """Return the bytes [begin, end), fewer at the end; BadInput where the file has changed."""
        if self._held is not None:
            return self._held[begin:end]
        found = os.pread(self._file.fileno(), min(end, self.size) - begin, begin)
        if self._now() != self._stamp:
            self._look_again()
        return found

    def sum(self) -> None:
        """Remember what the file holds, so that a new time alone is no change."""
        if self._held is None and self._sum is None:
            self._sum = self._summed()

    def same(self, path: Path) -> bool:
        """Return whether a file is, or holds, just this text."""
        with path.open("rb", buffering=0) as file:
            if self._held is None:
                mine, theirs = os.fstat(self._file.fileno()), os.fstat(file.fileno())
                return os.path.samestat(mine, theirs) and self._now() == self._stamp
            at = 0
            while part := file.read(1 << 20):
                if self._held[at : at + len(part)] != part:
                    return False
                at += len(part)
            return at == self.size

    def _now(self) -> tuple[int, int]:
        held = os.fstat(self._file.fileno())
        return held.st_size, held.st_mtime_ns

    def _summed(self) -> int:
        found = 0
        for begin in range(0, self.size, _STEP):
            found = zlib.crc32(os.pread(self._file.fileno(), min(_STEP, self.size - begin), begin), found)
        return found

    def _look_again(self) -> None:
        now = self._now()
        if now[0] != self.size or self._summed() != self._sum:
            raise BadInput(f"{show(str(self.path))}: was written over while it is in use; run the same command again")
        self._stamp = now
