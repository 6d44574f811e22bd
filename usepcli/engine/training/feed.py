"""Micro-batches in the order that seed and epoch give, from any place in an epoch on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from usepcli.data.batch import Batch, Unusable, collate
from usepcli.data.sampling import EpochBatches, torch_seed
from usepcli.engine.training import amount, parts
from usepcli.engine.training.signals import ignore_in_worker, started
from usepcli.errors import BadInput, WorkerDied
from usepcli.objectives.base import Objective


class Feed:
    """The training examples of a profile, a step's micro-batches at a time; `bad` counts what could not be used.

    notes: what is to be said of batches and steps before the first.
    """

    def __init__(
        self,
        profile: Any,
        objective: Objective,
        rate: int,
        rank: int,
        world: int,
        warn: Callable[[str], None],
        gathered: Callable[[list[Any]], list[Any]] = list,
    ) -> None:
        """Make the examples at `rate` Hz for one of `world` ranks; warn: told of each unusable one once.

        gathered: returns what all ranks have of a list, so that all know alike of what could not be used.
        ConfigError where the data lack what the objective needs, or fill no batch.
        """
        self.profile, self.t, self.warn, self.gathered = profile, profile.train, warn, gathered
        data = parts.training_data(profile, rate, objective.needs)
        self.data: Any = data
        self.bad: dict[str, int] = {}
        self.batch_size = amount.batch_size(profile, objective, data, world * self.t.accumulate)
        several = None if data.deal is None or data.deal.plain else data.deal.files
        order = parts.order(profile, data)
        how = len(data), self.batch_size, self.t.accumulate, profile.seed, rank, world, several, order
        self.batches = EpochBatches(*how)
        self.total = amount.steps(profile, self.steps_per_epoch)
        self.notes = amount.notes(profile, objective, data, self.batch_size, self.steps_per_epoch)
        self.notes += amount.padding(profile, data, self.batches)

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimiser steps in one epoch."""
        return self.batches.steps_per_epoch

    def steps(self, epoch: int, first: int) -> Iterator[list[Batch]]:
        """Yield the micro-batches of each step of an epoch from step `first` on."""
        self.batches.start(epoch, first)
        held: list[Batch] = []
        try:
            for batch in started(self._loader(epoch)):
                held.append(batch)
                if len(held) == self.t.accumulate:
                    self._count_bad([bad for one in held for bad in one.bad_files])
                    yield held
                    held = []
        except (RuntimeError, ConnectionError) as fault:
            if self.t.workers and ("DataLoader" in str(fault) or isinstance(fault, ConnectionError)):
                raise WorkerDied(
                    f"a data worker died or hung ({str(fault).splitlines()[0]}); likely out of memory or a slow "
                    "disk: lower train.workers or train.batch_size, and run the same command again"
                ) from fault
            raise

    def _loader(self, epoch: int) -> torch.utils.data.DataLoader[Batch]:
        workers = self.t.workers
        return torch.utils.data.DataLoader(
            self.data,
            batch_sampler=self.batches,
            num_workers=workers,
            collate_fn=collate,
            worker_init_fn=ignore_in_worker if workers else None,
            timeout=self.t.worker_timeout_s if workers else 0,
            # Its own generator: otherwise every new iterator draws from the global one, and a resumed run departs.
            generator=torch.Generator().manual_seed(torch_seed(self.profile.seed, epoch, 0x10AD)),
        )

    def _count_bad(self, own: list[Unusable]) -> None:
        found = self.gathered(own)
        for item, reason in found:
            if item not in self.bad:
                self.warn(reason)
            self.bad[item] = self.bad.get(item, 0) + 1
        if len(self.bad) > max(self.profile.data.max_bad * self.data.n_files, 1):
            raise BadInput(
                f"{len(self.bad)} of {self.data.n_files} training recordings are unusable (data.max_bad), the last: "
                f"{found[-1][1] if found else ''}; run usep prepare-data --check"
            )
