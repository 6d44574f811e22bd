"""The teacher of a student: a second network that only copies and averages move."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor, nn

from usepcli.errors import ConfigError, choices
from usepcli.models.fixed import Fixed
from usepcli.models.separator import SeparationModel

Protocol = Literal["ema_epoch", "ema_step", "static", "copy_step", "sequential", "ema_period"]
Init = Literal["independent", "copy"]
PROTOCOLS = ("ema_epoch", "ema_step", "static", "copy_step", "sequential", "ema_period")


class Teacher(nn.Module):
    """Holds a frozen model and moves it towards the student by a named protocol.

    static: never.  ema_epoch: t <- a t + (1 - a) s at the end of every epoch.  ema_step: after every step, with
    a^(1 / steps per epoch).  copy_step: t = s after every step.  sequential: t = s every `period` epochs.
    ema_period: the average of ema_epoch every `period` epochs.  (Saijo & Ogawa 2023, equation 6;
    Tzinis et al. 2022.)
    """

    epochs: Tensor

    def __init__(
        self, student: SeparationModel, protocol: str, ema: float, period: int, init: str, given: bool = False
    ) -> None:
        """Make the teacher from the student's settings, with its own first weights or a copy of them.

        given: another model takes its place later (`replace`), so the first weights do not matter.
        ConfigError for values out of range.
        """
        super().__init__()
        if protocol not in PROTOCOLS:
            raise ConfigError(f"objective.teacher: {choices('teacher', protocol, PROTOCOLS)}")
        if init not in ("independent", "copy"):
            raise ConfigError(f"objective.teacher_init: {choices('start', init, ('independent', 'copy'))}")
        if not 0 <= ema <= 1:
            raise ConfigError(f"objective.ema: found {ema}; expected a share between 0 and 1")
        if period < 1:
            raise ConfigError(f"objective.period: found {period}; expected at least one epoch")
        self.protocol, self.ema, self.period = protocol, ema, period
        self.steps_per_epoch = 1
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))
        self.model: nn.Module = copy.deepcopy(student) if init == "copy" or given else student.again()
        self._freeze()

    @property
    def network(self) -> SeparationModel:
        """The separator that teaches."""
        held = self.model.module if isinstance(self.model, Fixed) else self.model
        assert isinstance(held, SeparationModel)
        return held

    def replace(self, taught: SeparationModel | Fixed, student: SeparationModel) -> None:
        """Teach with another model from here on; ConfigError where its weights would have to follow the student's.

        A frozen part stays one where the teacher never moves, so that no checkpoint holds it.
        """
        model = taught.module if isinstance(taught, Fixed) else taught
        assert isinstance(model, SeparationModel)
        if model.sample_rate != student.sample_rate:
            raise ConfigError(
                f"objective.teacher_model: a model for {model.sample_rate} Hz; expected {student.sample_rate} Hz, "
                "the student's rate"
            )
        own, other = ({k: v.shape for k, v in m.state_dict().items()} for m in (student, model))
        if self.protocol != "static" and own != other:
            raise ConfigError(
                f"objective.teacher: '{self.protocol}' averages teacher and student, whose weights differ in shape; "
                "set it to static, or give the student the teacher's model settings"
            )
        self.model = taught if self.protocol == "static" else model
        self._freeze()

    def _freeze(self) -> None:
        self.model.requires_grad_(False)
        self.model.eval()

    def train(self, mode: bool = True) -> Teacher:
        """Stay in evaluation mode, whatever the objective does."""
        del mode
        self.training = False
        self.model.eval()
        return self

    @torch.no_grad()
    def forward(self, mix: Tensor, normalize: bool = True) -> Tensor:
        """Return the teacher's estimates (B, N, T) of mix (B, T), without gradient."""
        est: Tensor = self.model(mix, normalize=normalize)
        return est

    def on_step_end(self, student: SeparationModel) -> None:
        """Follow the student after an optimiser step, where the protocol does so."""
        if self.protocol == "copy_step":
            self._follow(student, 0.0)
        elif self.protocol == "ema_step":
            self._follow(student, self.ema ** (1 / self.steps_per_epoch))

    def on_epoch_end(self, student: SeparationModel) -> None:
        """Follow the student at the end of an epoch, where the protocol does so."""
        self.epochs += 1
        due = int(self.epochs) % self.period == 0
        if self.protocol == "ema_epoch" or (self.protocol == "ema_period" and due):
            self._follow(student, self.ema)
        elif self.protocol == "sequential" and due:
            self._follow(student, 0.0)

    @torch.no_grad()
    def _follow(self, student: SeparationModel, kept: float) -> None:
        """Set every entry of the state to kept * own + (1 - kept) * student's, integers to the student's."""
        new = student.state_dict()
        for key, value in self.model.state_dict().items():
            if value.is_floating_point() and kept:
                value.copy_(torch.lerp(new[key].float(), value.float(), kept))
            else:
                value.copy_(new[key])
