"""How often a recording is heard in an epoch, and from which recording an item of an epoch is cut.

Recording f of d_f seconds has the weight w_f of its crops of segment_s seconds:
    one       w_f = 1: a corpus of clips, each heard once, as papers count epochs
    length    w_f = max(1, round(d_f / segment_s)): recordings as people have them, a day beside a minute
    auto      length where any recording is longer than CLIP_S, else one
An epoch of n items (by default the sum of all w_f) is drawn systematically: item i belongs to the recording in whose
part of the cumulated weights (i + u) / n falls, u being drawn for each epoch.  So every recording comes floor or ceil
of n w_f / sum(w) times, and one that is rarer than once an epoch comes in the share of epochs that is its due.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np

from usepcli.data.lazy import numbers
from usepcli.data.manifest import PoolRow, Row
from usepcli.data.sampling import rng

CLIP_S = 30.0  # the clips of corpora are shorter
How = Literal["auto", "one", "length"]


def seconds(rows: Sequence[Row] | Sequence[PoolRow]) -> np.ndarray:
    """Return the lengths (F,) that a table says its recordings have, in seconds; 0 where it does not know."""
    frames, rates = numbers(rows, "frames"), numbers(rows, "sample_rate")
    return np.divide(frames, rates, out=np.zeros(len(rows)), where=rates != 0)


def held(lengths_s: np.ndarray, segment_s: float) -> np.ndarray:
    """Return how many segments (F,) recordings of these lengths hold, one at least, and one of 0 s: the whole."""
    if not segment_s:
        return np.ones(len(lengths_s), int)
    return np.maximum(1, np.rint(lengths_s / segment_s)).astype(int)


def weights(lengths_s: np.ndarray, segment_s: float, how: How) -> np.ndarray:
    """Return the weight (F,) of each recording."""
    by_length = how == "length" or (how == "auto" and bool((lengths_s > CLIP_S).any()))
    return held(lengths_s, segment_s) if by_length else np.ones(len(lengths_s), int)


def pieces(row: Row, count: int) -> list[Row]:
    """Return `count` stretches of a row, side by side and equally long; their ids say where they begin."""
    start, count = row.start or 0, max(1, min(count, row.frames))
    edges = [start + row.frames * k // count for k in range(count + 1)]
    return [
        replace(row, id=f"{row.id}@{first / row.sample_rate:.2f}s", start=first, frames=last - first)
        for first, last in pairwise(edges)
    ]


def cut_up(rows: Sequence[Row], wanted: int, piece_s: float) -> Sequence[Row]:
    """Return rows of which long ones are cut to pieces of piece_s, up to `wanted` in all; a single one at least in two.

    What says of itself in words what is heard in it stays whole.
    """
    if not rows or len(rows) >= wanted:
        return rows
    each, found = -(-wanted // len(rows)), list[Row]()
    for row in rows:
        length = row.frames / row.sample_rate if row.sample_rate else 0.0
        count = min(each, int(length / piece_s)) if piece_s else 1
        count = max(count, 2 if len(rows) == 1 and length > 0 else 1)
        whole = count < 2 or row.text or row.caption or row.phrases
        found += [row] if whole else pieces(row, count)
    return found


class Deal:
    """Deals the items of an epoch out to recordings, as a pure function of (seed, epoch, item)."""

    def __init__(self, weight: np.ndarray, n_items: int, seed: int) -> None:
        """weight: (F,) of the recordings; n_items: of an epoch, 0 for the sum of the weights."""
        self.n_items, self.seed = n_items or int(weight.sum()), seed
        self._ends = np.cumsum(weight)  # (F,)
        # Every recording once: item i is recording i, in every epoch.
        self.plain = self.n_items == len(weight) and bool((weight == weight[0]).all())

    def files(self, epoch: int) -> np.ndarray:
        """Return the recording (n_items,) of every item of an epoch."""
        return self._at(epoch, np.arange(self.n_items))

    def file(self, epoch: int, item: int) -> int:
        """Return the recording of one item of an epoch."""
        return int(self._at(epoch, np.array([item]))[0])

    def _at(self, epoch: int, items: np.ndarray) -> np.ndarray:
        if self.plain:
            return items
        place = (items + rng(self.seed, epoch, 0xC407).random()) / self.n_items * self._ends[-1]
        return np.minimum(np.searchsorted(self._ends, place, side="right"), len(self._ends) - 1)
