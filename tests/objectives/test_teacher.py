"""How fast a teacher follows: by epochs, as in the paper, or by a half-life in updates that no epoch changes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from usepcli import registry
from usepcli.errors import ConfigError
from usepcli.models.separator import SeparationModel
from usepcli.objectives.remixing import RemixIT, SelfRemixing
from usepcli.objectives.teacher import FAST, Teacher

SNR = registry.load("loss", "snr")
KEY = "objective.teacher_half_life_updates"


class Gain(SeparationModel):
    """One weight, so that a share of the teacher can be read off it."""

    def __init__(self) -> None:
        super().__init__(n_src=2, sample_rate=8000, hop=1)
        self.gain = nn.Parameter(torch.ones((), dtype=torch.float64))

    def estimate(self, mix: Tensor) -> Tensor:
        return torch.stack([mix, mix], 1) * self.gain


def left_over(teacher: Teacher, student: Gain, updates: int, per_epoch: int) -> float:
    """Return what is left of the teacher's own start, 1, after updates towards a student of 0."""
    teacher.steps_per_epoch = per_epoch
    with torch.no_grad():
        student.gain.zero_()
    for update in range(1, updates + 1):
        teacher.on_step_end(student)
        if update % per_epoch == 0:
            teacher.on_epoch_end(student)
    return float(teacher.network.gain)


@pytest.mark.parametrize("protocol", ["ema_step", "ema_epoch", "ema_period"])
@pytest.mark.parametrize("per_epoch", [1, 10, 25, 50])
def test_half_of_the_teacher_is_gone_after_the_half_life_whatever_an_epoch_holds(protocol: str, per_epoch: int) -> None:
    student = Gain()
    teacher = Teacher(student, protocol, 0.8, 2 if protocol == "ema_period" else 1, "copy", half_life_updates=50)
    # Float32 inside an average: 100 roundings of 6e-8 at most.
    assert left_over(teacher, student, 100, per_epoch) == pytest.approx(0.25, abs=1e-5)
    assert teacher.half_life() == 50


def test_the_small_profiles_follow_as_the_readmes_runs_did_on_sets_of_any_size() -> None:
    for per_epoch in (10, 500):
        student = Gain()
        teacher = Teacher(student, "ema_step", 0.8, 1, "copy", half_life_updates=3289)
        assert left_over(teacher, student, 500, per_epoch) == pytest.approx(0.9, abs=1e-4)


def test_the_papers_rule_is_per_epoch() -> None:
    student = Gain()
    teacher = Teacher(student, "ema_step", 0.9, 1, "copy")
    # 50 epochs of 10: 0.9^50 = 0.005 per 500 updates.
    assert left_over(teacher, student, 500, 10) == pytest.approx(0.9**50, abs=1e-5)
    assert teacher.half_life() == pytest.approx(10 * math.log(0.5) / math.log(0.9))


@pytest.mark.parametrize(("ema", "expected"), [(0.0, 0.0), (1.0, math.inf)])
def test_the_ends_of_the_range_have_half_lives(ema: float, expected: float) -> None:
    assert Teacher(Gain(), "ema_epoch", ema, 1, "copy").half_life() == expected


@pytest.mark.parametrize("kind", [RemixIT, SelfRemixing])
def test_a_teacher_that_follows_too_fast_is_told_before_training(kind: type[RemixIT]) -> None:
    fast = kind(Gain(), SNR())
    fast.on_start(10)
    (line,) = fast.notes()
    assert "half of itself in 31 updates (objective.ema 0.8 per epoch of 10 updates)" in line and KEY in line
    for options, per_epoch in (
        ({}, 1048),
        ({"teacher_half_life_updates": float(FAST)}, 10),
        ({"teacher": "static"}, 10),
    ):
        slow = kind(Gain(), SNR(), **options)
        slow.on_start(per_epoch)
        assert not slow.notes()
    told = kind(Gain(), SNR(), teacher_half_life_updates=100.0)
    told.on_start(10)
    assert "in 100 updates; with fewer" in told.notes()[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"teacher_half_life_updates": -1.0}, f"{KEY}: found -1.0; expected updates, or 0"),
        ({"teacher_half_life_updates": math.inf}, f"{KEY}: found inf"),
        ({"teacher_half_life_updates": 5.0, "teacher": "static"}, f"{KEY}: found 5 with objective.teacher 'static'"),
        ({"teacher_half_life_updates": 5.0, "teacher": "sequential"}, "keeps no average; set it to 0"),
        (
            {"teacher_half_life_updates": 5.0, "ema": 0.9},
            "objective.ema: found 0.9 per epoch beside .* give one of them",
        ),
    ],
)
def test_a_half_life_that_no_rule_reads_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RemixIT(Gain(), SNR(), **options)  # type: ignore[arg-type]
