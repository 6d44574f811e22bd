"""What the training engine asks of every objective."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from usepcli.data.batch import Batch
from usepcli.errors import ConfigError
from usepcli.losses.base import Loss
from usepcli.models.separator import SeparationModel


class Update(NamedTuple):
    """One optimiser step: the sum of `losses` is minimised over the parameters of `group`."""

    group: str
    losses: dict[str, Tensor]
    logs: dict[str, Tensor] = {}  # noqa: RUF012 - never written to


class Objective(nn.Module):
    """Owns the modules that a training method needs and turns batches into losses; touches no optimiser.

    `needs` lists the fields of a batch that it reads; with `trained_teacher` it has no use for a teacher that has
    learned nothing. `rng` is the only source of randomness; the
    engine seeds it before each step. `step_logs` holds extra figures of the last step, detached.
    `asks`: it trains a model that separates by query (objectives/asking.py); words that it reads stand in `needs`, too.
    """

    needs: frozenset[str] = frozenset({"mix"})
    trained_teacher = False
    asks = False

    def __init__(self, model: SeparationModel, loss: Loss) -> None:
        """Take the model to train, kept as `student`, and the loss of a pair of waveforms."""
        super().__init__()
        self.student = model
        self.loss = loss
        self.n_src = model.n_src
        self.rng = torch.Generator()
        self.step_logs: dict[str, float | Tensor] = {}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the scalar terms, already weighted, whose sum is minimised."""
        raise NotImplementedError

    def updates(self, batch: Batch) -> Iterator[Update]:
        """Yield the updates of one batch; each is applied before the next one is asked for."""
        yield Update("model", self.losses(batch))

    def groups(self) -> dict[str, nn.Module]:
        """Return the modules that each optimiser group trains."""
        return {"model": self.student}

    def set_teacher(self, model: SeparationModel) -> None:
        """Let a stored model teach; ConfigError for an objective without a teacher."""
        raise ConfigError(
            f"objective.teacher_model: {type(self).__name__} has no teacher; found {type(model).__name__}"
        )

    def on_start(self, steps_per_epoch: int) -> None:
        """Learn how many steps an epoch has; called once by the engine before the first."""

    def on_step_end(self) -> None:
        """Do what belongs to the end of an optimiser step; nothing by default, not called for a skipped step."""

    def on_epoch_end(self) -> None:
        """Do what belongs to the end of an epoch; nothing by default."""

    def check(self, batch_size: int) -> None:
        """Raise ConfigError where batch_size (of one process) does not fit; called once by the engine."""
        if batch_size < 1:
            raise ConfigError(f"train.batch_size: found {batch_size}; expected at least 1")
