"""Results of single items as they come: what a killed run leaves behind, and what shares hand on to a merge.

A journal is a file of JSON lines beside the results to come: the first says which work it belongs to (`key`), every
other one is the result of one item, `[part, number, value, crc]`, crc the CRC-32 of the line without it.  A line that
is torn or was changed counts for nothing: its item is done again.  NAME.partial.jsonl is that of a run of the whole
work, NAME-2-of-8.jsonl that of a share; all of one key are read together, and those of another key are never mixed in.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from usepcli import files
from usepcli.engine import shards
from usepcli.engine.shards import Shard, State
from usepcli.errors import IOFault

ABOUT = "."  # begins the names of parts that say how results were made, and are none
_LONGEST = 16 << 20  # bytes of a line, far above those of any result
_SYNC_S = 1.0  # a power cut costs the items of this time; a kill costs none


class Part:
    """The results of one kind by item number: what is there, and what of it is ours to do; by itself in memory only.

    share: only its items are ours.  merge: none is.
    """

    def __init__(
        self, name: str = "", journal: Journal | None = None, share: Shard | None = None, merge: bool = False
    ) -> None:
        self.name, self.journal, self.share, self.merge = name, journal, share, merge
        self.done: dict[int, Any] = {}
        self.total = 0
        self.did = 0

    def left(self, total: int) -> list[int]:
        """Return the numbers, of 0 to total - 1, that are ours to do now."""
        self.total = total
        numbers: Sequence[int] = range(total)
        if self.merge:
            return []
        return [n for n in (self.share.of(numbers) if self.share else numbers) if n not in self.done]

    def put(self, number: int, value: Any) -> None:
        """Take a result that needs no keeping: it stands in a file, or costs nothing to have again."""
        self.done[number] = value

    def add(self, number: int, value: Any) -> None:
        """Take a result, and write it down at once; IOFault on a full disk."""
        if number in self.done:
            return
        if self.journal is not None:
            value = self.journal.write(self.name, number, value)
        self.done[number] = value
        self.did += 1

    @property
    def complete(self) -> bool:
        """Whether no item is missing."""
        return all(n in self.done for n in range(self.total))

    def values(self) -> list[Any]:
        """Return what is there, in the items' order; IndexError never."""
        return [self.done[n] for n in sorted(self.done)]


class Journal:
    """The parts of one work in a folder; `open` before anything is added, `close` at the end, `discard` when done.

    The folder has to be locked.  A last line that a kill tore is cut off.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        key: str,
        facts: Mapping[str, Any],
        share: Shard | None = None,
        merge: bool = False,
    ) -> None:
        self.folder, self.name, self.key, self.share, self.merge = folder, name, key, share, merge
        self.path = folder / f"{name}{share.suffix if share else '.partial'}.jsonl"
        self._head = {"key": key, **facts}
        self._parts: dict[str, Part] = {}
        self._handle = -1
        self._synced = 0.0

    def files(self) -> dict[Path, dict[str, Any]]:
        """Return the journals of this name in the folder with their first lines, {} for one that cannot be read."""
        whole = self.folder / f"{self.name}.partial.jsonl"
        found = [*([whole] if whole.is_file() else []), *shards.parts(self.folder, self.name, ".jsonl")]
        return {path: _head(path) for path in found}

    def foreign(self) -> tuple[Path, dict[str, Any]] | None:
        """Return a journal of other work, which no result of this one may be mixed with, and its first line."""
        return next(((path, head) for path, head in self.files().items() if head.get("key") != self.key), None)

    def open(self) -> None:
        """Read what is there of this work, by whichever run, and begin to write."""
        self._read()
        if not self.merge:
            self._begin()

    def _begin(self) -> None:
        try:
            kept = _whole_bytes(self.path) if _head(self.path).get("key") == self.key else 0
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            os.ftruncate(self._handle, kept)
            if not kept:
                self._append(json.dumps(self._head))
        except OSError as fault:
            raise files.fault(self.path, fault) from fault

    def _read(self) -> None:
        for path, head in self.files().items():
            if head.get("key") == self.key:
                for name, number, value in _lines(path):
                    self.part(name).put(number, value)

    def has(self, name: str) -> bool:
        """Whether a journal of this work in the folder holds results of one kind; needs no lock."""
        ours = (path for path, head in self.files().items() if head.get("key") == self.key)
        return any(part == name for path in ours for part, _, _ in _lines(path))

    def also(self, name: str, value: Any) -> None:
        """Add a value to one kind of results unless it is there."""
        part = self.part(name)
        if value not in part.done.values():
            part.add(len(part.done), value)

    def part(self, name: str) -> Part:
        """Return one kind of results."""
        return self._parts.setdefault(name, Part(name, self, self.share, self.merge))

    def write(self, part: str, number: int, value: Any) -> Any:
        """Add one line and return the value as it will be read again."""
        if self._handle < 0:  # what a merge has to make is noted, too
            self._begin()
        line = json.dumps([part, number, value], default=lambda scalar: scalar.item())
        self._append(f"{line[:-1]}{_crc(line.encode())}")
        return json.loads(line)[2]

    def _append(self, line: str) -> None:
        data = memoryview(line.encode() + b"\n")
        before = os.lseek(self._handle, 0, os.SEEK_END)
        try:
            while data:
                data = data[os.write(self._handle, data) :]
            if time.monotonic() - self._synced > _SYNC_S:
                os.fsync(self._handle)
                self._synced = time.monotonic()
        except OSError as fault:
            os.ftruncate(self._handle, before)
            raise IOFault(
                f"{files.show(self.path)}: cannot add a line: {fault.strerror or fault}; free some space and run again"
            ) from fault

    def close(self) -> None:
        """Force what was written to the disk; a journal without results is taken away."""
        if self._handle >= 0:
            with suppress(OSError):  # what failed to get there was told when it was added
                os.fsync(self._handle)
            os.close(self._handle)
            self._handle = -1
            if not any(part.done for name, part in self._parts.items() if not name.startswith(ABOUT)):
                self.path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Take all journals of this name away: what was in them is elsewhere, or of no use."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        for path in self.files():
            path.unlink(missing_ok=True)

    def state(self, what: str) -> State:
        """Return how much of all parts is there by now, whoever did it."""
        if self.share:  # others have gone on
            self._read()
        items = {(name, n): n for name, part in self._parts.items() for n in range(part.total)}
        done = {(name, n) for name, part in self._parts.items() for n in part.done}
        counts = {share.count for share in shards.parts(self.folder, self.name, ".jsonl").values()}
        return State(what, items, done, frozenset(counts | ({self.share.count} if self.share else set())))

    @property
    def did(self) -> int:
        """The number of items that this run did."""
        return sum(part.did for part in self._parts.values() if part.total)


def _head(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            found = files.parse_json(file.readline(_LONGEST).decode())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _crc(line: bytes) -> str:
    return f', "{zlib.crc32(line):08x}"]'


def _lines(path: Path) -> Iterable[tuple[str, int, Any]]:
    with open(path, "rb") as file:
        file.readline(_LONGEST)
        while line := file.readline(_LONGEST):
            end = len(line) - len(_crc(b"")) - 1
            plain = line[: max(0, end)] + b"]"
            if line[max(0, end) :] != _crc(plain).encode() + b"\n":
                continue
            try:
                part, number, value = files.parse_json(plain.decode())
                yield str(part), int(number), value
            except (ValueError, TypeError, OverflowError):  # not ours, though its sum is right
                continue


def _whole_bytes(path: Path) -> int:
    """Return where the last whole line ends."""
    data = path.read_bytes()
    return data.rfind(b"\n") + 1
