"""Teacher-student MixIT: a student with as many outputs as sources learns from a frozen MixIT model.

A MixIT model has outputs for every source of a mixture of mixtures, too many for one mixture. Its outputs for a
single mixture, the strongest K of them made consistent once more, are the student's targets (Zhang et al. 2021).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from usepcli.data.batch import Batch
from usepcli.dsp import ratios
from usepcli.dsp.consistency import project
from usepcli.errors import ConfigError, choices
from usepcli.losses.base import Loss
from usepcli.models.fixed import Fixed
from usepcli.models.separator import SeparationModel
from usepcli.objectives.base import Objective
from usepcli.objectives.pit import match, mean_snr_db, take
from usepcli.objectives.teacher import Teacher


class TeacherStudentMixIT(Objective):
    """PIT against the outputs of a frozen model."""

    def __init__(
        self, model: SeparationModel, loss: Loss, teacher_model: str = "", select: Literal["energy", "all"] = "energy"
    ) -> None:
        """Learn from the model stored at teacher_model: from its strongest outputs, or from all of them.

        Without teacher_model, a copy of the student teaches: its state before training.
        """
        super().__init__(model, loss)
        if select not in ("energy", "all"):
            raise ConfigError(f"objective.select: {choices('selection', select, ('energy', 'all'))}")
        self.teacher_model, self.select = teacher_model, select
        self._teacher = Teacher(model, "static", 0.0, 1, "copy", bool(teacher_model))

    @property
    def teacher(self) -> SeparationModel:
        """The model that teaches."""
        return self._teacher.network

    def stored(self) -> dict[str, str]:
        """Return the reference of the model that teaches."""
        return {"objective.teacher_model": self.teacher_model}

    def ready(self, trained: bool) -> None:
        """Raise ConfigError where an untrained network would teach."""
        if not (trained or self.teacher_model):
            raise ConfigError(
                "objective.teacher_model: empty, so that an untrained network would teach; "
                "name a trained model: a run folder, a .safetensors file or a released name"
            )

    def give(self, key: str, part: Fixed) -> None:
        """Teach with a stored model; ConfigError where it has too few or too many outputs."""
        del key
        model = part.module
        assert isinstance(model, SeparationModel)
        if model.n_src < self.n_src or (self.select == "all" and model.n_src > self.n_src):
            raise ConfigError(
                f"objective.teacher_model: {model.n_src} outputs for a student with model.n_src {self.n_src}; "
                "expected at least as many, or as many for objective.select: all"
            )
        self._teacher.replace(part, self.student)

    @torch.no_grad()
    def targets(self, mix: Tensor) -> Tensor:
        """Return the pseudo-references (B, K, T) of mix (B, T), adding up to it."""
        est = project(self._teacher(mix), mix, "uniform")
        if self.select == "energy" and est.shape[1] > self.n_src:
            est = take(est, ratios.energy(est).topk(self.n_src, dim=-1).indices.sort(-1).values)
        return project(est, mix, "uniform")

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean loss in dB against the teacher's outputs."""
        found = match(self.loss, self.student(batch.mix), self.targets(batch.mix), batch.mix)
        self.step_logs = {"snr_db": mean_snr_db(found)}
        return {"ts_mixit": found.loss.mean()}
