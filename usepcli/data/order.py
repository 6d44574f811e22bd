"""In which order the items of an epoch come where it is not chance alone, as a pure function of (seed, epoch).

    shards   Tar by tar, for disks and connections that like to be read from one end to the other: the tars in an
             order that is drawn, `window` of them side by side, and every item up to `reach` places from where it
             would then come.  Item i comes at the rank of i + reach u_i, with u_i uniform in [0, 1).
    bucket   Whole utterances of like length meet: of `bucket` batches at a time, in the order above or by chance, the
             items are sorted by length and cut to batches, which come in an order that is drawn.

The order is one of all items, whatever the number of ranks and workers, which take their places in it; so what an epoch
holds, and where it goes on after an interruption, do not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from usepcli.audio import tars
from usepcli.data.manifest import Manifest
from usepcli.data.sampling import epoch_order, rng
from usepcli.errors import ConfigError


@dataclass(frozen=True)
class Order:
    """Orders n_items items of an epoch; `files` gives the recording (n_items,) of each.

    shard: the tar (F,) of each recording, None for an order by chance.  lengths: (F,) of the recordings, any unit.
    """

    n_items: int
    seed: int
    files: Callable[[int], np.ndarray]
    shard: np.ndarray | None = None
    window: int = 8
    reach: int = 1000
    lengths: np.ndarray | None = None
    bucket: int = 0

    def __call__(self, epoch: int, batch_size: int, micro: int) -> np.ndarray:
        """Return the items of an epoch's batches, one after the other: the items (S batch_size,) of S whole batches."""
        order = epoch_order(self.n_items, self.seed, epoch) if self.shard is None else self._by_shard(epoch)
        order = order[: self.n_items // batch_size * batch_size]
        if self.bucket and self.lengths is not None:
            order = self._by_length(epoch, order, batch_size, micro)
        return order

    def _by_shard(self, epoch: int) -> np.ndarray:
        assert self.shard is not None
        draw, files = rng(self.seed, epoch, 0x7A85), self.files(epoch)
        shard = self.shard[files]  # (n_items,)
        count = np.bincount(shard)
        rank = draw.permutation(len(count))
        within = np.empty(self.n_items)
        placed = np.lexsort((files, shard))
        within[placed] = np.arange(self.n_items) - (np.cumsum(count) - count)[shard[placed]]
        # Tars side by side, each from its beginning to its end, however long they are.
        stream = np.argsort(rank[shard] // self.window + (within + 0.5) / count[shard] * (1 - 1e-9), kind="stable")
        return stream[np.argsort(np.arange(self.n_items) + self.reach * draw.random(self.n_items), kind="stable")]

    def _by_length(self, epoch: int, order: np.ndarray, batch_size: int, micro: int) -> np.ndarray:
        assert self.lengths is not None
        draw, lengths = rng(self.seed, epoch, 0xB0C7), self.lengths[self.files(epoch)]
        found = []
        for start in range(0, len(order), self.bucket * batch_size):
            part = order[start : start + self.bucket * batch_size]
            batches = part[np.argsort(lengths[part], kind="stable")].reshape(-1, batch_size)
            found.append(batches[draw.permutation(len(batches))])
        return draw.permuted(np.concatenate(found).reshape(-1, micro), axis=1).reshape(-1)


def padded(lengths: np.ndarray, order: np.ndarray, micro: int) -> float:
    """Return the share of an epoch's micro-batches that is silence behind items shorter than the longest of theirs.

    lengths: (n_items,) of the items; order: as an Order returns it.
    """
    rows = lengths[order].reshape(-1, micro)
    whole = float(rows.max(axis=1).sum()) * micro
    return 1 - float(rows.sum()) / whole if whole else 0.0


def shards(manifest: Manifest) -> np.ndarray:
    """Return the number (F,) of the tar that each row lies in; ConfigError where one lies in none."""
    numbers: dict[str, int] = {}
    found = np.empty(len(manifest), np.int64)
    for i, row in enumerate(manifest.rows):
        path = row.mixture or (row.sources[0] if row.sources else "")
        at = path.find(f"{tars.SUFFIX}/")
        if at < 0:
            raise ConfigError(
                f"data.order: shards reads tar by tar, and {row.id} of {manifest.path} lies in none; choose "
                "shuffle, or write the set as tars (usep prepare-data --shards SIZE)"
            )
        found[i] = numbers.setdefault(path[:at], len(numbers))
    return found


def whole_only(lengths: Sequence[float] | np.ndarray, segment_s: float, bucket: int) -> None:
    """ConfigError for data.bucket where all items are equally long, or their lengths are not known."""
    if bucket and segment_s:
        raise ConfigError(
            f"data.bucket: {bucket} sorts whole utterances by length, and data.segment_s is {segment_s:g}: all are "
            "equally long; set data.segment_s: 0, or data.bucket: 0"
        )
    if bucket and not np.all(np.asarray(lengths) > 0):
        raise ConfigError("data.bucket: the manifest does not say how long every recording is; prepare it again")
