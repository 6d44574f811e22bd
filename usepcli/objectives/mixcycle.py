"""MixCycle: MixPIT at first, then pseudo-mixtures of the network's own outputs (Karamatli & Kirbiz 2022).

In the second part the present weights separate each mixture without gradient, the outputs are put in random order and
meet those of other mixtures, and the same network learns by PIT to take the new sums apart: RemixIT with a teacher
that equals the student at every step. The authors exchange an output of one mixture for one of another, so that no sum
is a mixture that was there before, for which every split that adds up would be right: `constrained` asks the same. A
free shuffle puts one sum in B back together at a batch of B and two outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from usepcli.data.batch import Batch
from usepcli.dsp.shuffle import Shuffle
from usepcli.errors import ConfigError
from usepcli.losses.base import Loss
from usepcli.models.separator import SeparationModel
from usepcli.objectives.mixpit import MixPIT
from usepcli.objectives.pit import Matched
from usepcli.objectives.remixing import Remixed, Remixing, mean_sounding

INIT_EPOCHS = 50


class MixCycle(Remixing):
    """MixPIT for init_epochs or init_updates, then remixing of the student's own outputs."""

    epochs: Tensor
    updates: Tensor
    first: MixPIT

    def __init__(
        self,
        model: SeparationModel,
        loss: Loss,
        init_epochs: int = INIT_EPOCHS,
        shuffle: Shuffle = "constrained",
        channel_shuffle: bool = True,
        renormalize: bool = True,
        init_updates: int = 0,
    ) -> None:
        """Set the epochs of MixPIT (its authors: 50, and 250 for a twentieth of the data) and the shuffle after it.

        init_updates: its optimiser steps instead, however long an epoch is; 0 for the rule by epochs.
        """
        super().__init__(model, loss, shuffle, channel_shuffle, 0, "permuted", None, renormalize, 0.0, False)
        for key, value in (("init_epochs", init_epochs), ("init_updates", init_updates)):
            if value < 0:
                raise ConfigError(f"objective.{key}: found {value}; expected 0 or more")
        if init_updates and init_epochs != INIT_EPOCHS:
            raise ConfigError(
                f"objective.init_epochs: found {init_epochs} beside objective.init_updates {init_updates}; give one of "
                "them: init_updates 0 for the rule by epochs"
            )
        self.init_epochs, self.init_updates = init_epochs, init_updates
        self._steps_per_epoch = 1
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))
        # Stored where it decides: the states of earlier runs know nothing of it.
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64), persistent=bool(init_updates))
        # Past nn.Module.__setattr__: its student is this one's, and would be stored twice.
        object.__setattr__(self, "first", MixPIT(model, loss))
        self.first.rng = self.rng

    def check(self, batch_size: int) -> None:
        """Raise ConfigError where batch_size does not fit MixPIT or the shuffle."""
        super().check(batch_size)
        if self.init_epochs or self.init_updates:
            self.first.check(batch_size)

    def on_start(self, steps_per_epoch: int) -> None:
        """Learn how long an epoch is."""
        self._steps_per_epoch = steps_per_epoch

    def notes(self) -> list[str]:
        """Return a warning where the training ends before the network's own outputs are remixed."""
        key = "init_updates" if self.init_updates else "init_epochs"
        first = self.init_updates or self.init_epochs * self._steps_per_epoch
        if not self.total_steps or first < self.total_steps:
            return []
        return [
            f"warning: all {self.total_steps} updates are MixPIT's, which takes the first {first} "
            f"(objective.{key} {getattr(self, key)}): raise train.epochs, or lower it"
        ]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean loss in dB of the part that the step belongs to."""
        if self.init_updates:
            begun = int(self.updates) >= self.init_updates
        else:
            begun = int(self.epochs) >= self.init_epochs
        if begun:
            return super().losses(batch)
        terms = self.first.losses(batch)
        self.step_logs = self.first.step_logs
        return terms

    def on_step_end(self) -> None:
        """Count the updates of MixPIT."""
        self.updates += 1

    def on_epoch_end(self) -> None:
        """Count the epochs of MixPIT."""
        self.epochs += 1

    def sources(self, mix: Tensor, refs: Tensor | None, raw: Tensor) -> Tensor:
        """Return the student's present outputs (B, R, T), adding up to mix (B, T); `remix` cuts their gradient."""
        del refs, raw
        return self.strongest(self._student(mix), mix)

    def criterion(self, remixed: Remixed, est: Tensor, found: Matched) -> dict[str, Tensor]:
        """Return the loss against the shuffled outputs, over sounding pseudo-mixtures."""
        del est
        return {"mixcycle": mean_sounding(found.loss, remixed.pseudo)}
