"""A few items of every class, as learning from few examples has them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from usepcli.data import lazy
from usepcli.data.manifest import Row
from usepcli.data.sampling import rng


def few(rows: Sequence[Row], count: int, seed: int) -> np.ndarray:
    """Return the places, in their order, of `count` rows of each label, or of all there are where it has fewer.

    Which ones, seed and label say: of more shots those of fewer are a part, whatever other labels there are. Rows
    without any label are told apart by their queries.
    """
    names, which = lazy.names(rows, "label")
    if names == [""]:
        known: dict[str, int] = {}
        which = np.array([known.setdefault(";".join(row.queries), len(known)) for row in rows], np.int64)
        names = list(known)
    chosen = []
    for k, name in enumerate(names):
        places = np.flatnonzero(which == k)
        chosen.append(rng(seed, zlib.crc32(name.encode()), 0x5407).permutation(places)[:count])
    return np.sort(np.concatenate([np.zeros(0, np.int64), *chosen]))
