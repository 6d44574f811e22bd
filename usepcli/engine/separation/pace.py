"""How far a batch is: file n of m, and the time left for all of it, by the seconds of sound that are done.

Headers tell the seconds of most formats. The other files count by their bytes, at the mean of what is known.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from usepcli.audio import io, raws
from usepcli.engine.separation.jobs import Job
from usepcli.errors import UsepError
from usepcli.report.progress import Progress, clock

_HEADERS = (".wav", ".wave", ".rf64", ".w64", ".flac", ".aiff", ".aif", ".caf", ".au")  # that state the length
_LOOKED_AT_S = 1.0  # spent on headers before the work; the files behind count by their bytes


class Pace:
    """Hands out the jobs of a batch in turn and keeps account of what is done of them."""

    def __init__(self, jobs: Sequence[Job], clock_s: Callable[[], float] = time.monotonic) -> None:
        self.jobs, self.now = jobs, clock_s
        self.number = 0
        self._start = self._done = self._left = self._share = 0.0
        self._weights: list[float] = []

    def __iter__(self) -> Iterator[Job]:
        self._weights = weights(self.jobs)
        self._left, self._start = sum(self._weights), self.now()
        for k, job in enumerate(self.jobs):
            self.number, self._share = k + 1, 0.0
            yield job
            self._done += self._share * self._weights[k]
            self._left -= self._weights[k]  # of a file that failed, what was not done is no work any more

    def at(self, share: float) -> None:
        """Note which share of the present file is done; a second pass through it takes nothing back."""
        self._share = max(self._share, share)

    @property
    def title(self) -> str:
        """Which file of how many this is, '' of a single one."""
        return f"[{self.number}/{len(self.jobs)}] " if len(self.jobs) > 1 else ""

    @property
    def left_s(self) -> float:
        """The seconds that the rest of the batch will take at the pace so far; infinite at the start."""
        here = self._share * self._weights[self.number - 1] if self.number else 0.0
        done = self._done + here
        return (self.now() - self._start) * (self._left - here) / done if done > 0 else float("inf")

    def note(self) -> str:
        """Return the time left for all files in words, '' where it is not known or there is one file only."""
        left = self.left_s
        return f"all files: {clock(left)} left" if len(self.jobs) > 1 and left < float("inf") else ""


class Watched:
    """The blocks of a file with their bar; `part` moves it between blocks, while many channels go through the model.

    `check` is called with every block and part, and may raise; `first` with the bar, when the first block is through.
    """

    def __init__(self, bar: Progress, pace: Pace, check: Callable[[], None], first: Callable[[Progress], None]) -> None:
        self.bar, self.pace, self.check, self.first = bar, pace, check, first

    def __iter__(self) -> Iterator[Any]:
        for block in self.bar:
            self.check()
            yield block
            self.first(self.bar)
            self.pace.at((self.bar.done + 1) / max(self.bar.total or 0, 1))
            self.bar.note(self.pace.note())

    def part(self, done: int, total: int) -> None:
        """Show how many channels of the present chunk are done."""
        self.check()
        if done < total:
            parts = (f"channel {done} of {total}", self.pace.note())
            self.bar.note(", ".join(filter(None, parts)), now=True)


def weights(jobs: Sequence[Job]) -> list[float]:
    """Return the seconds of sound of each job: read where a header states them, else in proportion to the bytes."""
    sizes = [_size(job) for job in jobs]
    known: dict[int, float] = {}
    end = time.monotonic() + _LOOKED_AT_S
    for k, job in enumerate(jobs):
        if time.monotonic() > end:
            break
        if job.source.suffix.lower() in _HEADERS and sizes[k]:
            try:
                known[k] = io.info(job.source).seconds
            except Exception:  # it will be told when its turn comes
                sizes[k] = 0
    total = sum(sizes[k] for k in known)
    rate = sum(known.values()) / total if total else 1.0
    return [known.get(k, size * rate) for k, size in enumerate(sizes)]


def _size(job: Job) -> int:
    try:
        return raws.facts(job.source).size
    except (OSError, UsepError):
        return 0
