"""Levels of a mix, and the one gain or the limiter that brings it to a loudness and under a peak."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from usepcli.audio import formats
from usepcli.audio.loudness import LoudnessMeter, gain_to
from usepcli.audio.true_peak import TruePeakMeter, decibel
from usepcli.errors import UsageError, choices

PEAKS = ("gain", "limit")
USUAL_DBTP = -1.0  # EBU R 128: the highest true peak of a programme


@dataclass(frozen=True)
class Goal:
    """What is asked of the level: LUFS, dBTP, and whether one gain or a limiter keeps the peak."""

    lufs: float | None = None
    true_peak: float | None = None
    peak: str = "gain"

    def __post_init__(self) -> None:
        if self.lufs is not None and not -70 <= self.lufs <= 0:
            raise UsageError(f"--lufs: found {self.lufs:g}; expected a loudness between -70 and 0 LUFS")
        if self.true_peak is not None and not -60 <= self.true_peak <= 0:
            raise UsageError(f"--true-peak: found {self.true_peak:g}; expected a peak between -60 and 0 dBTP")
        if self.peak not in PEAKS:
            raise UsageError(choices("--peak", self.peak, PEAKS))

    @property
    def limits(self) -> bool:
        """True where a limiter is asked for."""
        return self.peak == "limit"

    @property
    def ceiling_db(self) -> float | None:
        """The true peak not to be passed in dBTP, if any."""
        return USUAL_DBTP if self.true_peak is None and self.limits else self.true_peak


@dataclass(frozen=True)
class Levels:
    """Loudness in LUFS (-inf: silent, nan: under 0.4 s), true and sample peak (linear), extremes, and length."""

    lufs: float
    true_peak: float
    low: float
    high: float
    frames: int

    @property
    def dbtp(self) -> float:
        """The true peak in dB."""
        return decibel(self.true_peak)

    @property
    def dbfs(self) -> float:
        """The sample peak in dB."""
        return decibel(max(self.high, -self.low))


class Meter:
    """All levels of a stream at once: `push` blocks (C, T), then read `levels`."""

    def __init__(self, rate: int, channels: int) -> None:
        self._loudness, self._peak = LoudnessMeter(rate, channels), TruePeakMeter(rate, channels)
        self._low = self._high = 0.0
        self._frames = 0

    def push(self, block: np.ndarray) -> None:
        """Add a block (C, T)."""
        self._loudness.push(block)
        self._peak.push(block)
        self._low = min(self._low, float(block.min(initial=0.0)))
        self._high = max(self._high, float(block.max(initial=0.0)))
        self._frames += block.shape[1]

    def levels(self) -> Levels:
        """Return the levels so far."""
        return Levels(self._loudness.lufs(), self._peak.peak, self._low, self._high, self._frames)


def measure(blocks: Iterable[np.ndarray], rate: int, channels: int) -> Levels:
    """Return the levels of a stream of blocks (C, T)."""
    meter = Meter(rate, channels)
    for block in blocks:
        meter.push(block)
    return meter.levels()


@dataclass(frozen=True)
class Room:
    """The range of samples that a file holds: [-1, 1 - step] for integers, no bounds (None) for float files."""

    step: float | None

    @classmethod
    def of(cls, subtype: str, suffix: str) -> Room:
        """Return the room in a file of this sample format and suffix."""
        if suffix.lower() in formats.LOSSY:
            return cls(0.0)
        if subtype in ("FLOAT", "DOUBLE"):
            return cls(None)
        digits = "".join(filter(str.isdigit, subtype))
        return cls(2.0 ** (1 - int(digits)) if subtype.startswith("PCM_") else 0.0)

    def most(self, found: Levels) -> float:
        """Return the largest gain, at most 1 where the samples fit but for rounding, that keeps them inside."""
        if self.step is None:
            return math.inf
        # Up to half a step above the highest code rounds to it.
        fits = min((1 - self.step / 2) / max(found.high, 1e-30), (1 + self.step / 2) / max(-found.low, 1e-30))
        whole = min((1 - self.step) / max(found.high, 1e-30), 1 / max(-found.low, 1e-30))
        return max(1.0, whole) if fits >= 1 else 0.999999 * whole


def first_gain(goal: Goal, found: Levels, room: Room) -> float:
    """Return the gain on the whole: to the loudness asked for and, without a limiter, under the peaks."""
    gain = 1.0 if goal.lufs is None else gain_to(goal.lufs, found.lufs)
    if goal.limits:
        return gain
    gain = min(gain, room.most(found))
    if goal.true_peak is not None:
        gain = min(gain, 10 ** (goal.true_peak / 20) / max(found.true_peak, 1e-30))
    return gain
