"""When each source sounds, and how much of it is its own, measured while it is separated, in constant memory.

Level of a frame of 100 ms: mean power over its samples and channels, in dB of full scale. A frame of a source is
active if it lies above -60 dB of full scale and less than 30 dB below the loudest frame of the whole, which is
the sum of all sources.

A source is near-silent whose loudest window, of what is its own in it (own.py), lies as far below that of the whole; of
a model that was calibrated the distance that makes it so is another. The mean level would not do: who says one sentence
in an hour lies 30 dB below the others, too. Nor would the level of loud frames: by it, a third of 200 scenes of one to
four sounds that `universal` took apart had the right number of sources with the best limit there is; by what is a
source's own, nearly half with any limit from 20 to 35 dB.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from usepcli.engine.separation.own import Own

FRAME_S = 0.1
FLOOR_DB = -60.0
ACTIVE_DB = 30.0
POINTS = 1000  # of a curve, at most
_LOW_DB, _HIGH_DB, _STEP_DB = -160.0, 60.0, 0.1  # range and grain of the histogram of frame levels


class Curve:
    """Mean power per step of time: at most POINTS values (K, n), neighbours merged as the recording grows."""

    def __init__(self, rows: int) -> None:
        self.frames = 1  # frames of 100 ms in one value
        # Made at once: a small array per value would stay between the large blocks of the heap and break it up.
        self._sums = np.zeros((rows, POINTS))
        self._count = self._last = 0  # values; frames in the last of them

    def add(self, frame: np.ndarray) -> None:
        """Add the powers (K,) of one frame."""
        if self._count and self._last < self.frames:
            self._sums[:, self._count - 1] += frame
            self._last += 1
            return
        if self._count == POINTS:
            self._count //= 2
            self._sums[:, : self._count] = self._sums[:, ::2] + self._sums[:, 1::2]
            self.frames *= 2
        self._sums[:, self._count] = frame
        self._count += 1
        self._last = 1

    def values(self) -> np.ndarray:
        """Return the mean powers (K, n)."""
        counts = np.full(self._count, self.frames)
        counts[-1:] = self._last
        return self._sums[:, : self._count] / counts


class Meter:
    """Takes the pieces (N, C, t) of a separation; afterwards knows activity and level of each, and what is its own."""

    def __init__(self, rate: int, n_src: int, channels: int, silent_db: float = ACTIVE_DB) -> None:
        """silent_db: how far the loudest own window of a near-silent source lies below that of the whole."""
        self.rate, self.n_src, self.silent_db = rate, n_src, silent_db
        self._bins = np.zeros((n_src + 1, round((_HIGH_DB - _LOW_DB) / _STEP_DB)), np.int64)  # the whole comes first
        self._curve = Curve(n_src + 1)
        self._power = np.zeros(n_src + 1)
        self._open = np.zeros(n_src + 1)  # sum of squares in the frame that is not full yet
        self._taken = self._frames = 0
        self._own = Own(max(1, round(FRAME_S * rate)), n_src, channels)

    def push(self, piece: np.ndarray) -> None:
        """Add a piece (N, C, t)."""
        if not piece.shape[2]:
            return
        self._own.push(piece)
        whole = piece.sum(0)
        power = np.concatenate([_power(whole[None]), _power(piece)])  # (1 + N, t)
        ends = self._ends(self._taken + power.shape[1]) - self._taken
        sums = np.add.reduceat(power, [0, *ends[ends < power.shape[1]]], axis=1, dtype=np.float64)
        self._power += sums.sum(1)
        sums[:, 0] += self._open
        self._open = np.zeros(len(power))
        if len(ends) < sums.shape[1]:
            self._open = sums[:, -1]
        for k in range(len(ends)):
            self._close(sums[:, k])
        self._taken += power.shape[1]

    def _edge(self, frame: int) -> int:
        return max(frame, round(frame * FRAME_S * self.rate))

    def _ends(self, stop: int) -> np.ndarray:
        """Return the ends (in samples of the file) of the frames that are full at sample `stop`."""
        found, frame = [], self._frames + 1
        while (end := self._edge(frame)) <= stop:
            found.append(end)
            frame += 1
        return np.array(found, np.int64)

    def _close(self, total: np.ndarray, length: int = 0) -> None:
        mean = total / (length or self._edge(self._frames + 1) - self._edge(self._frames))
        self._frames += 1
        level = 10 * np.log10(np.clip(mean, 10 ** (_LOW_DB / 10), 10 ** (_HIGH_DB / 10)))
        place = ((level - _LOW_DB) / _STEP_DB).astype(np.int64).clip(0, self._bins.shape[1] - 1)
        self._bins[np.arange(len(place)), place] += 1
        self._curve.add(mean)

    def finish(self) -> None:
        """Count the last frame, which may be a short one; after this nothing can be pushed."""
        length = self._taken - self._edge(self._frames)
        if length > 0:
            self._close(self._open, length)
        self._own.finish()

    @property
    def levels_db(self) -> list[float]:
        """Level of each source over the whole file in dB of full scale; -inf for silence."""
        return [_db(value / max(self._taken, 1)) for value in self._power[1:]]

    def activity(self) -> list[float]:
        """Return the share of active frames of each source, 0 to 1 (rule at the head of this module)."""
        if not self._frames:
            return [0.0] * self.n_src
        loudest = _LOW_DB + _STEP_DB * np.flatnonzero(self._bins[0])[-1]
        first = math.ceil((max(FLOOR_DB, loudest - ACTIVE_DB) - _LOW_DB) / _STEP_DB - 1e-6)
        return [float(share) for share in self._bins[1:, first:].sum(1) / self._frames]

    def below_db(self) -> list[float]:
        """Return how far the loudest own window of each source lies below that of the whole, in dB; inf for none."""
        whole = _db(self._own.whole)
        return [whole - own if math.isfinite(own) else math.inf for own in map(_db, self._own.tops)]

    def silent(self, places: Sequence[int]) -> list[bool]:
        """Return which of the sources `places` are near-silent; never the loudest, so that something is left."""
        levels = self.levels_db
        loudest = max(places, key=lambda k: levels[k])
        least = max(FLOOR_DB, _db(self._own.whole) - self.silent_db)
        return [k != loudest and _db(self._own.tops[k]) < least for k in places]

    def curves(self) -> tuple[float, list[list[float]]]:
        """Return the step in seconds, and the level of each source per step in dB of full scale (at least -160)."""
        if not self._frames:
            return FRAME_S, [[] for _ in range(self.n_src)]
        values = 10 * np.log10(np.maximum(self._curve.values()[1:], 10 ** (_LOW_DB / 10)))
        return FRAME_S * self._curve.frames, [[round(float(v), 1) for v in row] for row in values]


def _power(waves: np.ndarray) -> np.ndarray:
    """Return the mean square over the channels of waves (N, C, t) as (N, t)."""
    power: np.ndarray = np.einsum("nct,nct->nt", waves, waves)
    return power / np.float32(waves.shape[1])


def _db(power: float) -> float:
    return 10 * math.log10(power) if power > 0 else -math.inf
