"""Trainings that may read the sources of some items alone: which these are, and batches that hold both kinds.

A share s of the items that list sources is known: in an order by class, chance within a class and among the classes,
item k is one of them where floor((k + 1) s + 1/2) > floor(k s + 1/2). So every class gives its share, up to one item.
Items of one recording are known together. Half of a batch is known, whatever the share; an epoch hears each item of the
larger kind once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from usepcli.data import lazy
from usepcli.data.crops import Deal
from usepcli.data.manifest import Manifest, Row
from usepcli.data.sampling import rng
from usepcli.errors import ConfigError


class Split(NamedTuple):
    """The share of items whose sources may be read (0: of all that list any), and what draws them."""

    share: float
    seed: int = 0


def known(manifest: Manifest, split: Split) -> np.ndarray:
    """Return which rows (F,) may be read with their sources; ConfigError where these are none or all."""
    found = lazy.counts(manifest.rows, "sources") > 0
    if split.share:
        units, place = _recordings(manifest.rows, found)
        found = np.where(found, drawn(units, split)[place], False)
    if found.all() or not found.any():
        what = f"a share of {split.share:g}" if split.share else "a share of 0, that is of all items that list sources,"
        raise ConfigError(
            f"objective.supervised: {what} comes to {int(found.sum())} of the {len(found)} items of {manifest.path}; "
            "expected some with their sources and some without"
        )
    return found


def _recordings(rows: Sequence[Row], listed: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Return the class of each different recording of rows that list sources, and each row's recording (F,)."""
    place, classes = np.zeros(len(rows), np.int64), list[str]()
    numbers: dict[str | tuple[str, ...], int] = {}
    for i in np.flatnonzero(listed).tolist():
        row = rows[i]
        place[i] = numbers.setdefault(row.mixture or row.sources, len(numbers))
        if place[i] == len(classes):
            classes.append(row.label or ";".join(row.queries))
    return classes, place


def drawn(classes: Sequence[str], split: Split) -> np.ndarray:
    """Return which recordings (R,) of these classes are known."""
    draw = rng(split.seed, 0x5E31)
    parts = [sorted(part.strip() for part in said.split(";")) for said in classes]
    names = sorted({name for part in parts for name in part})
    rank = dict(zip(names, draw.permutation(len(names)).tolist(), strict=True))
    chance = draw.permutation(len(classes)).tolist()
    keys = [(sorted(rank[name] for name in part), luck) for part, luck in zip(parts, chance, strict=True)]
    order = sorted(range(len(classes)), key=keys.__getitem__)
    until = np.floor(np.arange(len(classes) + 1) * split.share + 0.5)
    found = np.zeros(len(classes), bool)
    found[order] = np.diff(until) > 0
    return found


class Halves:
    """Deals the items of an epoch out to known recordings (even items) and others (odd ones), as `crops.Deal` does."""

    plain = False

    def __init__(self, weight: np.ndarray, which: np.ndarray, n_items: int, seed: int) -> None:
        """weight, which: of each recording (F,), how often it is due and whether it is known."""
        self.seed, self._places = seed, [np.flatnonzero(which), np.flatnonzero(~which)]
        half = n_items // 2 or int(max(weight[places].sum() for places in self._places))
        self.n_items = 2 * half
        self._deals = [Deal(weight[places], half, seed) for places in self._places]

    def files(self, epoch: int) -> np.ndarray:
        """Return the recording (n_items,) of every item of an epoch."""
        found = [places[deal.files(epoch)] for places, deal in zip(self._places, self._deals, strict=True)]
        return np.stack(found, 1).reshape(-1)

    def file(self, epoch: int, item: int) -> int:
        """Return the recording of one item of an epoch."""
        return int(self._places[item % 2][self._deals[item % 2].file(epoch, item // 2)])

    def order(self, epoch: int, batch_size: int, micro: int) -> np.ndarray:
        """Return the items of an epoch's batches as a data/order.py Order does: half of every micro-batch is known."""
        draw, count = rng(self.seed, epoch, 0x4A1F), self.n_items // batch_size * batch_size // micro
        first = micro // 2 + np.arange(count) % 2 * (micro % 2)  # of known items; where micro is odd they take turns
        kinds = np.arange(micro) >= first[:, None]  # (micro-batches, micro): False for known ones
        found = np.empty(kinds.shape, np.int64)
        for kind in (0, 1):
            found[kinds == kind] = 2 * draw.permutation(self.n_items // 2)[: (kinds == kind).sum()] + kind
        return found.reshape(-1)
