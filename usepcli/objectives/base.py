"""What the training engine asks of every objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from usepcli.data.batch import Batch
from usepcli.data.known import Split
from usepcli.dsp.parts import Parts
from usepcli.errors import ConfigError
from usepcli.losses.base import Loss
from usepcli.models.fixed import Fixed
from usepcli.models.separator import SeparationModel
from usepcli.objectives.supervised import ALL, Place

V = TypeVar("V", Tensor, Parts)
MAIN = "model"  # the group of the separator; its figures have plain names in train.csv


class Terms(NamedTuple):
    """What a step minimises, as scalar terms already weighted, and the figures that belong to it, detached.

    by: parts of the losses that other groups have a hand in; where one of these is not finite, that group has diverged.
    """

    losses: Mapping[str, Tensor]
    logs: Mapping[str, float | Tensor] = {}
    by: Mapping[str, Tensor] = {}


Value = Tensor | Parts


class Shared:
    """What the steps on one micro-batch hand on to each other.

    A critic looks at estimates, and the separator's own step needs them again. `graphs` says whether a value may keep
    its graph until then: where one micro-batch is all there is, it may, and the second pass through the network is
    spared; where several are accumulated, no graph outlives its turn, and the value is made anew. `place` says which
    of a step's micro-batches it is.
    """

    def __init__(self, graphs: bool, place: Place = ALL) -> None:
        self.graphs, self.place = graphs, place
        self._made: dict[str, Value] = {}

    def detached(self, name: str, make: Callable[[], V]) -> V:
        """Return a value without gradient, made once for all steps that ask for it."""
        if name not in self._made:
            with torch.set_grad_enabled(self.graphs):
                self._made[name] = make()
        return _detached(self._made[name])

    def attached(self, name: str, make: Callable[[], V]) -> V:
        """Return a value with its gradient: the one that is there, if it kept its graph, else made now."""
        held: Any = self._made.get(name)
        if held is None or not _waves(held).requires_grad:
            return make()
        # A graph serves one backward pass; whoever asks again makes another.
        self._made[name] = _detached(held)
        return held


def _waves(value: Value) -> Tensor:
    return value.waves if isinstance(value, Parts) else value


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    return value._replace(**{k: v.detach() for k, v in value._asdict().items() if v is not None})


class Step(NamedTuple):
    """One optimiser step: `terms(batch, shared)` of every micro-batch is minimised over the parameters of `group`."""

    group: str
    terms: Callable[[Batch, Shared], Terms]


class Objective(nn.Module):
    """Owns the modules that a training method needs and turns batches into losses; touches no optimiser.

    `needs` lists the fields of a batch that it reads. `rng` is the only source of randomness; the engine seeds it
    before each step. `step_logs` holds extra figures of the last call of `losses`, detached. `teacher`, where there
    is one, is a second separator that the student can be compared with. `asks`: it trains a model that separates by
    query (objectives/asking.py); words that it reads stand in `needs`, too.
    """

    needs: frozenset[str] = frozenset({"mix"})
    domains: frozenset[str] = frozenset({"wave"})  # of the losses that it can use
    asks = False
    split: Split | None = None  # of some items alone the sources are read
    # What it measures itself of one item, where it trains no separator: name -> whether higher is better. The first
    # of them chooses the weights.
    own: ClassVar[Mapping[str, bool]] = {}
    mixes = ""  # what it does with several examples of a micro-batch together, '' for one that takes each alone

    def __init__(self, model: SeparationModel, loss: Loss) -> None:
        """Take the model to train, kept as `student`, and the loss of a pair of waveforms."""
        super().__init__()
        if loss.domain not in self.domains:
            raise ConfigError(
                f"loss.name: a loss in the {loss.domain}; {type(self).__name__} compares in: {', '.join(self.domains)}"
            )
        self.student = model
        self.loss = loss
        self.n_src = model.n_src
        self.rng = torch.Generator()
        self.total_steps = 0  # of the whole training, 0 where nobody has told
        self.place = ALL  # of the micro-batch that `losses` is given
        self.step_logs: dict[str, float | Tensor] = {}

    @property
    def teacher(self) -> SeparationModel | None:
        """The separator that teaches, if any."""
        return None

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the scalar terms, already weighted, whose sum is minimised; enough for one step of the separator."""
        raise NotImplementedError

    def steps(self) -> Sequence[Step]:
        """Return the optimiser steps of one batch in their order; each runs over all micro-batches before the next."""
        return (Step(MAIN, self._terms),)

    def _terms(self, batch: Batch, shared: Shared) -> Terms:
        self.step_logs, self.place = {}, shared.place
        return Terms(self.losses(batch), self.step_logs)

    def groups(self) -> dict[str, nn.Module]:
        """Return the modules that each optimiser group trains, that of the separator first."""
        return {MAIN: self.student}

    def fixed(self) -> dict[str, Fixed]:
        """Return the frozen parts by name: stored nowhere but named in run and card by reference and sha256."""
        return {name: part for name, part in self.named_modules() if isinstance(part, Fixed)}

    def stored(self) -> dict[str, str]:
        """Return the stored models that the settings name, profile key to reference ('' where one may be named)."""
        return {}

    def give(self, key: str, part: Fixed) -> None:
        """Take the stored separator, frozen, that the settings name under a key of `stored`; ConfigError if unfit."""
        raise ConfigError(f"{key}: {type(self).__name__} takes no stored model; found {part.reference}")

    def takes(self, segment_s: float) -> None:
        """Raise ConfigError where training segments of so many seconds (0: whole recordings) do not fit."""

    def holds(self, n_src: int) -> None:
        """Raise BadInput where examples of so many sources, the most that the data have, do not fit."""

    def knows(self, said: Callable[[], Mapping[str, str]]) -> None:
        """Raise BadInput where words of the data, each with an item that says them, mean nothing to the model."""

    def settled(self) -> dict[str, Any]:
        """Return settings of the model that the training data have brought, for its card; none by default."""
        return {}

    def ready(self, trained: bool) -> None:
        """Raise ConfigError where nothing has been learned that this method needs; trained: the student has."""

    def on_start(self, steps_per_epoch: int) -> None:
        """Learn how many steps an epoch has; called once by the engine before the first."""

    def notes(self) -> list[str]:
        """Return what to say before training, once `on_start` has told how long an epoch is; nothing by default."""
        return []

    def validated(self, model: SeparationModel, batch: Batch) -> dict[str, float]:
        """Return the scores of `own` of one item, a batch of one, by a copy of the student with other weights."""
        raise NotImplementedError

    def on_step_end(self) -> None:
        """Do what belongs to the end of an optimiser step; nothing by default, not called for a skipped step."""

    def on_epoch_end(self) -> None:
        """Do what belongs to the end of an epoch; nothing by default."""

    def remarks(self) -> list[str]:
        """Return what the epoch that has just ended gives reason to say; nothing by default."""
        return []

    def check(self, batch_size: int) -> None:
        """Raise ConfigError where batch_size, of one of `place.parts` micro-batches, does not fit."""
        if batch_size < 1:
            raise ConfigError(f"train.batch_size: found {batch_size}; expected at least 1")
