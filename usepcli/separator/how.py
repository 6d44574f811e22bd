"""How a separation treats channels and what the model leaves over, and what it notes while it runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from usepcli.errors import UsageError, choices
from usepcli.separator.stitch import Seam

CHANNELS = ("linked", "each", "mix", "first")
RESTS = ("share", "leave", "source")
RESIDUAL = "residual"


@dataclass(frozen=True)
class How:
    """What happens to channels, and to the rest: input minus the sum of the model's sources.

    `channels`: "linked" takes one decision for all channels, so that every source keeps its place in the image;
    "each" separates channel by channel and brings the channels into one source order; "mix" (their mean) and
    "first" give one channel out. `rest`, which is mainly what lies above the band of a model slower than the
    input: "share" gives it to the sources, which then add up to the input; "leave" leaves it out; "source" makes
    it one more source, the last. UsageError for other words.
    """

    channels: str = "linked"
    rest: str = "share"

    def __post_init__(self) -> None:
        if self.channels not in CHANNELS:
            raise UsageError(f"--channels: {choices('channel policy', self.channels, CHANNELS)}")
        if self.rest not in RESTS:
            raise UsageError(f"rest: {choices('treatment of the rest', self.rest, RESTS)}")

    @property
    def one_channel(self) -> bool:
        """True if one channel comes out, however many go in."""
        return self.channels in ("mix", "first")

    def heard(self, block: np.ndarray) -> np.ndarray:
        """Return the channels (C', T) of a block (C, T) that are separated, and that the sources add up to."""
        if self.channels == "mix" and len(block) > 1:
            return block.mean(0, dtype=np.float64)[None].astype(np.float32)
        return block[:1] if self.channels == "first" else block


USUAL = How()


@dataclass
class Null:
    """The null test of a stream: input minus the sum of all that was given out, over `count` values."""

    peak: float = 0.0
    power: float = 0.0
    input_power: float = 0.0
    count: int = 0

    def add(self, wave: np.ndarray, sources: np.ndarray) -> None:
        """Take in a piece of the input (C, t) and the sources (N, C, t) that should add up to it."""
        gap = wave - sources.sum(0, dtype=np.float64)
        self.peak = max(self.peak, float(np.abs(gap).max(initial=0.0)))
        self.power += float(np.square(gap).sum())
        self.input_power += float(np.square(wave, dtype=np.float64).sum())
        self.count += wave.size

    @property
    def peak_db(self) -> float:
        """The largest difference in dB of full scale; -inf where there is none."""
        return 20 * math.log10(self.peak) if self.peak > 0 else -math.inf

    @property
    def db(self) -> float:
        """The power of the difference in dB of the input's power; -inf where there is none."""
        if not self.power > 0:
            return -math.inf
        return 10 * math.log10(self.power / self.input_power) if self.input_power > 0 else math.inf


@dataclass
class Trace:
    """What a stream notes while it runs: every join of two chunks, and the null test of what it gave out."""

    seams: list[Seam] = field(default_factory=list)
    null: Null = field(default_factory=Null)
