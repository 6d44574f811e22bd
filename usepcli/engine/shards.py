"""Work shared among the jobs of an array: which of N shares is this job's, and which parts lie in a folder.

Every share leaves a part of its own beside the others, its name ending in `-2-of-8`; a later run without a share, or
with --merge, takes the parts together.  Whoever draws at random does so by an item's number, never by its share.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

from usepcli.errors import BadInput, UsageError
from usepcli.files import show

T = TypeVar("T")
_SLURM = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP")
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
        return int.from_bytes(hashlib.sha256(name).digest()[:8]) % self.count == self.index - 1

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """Return this share of a list that is the same for all shares: every N-th item, so that all have equal work."""
        return items[self.index - 1 :: self.count]


def parse(text: str, environment: Mapping[str, str] | None = None) -> Shard | None:
    """Return the share that "2/8" or "slurm" (the array task's number) names, None for ""; UsageError otherwise."""
    if not text:
        return None
    if text.lower() == "slurm":
        return _slurm(os.environ if environment is None else environment)
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard: found '{text}'; expected I/N with I from 1 to N, for example 2/8, or slurm")
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
    pattern = re.compile(rf"{re.escape(stem)}-(\d+)-of-(\d+){re.escape(ending)}")
    there = folder.iterdir() if folder.is_dir() else ()
    found = {path: Shard(int(m[1]), int(m[2])) for path in there if (m := pattern.fullmatch(path.name))}
    return dict(sorted(found.items(), key=lambda pair: (pair[1].count, pair[1].index)))


def lacking(found: Iterable[Shard]) -> str:
    """Return in words which shares are not among those found, '' where none is missing: "3, 5 of 8"."""
    there: dict[int, set[int]] = {}
    for shard in found:
        there.setdefault(shard.count, set()).add(shard.index)
    gaps = {count: [str(k) for k in range(1, count + 1) if k not in has] for count, has in there.items()}
    return " and ".join(
        f"{', '.join(missing[:_TOLD])}{', ...' if len(missing) > _TOLD else ''} of {count}"
        for count, missing in sorted(gaps.items())
        if missing
    )


def refuse_gaps(folder: Path, found: Iterable[Shard], missing: int, total: int, what: str) -> NoReturn:
    """Raise BadInput for a --merge that finds parts missing, by their names; what: "items", "mixtures"."""
    found = list(found)
    absent = lacking(found)
    named = f"share {absent}" if absent else "no share was run to its end" if not found else "a share is not at its end"
    raise BadInput(
        f"{show(folder)}: {missing} of {total} {what} are missing: {named}; run that share again, or leave --merge out "
        "to do here what is missing"
    )
