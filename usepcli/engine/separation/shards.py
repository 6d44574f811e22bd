"""Sharing a batch among machines: which of n shares a file belongs to, by its name alone."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from usepcli.engine.separation.jobs import Job
from usepcli.errors import UsageError

_SLURM = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP")


@dataclass(frozen=True)
class Shard:
    """Share number `index` (from 1) of `count`."""

    index: int
    count: int

    @property
    def suffix(self) -> str:
        """What the names of this share's tables end in."""
        return f"-{self.index}-of-{self.count}"

    def holds(self, job: Job) -> bool:
        """True if the file is this share's: the same one in every order, and however many others there are."""
        name = os.fsencode(job.relative) + os.fsencode(job.source.suffix)
        return int.from_bytes(hashlib.sha256(name).digest()[:8]) % self.count == self.index - 1

    def of(self, jobs: Iterable[Job]) -> list[Job]:
        """Return this share's jobs."""
        return [job for job in jobs if self.holds(job)]


_PART = re.compile(r"outputs-(\d+)-of-(\d+)\.csv")


def parts(folder: Path) -> list[Path]:
    """Return the tables of outputs that shares left in a folder, the one written last at the end."""
    found = [path for path in folder.glob("outputs-*.csv") if _PART.fullmatch(path.name)]
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))


def lacking(tables: Iterable[Path]) -> str:
    """Return in words which shares have no table among these, '' where all have one."""
    there: dict[int, set[int]] = {}
    for match in filter(None, (_PART.fullmatch(path.name) for path in tables)):
        there.setdefault(int(match[2]), set()).add(int(match[1]))
    gaps = {count: [str(k) for k in range(1, count + 1) if k not in found] for count, found in there.items()}
    told = [
        f"{', '.join(missing[:8])}{', ...' if len(missing) > 8 else ''} of {count}"
        for count, missing in sorted(gaps.items())
        if missing
    ]
    return f"no table of share {' and '.join(told)} yet" if told else ""


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
