"""How a separation treats channels and what the model leaves over, and what it notes while it runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from usepcli.errors import BadInput, UsageError, choices

if TYPE_CHECKING:
    from usepcli.separator.presence import Evidence

CHANNELS = ("linked", "each", "mix", "first")
RESTS = ("share", "leave", "source")  # or "": what is usual for the model
RESIDUAL = "residual"
CHUNK_S, OVERLAP_S = 10.0, 2.0
MOST_OVERLAP, MOST_SHIFTS = 0.5, 100
SPEEDS = ((1, 1), (14, 15), (15, 14), (28, 29), (29, 28))  # rates before and after: the second makes a voice lower
LEAST_HZ, MOST_HZ = 100, 10_000_000
FLOOR_S, CEILING_S = 1.0, 86_400.0  # chunks are never shorter, nor longer than a day
_LEAST_S, _MOST_S = 8.0, 16.0  # of a chunk that the model decides on


@dataclass(frozen=True)
class How:
    """What happens to channels, and to the rest: input minus the sum of the model's sources.

    `channels`: "linked" takes one decision for all channels, so that every source keeps its place in the image;
    "each" separates channel by channel and brings the channels into one source order; "mix" (their mean) and
    "first" give one channel out. `rest`, which is mainly what lies above the band of a model slower than the
    input: "share" gives it to the sources, which then add up to the input; "leave" leaves it out; "source" makes
    it one more source, the last; "" does what is usual, "source" for a model that was asked for some of what there is
    and "share" for any other. `overlap` is the share of a chunk that it has in common with the next, 0 for 2 s or a
    quarter; with `shifts` above 1 the model hears every chunk so many times, each time a little later, and the mean of
    its answers counts, for so many times the work; with `speeds` above 1 it hears each of those at so many speeds, the
    true one and up to 7 % beside it. `track` is the number of a track of sound in a file that has
    several, 0 for the first. `two_stems` names one source: all others are added up to one, "no_" and that name.
    UsageError for other words and numbers.
    """

    channels: str = "linked"
    rest: str = ""
    overlap: float = 0.0
    shifts: int = 1
    speeds: int = 1
    track: int = 0
    two_stems: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= MOST_OVERLAP:
            raise UsageError(
                f"--overlap: found {self.overlap:g}; expected a share of a chunk up to {MOST_OVERLAP:g}, 0: the usual"
            )
        if isinstance(self.track, bool) or not isinstance(self.track, int) or self.track < 0:
            raise UsageError(f"--track: found {self.track}; expected the number of a track of sound, from 1")
        if isinstance(self.shifts, bool) or not isinstance(self.shifts, int) or not 1 <= self.shifts <= MOST_SHIFTS:
            raise UsageError(f"--shifts: found {self.shifts}; expected a whole number from 1 to {MOST_SHIFTS}")
        if isinstance(self.speeds, bool) or not isinstance(self.speeds, int) or not 1 <= self.speeds <= len(SPEEDS):
            raise UsageError(f"--speeds: found {self.speeds}; expected a whole number from 1 to {len(SPEEDS)}")
        if self.channels not in CHANNELS:
            raise UsageError(f"--channels: {choices('channel policy', self.channels, CHANNELS)}")
        if self.rest and self.rest not in RESTS:
            raise UsageError(f"rest: {choices('treatment of the rest', self.rest, RESTS)}")

    def settled(self, asked: bool) -> How:
        """Return this with what `rest` "" stands for; asked: of a model that answers queries."""
        return self if self.rest else replace(self, rest="source" if asked else "share")

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


def names_of(sources: int | Sequence[str], how: How = USUAL) -> tuple[str, ...]:
    """Return the names of what a stream yields: those of a model's sources, and "residual" where it is a source.

    Of a number of sources they are "1", "2", ...; UsageError where two stems are asked for and none has that name.
    """
    own = tuple(str(k + 1) for k in range(sources)) if isinstance(sources, int) else tuple(sources)
    if how.two_stems:
        if how.two_stems not in own:
            raise UsageError(f"--two-stems: {choices('source', how.two_stems, own)}")
        own = (how.two_stems, f"no_{how.two_stems}")
    return (*own, RESIDUAL) if how.rest == "source" else own


def place_of(how: How, sources: int | Sequence[str]) -> int | None:
    """Return the place of the one source that is not added up with the others; None where none is, errors as above."""
    return names_of(sources).index(names_of(sources, how)[0]) if how.two_stems else None


def two_of(sources: np.ndarray, place: int, n_src: int) -> np.ndarray:
    """Return the source (N, ...) at `place`, the sum of the others among the first `n_src`, and what follows."""
    others = sources[:n_src].sum(0, dtype=np.float64) - sources[place]
    return np.stack([sources[place], others.astype(np.float32), *sources[n_src:]])


def checked_rate(rate: object) -> int:
    """Return a rate in whole Hz; BadInput for what is none, or none that sound has."""
    number = isinstance(rate, (int, float, np.integer, np.floating)) and not isinstance(rate, bool)
    found = float(rate) if number else math.nan  # type: ignore[arg-type]
    if not LEAST_HZ <= found <= MOST_HZ or not found.is_integer():
        raise BadInput(f"rate: found {rate!r}; expected whole Hz from {LEAST_HZ} to {MOST_HZ}")
    return int(found)


def check_chunk(chunk_s: float) -> None:
    """Raise UsageError unless chunks of so many seconds can be separated."""
    if not FLOOR_S <= chunk_s <= CEILING_S:
        raise UsageError(f"--chunk-s: found {chunk_s:g}; expected {FLOOR_S:g} to {CEILING_S:g} seconds")


def default_chunk_s(segment_s: float, field_s: float) -> float:
    """Return the seconds that a model should hear at once, from its training segments and its receptive field, 0 if
    unknown or the whole recording.

    Ten thirds of a training segment, at least five receptive fields, within 8 to 16 s; 10 s where neither is known.
    On 12 five-minute pairs of unseen talkers, SI-SDRi over 4 s with chunks of 4, 10 and 16 s was 5.9, 6.2 and 6.2 dB.
    The file has no say: what a chunk needs is the model's affair.
    """
    wanted = max(10 / 3 * segment_s, 5 * field_s)
    return min(max(wanted, _LEAST_S), _MOST_S) if wanted else CHUNK_S


@dataclass(frozen=True)
class Seam:
    """One join: where the fade begins (samples at the model's `rate`), the order chosen, and how sure it is.

    `order[i]` is the output of the new chunk that continues source i. The lead over the second best order is
    about 1 for a clear match of two sources and near 0 for a guess; `confidence` is the share of seams with
    such a lead that were right on recordings with known talkers, 0.5 for a guess between two. `quiet`: nothing
    sounded at the seam.
    """

    position: int
    order: tuple[int, ...]
    lead: float
    confidence: float = 1.0
    quiet: bool = False
    rate: int = 8000

    @property
    def time_s(self) -> float:
        """The position in seconds."""
        return self.position / self.rate

    @property
    def swapped(self) -> bool:
        """True if the chunk's own order was changed."""
        return self.order != tuple(range(len(self.order)))


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
        if math.isnan(self.peak):
            return math.nan
        return 20 * math.log10(self.peak) if self.peak > 0 else -math.inf

    @property
    def db(self) -> float:
        """The power of the difference in dB of the input's power; -inf where there is none."""
        if math.isnan(self.power):
            return math.nan
        if not self.power > 0:
            return -math.inf
        return 10 * math.log10(self.power / self.input_power) if self.input_power > 0 else math.inf


@dataclass
class Trace:
    """What a stream notes while it runs: every join of two chunks, and the null test of what it gave out.

    evidence: of a model that was asked, how far what is asked for is there.
    """

    seams: list[Seam] = field(default_factory=list)
    null: Null = field(default_factory=Null)
    evidence: Evidence | None = None
