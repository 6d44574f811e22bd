"""Work shared among the jobs of an array: which of N shares is this job's, and which parts lie in a folder.

Every share leaves a part of its own beside the others, its name ending in `-2-of-8`; a later run without a share, or
with --merge, takes the parts together.  Whoever draws at random does so by an item's number, never by its share.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from usepcli.errors import BadInput, UsageError
from usepcli.files import show

T = TypeVar("T")
_SLURM = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP")
_NUMBER = r"(\d{1,6})"  # a million shares
_TOLD = 8  # names in a message


@dataclass(frozen=True)
class Shard:
    """Share number `index` (from 1) of `count`."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index} of {self.count}"

    @property
    def suffix(self) -> str:
        """What the names of this share's files end in."""
        return f"-{self.index}-of-{self.count}"

    def holds(self, name: bytes) -> bool:
        """True if what is called so is this share's, however many others there are."""
        return self.has(number(name))

    def has(self, number: int) -> bool:
        """True if the item of this number, from 0, in a list that is the same for all shares is this one's."""
        return number % self.count == self.index - 1

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """Return this share of a list that is the same for all shares: every N-th item, so that all have equal work."""
        return items[self.index - 1 :: self.count]


def number(name: bytes) -> int:
    """Return the number by which a name is shared out, whatever other names there are."""
    return int.from_bytes(hashlib.sha256(name).digest()[:8])


def parse(text: str, environment: Mapping[str, str] | None = None) -> Shard | None:
    """Return the share that "2/8" or "slurm" (the array task's number) names, None for ""; UsageError otherwise."""
    if not text:
        return None
    if text.lower() == "slurm":
        return _slurm(os.environ if environment is None else environment)
    match = re.fullmatch(f"{_NUMBER}/{_NUMBER}", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard: found '{show(text[:40])}'; expected I/N with I from 1 to N, such as 2/8, or slurm")
    return Shard(int(match[1]), int(match[2]))


def asked(shard: str, merge: bool, overwrite: bool = False) -> Shard | None:
    """Return the share that a command is asked for; UsageError where --shard, --merge and --overwrite do not fit.

    overwrite: where it would empty a folder that other shares write into.
    """
    share = parse(shard)
    if share and merge:
        raise UsageError("--merge takes the parts of all shares together: leave --shard out")
    if overwrite and (share or merge):
        word = "--shard" if share else "--merge"
        raise UsageError(f"--overwrite would take away the parts of other shares: leave it or {word} out, or choose -o")
    return share


def _slurm(environment: Mapping[str, str]) -> Shard:
    found = [environment.get(name, "1" if name.endswith("STEP") else "") for name in _SLURM]
    if not all(text.isdecimal() for text in found):
        raise UsageError(f"--shard slurm: {_SLURM[0]}, _COUNT and _MIN are not set; submit with sbatch --array=1-N")
    task, count, least, step = map(int, found)
    index, left = divmod(task - least, max(step, 1))
    if left or not 0 <= index < count:
        raise UsageError(
            f"--shard slurm: task {task} of {count} from {least} on is no even row; submit with sbatch --array=1-N"
        )
    return Shard(index + 1, count)


def parts(folder: Path, stem: str, ending: str) -> dict[Path, Shard]:
    """Return the parts called STEM-I-of-N.ENDING in a folder, in the order of their shares."""
    pattern = re.compile(f"{re.escape(stem)}-{_NUMBER}-of-{_NUMBER}{re.escape(ending)}")
    there = folder.iterdir() if folder.is_dir() else ()
    found = {path: Shard(int(m[1]), int(m[2])) for path in there if (m := pattern.fullmatch(path.name))}
    return dict(sorted(found.items(), key=lambda pair: (pair[1].count, pair[1].index)))


def lacking(found: Iterable[Shard]) -> str:
    """Return in words which shares are not among those found, '' where none is missing: "3, 5 of 8"."""
    there = set(found)
    counts = {shard.count for shard in there}
    return _named({count: [k for k in range(1, count + 1) if Shard(k, count) not in there] for count in counts})


def _named(gaps: Mapping[int, Sequence[int]]) -> str:
    told = []
    for count, missing in sorted(gaps.items()):
        if missing:
            more = ", ..." if len(missing) > _TOLD else ""
            told.append(f"{', '.join(map(str, missing[:_TOLD]))}{more} of {count}")
    return " and ".join(told)


@dataclass(frozen=True)
class State:
    """How much of a work is there: its items, each with the number by which it is shared out, and those done.

    counts: into how many shares it was shared out, as far as parts and this run tell.
    """

    what: str
    items: Mapping[Any, int]
    done: Container[Any]
    counts: frozenset[int]

    @property
    def left(self) -> int:
        """The number of items that are not done."""
        return sum(item not in self.done for item in self.items)

    def lacking(self) -> str:
        """Return in words which shares are not at their end: "3, 5 of 8"."""
        left = [n for item, n in self.items.items() if item not in self.done]
        return _named({count: sorted({n % count + 1 for n in left}) for count in self.counts})

    def refuse_gaps(self, folder: Path) -> None:
        """Raise BadInput where a --merge finds parts missing, by their names."""
        if not (left := self.left):
            return
        named = f"not done: shard {absent}" if (absent := self.lacking()) else "no shard was run here"
        raise BadInput(
            f"{show(folder)}: {left} of {len(self.items)} {self.what} are missing: {named}; run what is missing again, "
            "or leave --merge out to do it here"
        )

    def told(self, share: Shard, did: int) -> str:
        """Return what a share says at its end; did: how many of its items it did now."""
        mine = sum(map(share.has, self.items.values()))
        if not mine:
            return f"shard {share}: nothing to do, there are only {len(self.items)} {self.what} to share"
        earlier = f", {mine - did} of them before" if did < mine else ""
        if not (left := self.left):
            return f"shard {share} done: {mine} {self.what}{earlier}; all {len(self.items)} are there"
        there = len(self.items) - left
        return (
            f"shard {share} done: {mine} {self.what}{earlier}; {there} of {len(self.items)} are there, to come: shard "
            f"{self.lacking()}"
        )
