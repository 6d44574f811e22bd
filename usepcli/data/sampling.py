"""Order of examples as a pure function of (seed, epoch, position), so that a run can resume anywhere.

Where a recording comes several times in an epoch, every micro-batch gets its due share of it, floor or ceil, and its
crops stand side by side: so two of them meet in a sum of two mixtures, the first half of a micro-batch and the second
being added, only where more than half of all is one recording.

No state lives in a sampler or a worker: example `i` of epoch `e` is drawn from the counter (seed, e, i),
whatever the number of workers or ranks, and whether or not the run was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

Key = tuple[int, int]


def rng(*counter: int) -> np.random.Generator:
    """Return the generator that belongs to a counter such as (seed, epoch, index)."""
    return np.random.default_rng(np.random.SeedSequence(list(counter)))


def torch_seed(*counter: int) -> int:
    """Return a 63-bit seed for a torch generator that belongs to a counter."""
    return int(np.random.SeedSequence(list(counter)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def epoch_order(n_items: int, seed: int, epoch: int) -> np.ndarray:
    """Return the shuffled item indices (n_items,) of one epoch."""
    return rng(seed, epoch, 0x0DE5).permutation(n_items)


def spread(files: np.ndarray, micro: int, seed: int, epoch: int) -> np.ndarray:
    """Return the items (M, micro) of M micro-batches, given the recording (n_items,) of each item.

    Like cards: sorted by recording, in random order, and dealt out to the micro-batches one by one.
    """
    draw, n_micro = rng(seed, epoch, 0x5E0D), len(files) // micro
    kept = draw.permutation(len(files))[: n_micro * micro]
    rank = draw.permutation(int(files.max()) + 1)
    kept = kept[np.argsort(rank[files[kept]], kind="stable")]
    dealt = kept.reshape(micro, n_micro).T[draw.permutation(n_micro)]  # (M, micro)
    for row in dealt:  # which recording meets which is drawn anew for each
        _, group = np.unique(files[row], return_inverse=True)
        row[:] = row[np.argsort(draw.permutation(int(group.max()) + 1)[group], kind="stable")]
    return dealt


class EpochBatches:
    """Keys (epoch, index) of the micro-batches that one rank works on in one epoch.

    A step takes `batch_size` items in global order; rank r of W takes the r-th share of them, in
    `accumulate` micro-batches. The last incomplete step is dropped, so every step has the same size.
    files: gives the recording of each item of an epoch where one comes several times.  order: gives the items of an
    epoch, of a batch and of a micro-batch of such sizes, in another order than by chance (data/order.py).
    """

    def __init__(
        self,
        n_items: int,
        batch_size: int,
        accumulate: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        files: Callable[[int], np.ndarray] | None = None,
        order: Callable[[int, int, int], np.ndarray] | None = None,
    ) -> None:
        self.files, self.order = files, order
        self.n_items, self.batch_size, self.accumulate = n_items, batch_size, accumulate
        self.seed, self.rank, self.world = seed, rank, world
        self.micro = batch_size // (world * accumulate)
        self.epoch = 0
        self.first_step = 0
        self.dealt: dict[int, int] = {}  # epoch -> micro-batch by which it was begun, where that was another

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimiser steps in one epoch."""
        return self.n_items // self.batch_size

    def start(self, epoch: int, first_step: int = 0) -> None:
        """Point the iterator at `first_step` of `epoch`."""
        self.epoch, self.first_step = epoch, first_step

    def micro_of(self, epoch: int) -> int:
        """Return the size of micro-batch by which an epoch's recordings are spread."""
        return self.dealt.get(epoch, self.micro)

    def __len__(self) -> int:
        return (self.steps_per_epoch - self.first_step) * self.accumulate

    def __iter__(self) -> Iterator[list[Key]]:
        order = self._order()
        share = self.micro * self.accumulate
        for step in range(self.first_step, self.steps_per_epoch):
            begin = step * self.batch_size + self.rank * share
            for part in range(self.accumulate):
                at = begin + part * self.micro
                yield [(self.epoch, int(i)) for i in order[at : at + self.micro]]

    def _order(self) -> np.ndarray:
        if self.order is not None:
            return self.order(self.epoch, self.batch_size, self.micro)
        if self.files is None:
            return epoch_order(self.n_items, self.seed, self.epoch)
        return spread(self.files(self.epoch), self.micro_of(self.epoch), self.seed, self.epoch).reshape(-1)
