"""The teacher of a student: a second network that only copies and averages move.

An average that keeps the share a of the teacher for every n updates has forgotten half of it after
    h = n ln 0.5 / ln a
updates. Stated per epoch, as in the paper, h shrinks with the data: 0.9 is 3 289 updates where an epoch has 500, and
66 where it has 10, which is no teacher any more but the student itself.
"""

from __future__ import annotations

import copy
import math
from typing import Literal

import torch
from torch import Tensor, nn

from usepcli.errors import ConfigError, choices
from usepcli.models.fixed import Fixed
from usepcli.models.separator import SeparationModel

Protocol = Literal["ema_epoch", "ema_step", "static", "copy_step", "sequential", "ema_period"]
Init = Literal["independent", "copy"]
PROTOCOLS = ("ema_epoch", "ema_step", "static", "copy_step", "sequential", "ema_period")
AVERAGES = ("ema_epoch", "ema_step", "ema_period")
EMA = 0.8  # of Saijo & Ogawa 2023, for each epoch
# Updates: with fewer, single trials fell to nothing (docs/results.md); those that learned had 3 289, published more.
FAST = 1000


class Teacher(nn.Module):
    """Holds a frozen model and moves it towards the student by a named protocol.

    static: never.  ema_epoch: t <- a t + (1 - a) s at the end of every epoch.  ema_step: after every step, with
    a^(1 / steps per epoch).  copy_step: t = s after every step.  sequential: t = s every `period` epochs.
    ema_period: the average of ema_epoch every `period` epochs.  (Saijo & Ogawa 2023, equation 6;
    Tzinis et al. 2022.)  A half-life in updates takes the place of `a` in the averages, whatever an epoch holds.
    """

    epochs: Tensor

    def __init__(
        self,
        student: SeparationModel,
        protocol: str,
        ema: float,
        period: int,
        init: str,
        given: bool = False,
        half_life_updates: float = 0.0,
    ) -> None:
        """Make the teacher from the student's settings, with its own first weights or a copy of them.

        given: another model takes its place later (`replace`), so the first weights do not matter.
        half_life_updates: updates after which an average has forgotten half of itself, 0 for `ema` per epoch.
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
        _check_half_life(half_life_updates, protocol, ema)
        self.protocol, self.ema, self.period, self.half_life_updates = protocol, ema, period, half_life_updates
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

    def half_life(self) -> float:
        """Return the updates after which an average has forgotten half of itself; nan where no average is kept."""
        if self.protocol not in AVERAGES:
            return math.nan
        if self.half_life_updates:
            return self.half_life_updates
        if self.ema in (0, 1):
            return math.inf * self.ema if self.ema else 0.0
        span = self.steps_per_epoch * (self.period if self.protocol == "ema_period" else 1)
        return span * math.log(0.5) / math.log(self.ema)

    def _kept(self, updates: int) -> float:
        """Return the share of itself that an average keeps after as many updates, by the half-life."""
        return float(0.5 ** (updates / self.half_life_updates))

    def on_step_end(self, student: SeparationModel) -> None:
        """Follow the student after an optimiser step, where the protocol does so."""
        if self.protocol == "copy_step":
            self._follow(student, 0.0)
        elif self.protocol == "ema_step":
            self._follow(student, self._kept(1) if self.half_life_updates else self.ema ** (1 / self.steps_per_epoch))

    def on_epoch_end(self, student: SeparationModel) -> None:
        """Follow the student at the end of an epoch, where the protocol does so."""
        self.epochs += 1
        due = int(self.epochs) % self.period == 0
        if self.protocol == "ema_epoch" or (self.protocol == "ema_period" and due):
            span = self.steps_per_epoch * (self.period if self.protocol == "ema_period" else 1)
            self._follow(student, self._kept(span) if self.half_life_updates else self.ema)
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


def _check_half_life(updates: float, protocol: str, ema: float) -> None:
    """Raise ConfigError for a half-life that is none, that moves nothing, or that stands beside another rule."""
    key = "objective.teacher_half_life_updates"
    if not (updates >= 0 and math.isfinite(updates)):
        raise ConfigError(f"{key}: found {updates}; expected updates, or 0 for objective.ema per epoch")
    if updates and protocol not in AVERAGES:
        raise ConfigError(
            f"{key}: found {updates:g} with objective.teacher '{protocol}', which keeps no average; set it to 0, or "
            f"the teacher to {' or '.join(AVERAGES)}"
        )
    if updates and ema != EMA:
        raise ConfigError(
            f"objective.ema: found {ema} per epoch beside {key} {updates:g}; give one of them: a half-life of 0 for "
            "the rule per epoch"
        )
