"""How a live separation keeps up: the time that blocks take, those that took longer than they last, and what is shown.

Times are counted in steps of one percent, so that an hour of blocks takes no more memory than a minute.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

from usepcli.engine.separation.record import Pacing
from usepcli.report.progress import PLAIN_EVERY_S, clock

_LEAST_S, _STEP = 1e-6, math.log(1.01)
_SHOWN_S = 0.25
_FALL_DB = 6.0  # of a meter from one look to the next


class Times:
    """Durations in seconds: quantiles within one percent, the longest, and the sum."""

    def __init__(self) -> None:
        self._bins = np.zeros(2400, np.int64)  # up to some hours
        self.most = self.sum = 0.0
        self.count = 0

    def add(self, spent_s: float) -> None:
        """Count one."""
        self.count += 1
        place = int(math.log(max(spent_s, _LEAST_S) / _LEAST_S) / _STEP)
        self._bins[min(place, len(self._bins) - 1)] += 1
        self.most, self.sum = max(self.most, spent_s), self.sum + spent_s

    def quantile(self, share: float) -> float:
        """Return the time that so large a share of all stays within, at most one percent too long; nan for none."""
        if not self.count:
            return math.nan
        place = int(np.searchsorted(np.cumsum(self._bins), max(1, math.ceil(share * self.count))))
        return min(_LEAST_S * math.exp(_STEP * (place + 1)), self.most)


class LivePace:
    """Keeps account of blocks of a stream of so many Hz; `latency_s` is what comes before any work."""

    def __init__(self, rate: int, latency_s: float, block_s: float) -> None:
        self.rate, self.latency_s, self.block_s = rate, latency_s, block_s
        self.times = Times()
        self.heard = self.underruns = 0

    def add(self, samples: int, spent_s: float) -> None:
        """Note a block and the time that its separation took."""
        self.heard += samples
        self.times.add(spent_s)
        # A block that lasts less than a full one, at the end or before a stop, is late for no reason of its own.
        self.underruns += spent_s > max(samples / self.rate, self.block_s)

    @property
    def heard_s(self) -> float:
        """Seconds heard."""
        return self.heard / self.rate

    @property
    def rtf(self) -> float:
        """Time spent over time heard."""
        return self.times.sum / self.heard_s if self.heard else math.nan

    def facts(self, dropped: int = 0) -> Pacing:
        """Return all of it for the tables."""
        of = self.times
        return Pacing(
            self.latency_s, self.block_s, of.count, 1e3 * of.quantile(0.5), 1e3 * of.quantile(0.99), 1e3 * of.most,
            self.underruns, dropped / self.rate,
        )  # fmt: skip


def told(found: Pacing, heard_s: float, rtf: float) -> str:
    """Return in one line what a stream took."""
    mean_ms = 1e3 * heard_s / max(found.blocks, 1)
    late = f"{found.underruns} block{'' if found.underruns == 1 else 's'} late"
    lost = f", {found.dropped_s:.2f} s dropped" if found.dropped_s else ""
    return (
        f"{heard_s:.2f} s heard; latency {1e3 * (found.latency_s + found.block_s):.1f} ms (model and resampling "
        f"{1e3 * found.latency_s:.1f}, block {1e3 * found.block_s:.1f}); work on blocks of {mean_ms:.1f} ms: median "
        f"{found.p50_ms:.2f}, p99 {found.p99_ms:.2f}, most {found.most_ms:.2f} ms, {rtf:.3f} of real time, {late}{lost}"
    )


class Meters:
    """The line that tells of a stream while it runs: time heard, levels of the sources, work.

    Written over itself on a terminal; elsewhere a plain line every half minute.
    """

    def __init__(
        self, names: Sequence[str], pace: LivePace, quiet: bool, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.names, self.pace, self.quiet, self.now = names, pace, quiet, now
        self._stream = sys.stderr
        self._terminal = not quiet and self._stream.isatty()
        self._peaks = np.zeros(len(names))
        self._said = now()
        self._open = False

    def show(self, sources: np.ndarray) -> None:
        """Take in the next sources (N, C, t), and write the line where it is time."""
        if self.quiet:
            return
        if sources.shape[2]:
            self._peaks = np.maximum(self._peaks, np.abs(sources).max(axis=(1, 2)))
        if self.now() - self._said < (_SHOWN_S if self._terminal else PLAIN_EVERY_S):
            return
        self._said = self.now()
        self._stream.write(f"\r\033[K{self.line()}" if self._terminal else f"{self.line()}\n")
        self._stream.flush()
        self._open = self._terminal
        self._peaks *= 10 ** (-_FALL_DB / 20) if self._terminal else 0.0

    def line(self) -> str:
        """Return the line."""
        levels = [f"{name} {_level(peak)}" for name, peak in zip(self.names, self._peaks, strict=True)]
        late = f", {self.pace.underruns} late" if self.pace.underruns else ""
        return f"heard {clock(self.pace.heard_s)}: {'  '.join(levels)}; {self.pace.rtf:.2f} of real time{late}"

    def end(self) -> None:
        """Clear the line away."""
        if self._open:
            self._stream.write("\r\033[K")
            self._stream.flush()
            self._open = False


def _level(peak: float) -> str:
    return f"{20 * math.log10(peak):.0f} dB" if peak > 1e-6 else "silent"
