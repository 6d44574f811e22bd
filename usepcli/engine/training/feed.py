"""Micro-batches in the order that seed and epoch give, from any place in an epoch on."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

import torch

from usepcli.data.batch import Batch, Unusable, collate
from usepcli.data.examples import DynamicMixtures, FixedMixtures
from usepcli.data.sampling import EpochBatches, Key
from usepcli.data.words import said
from usepcli.engine import crew
from usepcli.engine.training import amount, parts
from usepcli.errors import BadInput, WorkerDied
from usepcli.objectives.base import Objective

AHEAD = 2  # micro-batches that a worker may have at once, or the thread that reads where there is none


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
        ConfigError where the data lack what the objective needs, or fill no batch; BadInput for too many sources.
        """
        self.profile, self.t, self.warn, self.gathered = profile, profile.train, warn, gathered
        data = parts.training_data(profile, rate, objective.needs, objective.split)
        self.data: Any = data
        objective.holds(data.most_sources)
        objective.knows(lambda: _said(data, objective.needs))
        self.bad: dict[str, int] = {}
        self.batch_size = amount.batch_size(profile, objective, data, world * self.t.accumulate)
        several = None if data.deal is None or data.deal.plain else data.deal.files
        order = parts.order(profile, data)
        how = len(data), self.batch_size, self.t.accumulate, profile.seed, rank, world, several, order
        self.batches = EpochBatches(*how)
        self.total = amount.steps(profile, self.steps_per_epoch)
        self.notes = amount.notes(profile, objective, data, self.batch_size, self.steps_per_epoch)
        self.notes += amount.padding(profile, data, self.batches)
        self._hands: crew.Hands | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimiser steps in one epoch."""
        return self.batches.steps_per_epoch

    def steps(self, epoch: int, first: int) -> Generator[list[Batch]]:
        """Yield the micro-batches of each step of an epoch from step `first` on.

        WorkerDied where a data worker was lost or hangs; what a worker raised is raised here.
        """
        self.batches.start(epoch, first)
        held: list[Batch] = []
        with contextlib.closing(self._fetched()) as batches:
            for batch in batches:
                held.append(batch)
                if len(held) == self.t.accumulate:
                    self._count_bad([bad for one in held for bad in one.bad_files])
                    yield held
                    held = []

    def _fetched(self) -> Generator[Batch]:
        """Yield the micro-batches of an epoch; the workers stay for the next."""
        self._hands = self._hands or self._start()
        try:
            for batch in crew.in_order(self._hands, self.batches, AHEAD * max(1, self.t.workers)):
                yield _with(batch, torch.from_numpy) if self.t.workers else batch
        except MemoryError as fault:
            raise WorkerDied(
                f"not enough memory for a batch ({fault or 'no details'}): lower train.batch_size or "
                "data.segment_s and run the same command again"
            ) from fault

    def _start(self) -> crew.Hands:
        again = "run the same command again"
        dead = f"{again}, with lower train.workers or train.batch_size if memory is short"
        hangs = f"the disk hangs or is slow; see to it or raise train.worker_timeout_s, and {again}"
        limit_s = self.t.worker_timeout_s
        if not self.t.workers:
            said = f"reading a batch takes longer than {limit_s:g} s (train.worker_timeout_s): {hangs}"
            return crew.Alone(partial(_fetch, self.data), limit_s, said)
        # Forked they share what the parent has read, a manifest of a million rows for instance. Other systems than
        # Linux have libraries that end a process which was forked (macOS: Objective-C, Accelerate).
        return crew.Crew(
            partial(_fetch_in_worker, self.data), self.t.workers, "fork" if sys.platform == "linux" else "spawn",
            named="a data worker", if_dead=dead, if_hung=hangs,
            limit_s=limit_s, ahead=AHEAD, room=_room,
        )  # fmt: skip

    def check(self) -> None:
        """Raise WorkerDied if a data worker was lost meanwhile."""
        if self._hands is not None:
            self._hands.check()

    def close(self) -> None:
        """End the data workers."""
        if self._hands is not None:
            self._hands.close()
        self._hands = None

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


def _said(data: FixedMixtures | DynamicMixtures, needs: Collection[str]) -> dict[str, str]:
    """Return the words that a training asks by, and an item of each."""
    if isinstance(data, FixedMixtures):
        return said(data.manifest.rows, needs)
    return {words: item for pool in reversed(data.pools) for words, item in said(pool.rows, needs).items()}


def _fetch(data: Any, keys: Sequence[Key]) -> Batch:
    return collate([data[key] for key in keys])


def _fetch_in_worker(data: Any, keys: Sequence[Key]) -> Batch:
    torch.set_num_threads(1)
    return _with(_fetch(data, keys), torch.Tensor.numpy)


def _with(batch: Batch, change: Callable[[Any], Any]) -> Batch:
    """Return a batch whose tensors travel as arrays, or whose arrays are tensors again."""
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return replace(batch, **{k: change(v) for k, v in values.items() if hasattr(v, "dtype")})


def _room(size: int) -> Any:
    # Aligned as torch's own tensors are.
    return torch.empty(size, dtype=torch.uint8).numpy()
