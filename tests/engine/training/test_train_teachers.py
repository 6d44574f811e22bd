"""Training with a teacher: it goes on where it was left, follows by steps, comes from a file, and learns."""

from __future__ import annotations

import copy
import csv
from pathlib import Path

import pytest
import torch

from usepcli.engine.training.train import Trainer
from usepcli.errors import BadInput, ConfigError, InputNotFound, UsepError
from usepcli.profile.load import load_profile
from usepcli.weights import store


def losses(run: Path) -> list[tuple[str, str]]:
    with open(run / "train.csv", newline="") as file:
        return [(row["step"], row["loss"]) for row in csv.DictReader(file)]


def trainer(profile: Path, run: Path, *sets: str, force: bool = False) -> Trainer:
    return Trainer(load_profile(str(profile), list(sets)), run, force)


OBJECTIVES = [
    ["objective.name=remixit", "objective.teacher=ema_step", "objective.ema=0.5"],
    ["objective.name=self_remixing", "objective.teacher=ema_epoch", "objective.shuffle=free"],
    ["objective.name=remixit", "objective.teacher=sequential", "objective.period=2"],
    ["objective.name=mixcycle", "objective.init_epochs=1"],
    ["objective.name=sup_remixit", "model.n_src=3"],
]


@pytest.mark.parametrize("sets", OBJECTIVES, ids=lambda sets: sets[0].split("=")[1])
def test_a_run_in_two_parts_is_the_run_in_one(profile_file: Path, tmp_path: Path, sets: list[str]) -> None:
    whole = trainer(profile_file, tmp_path / "whole", *sets)
    whole.fit()
    trainer(profile_file, tmp_path / "parts", *sets, "train.max_steps=8").fit()
    parts = trainer(profile_file, tmp_path / "parts", *sets)
    assert parts.resumed
    parts.fit()
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    state, other = whole.objective.state_dict(), parts.objective.state_dict()
    assert state.keys() == other.keys()
    assert all(torch.equal(state[key], other[key]) for key in state)


def test_the_teacher_follows_once_a_step_and_not_before_validation_of_its_epoch(
    profile_file: Path, tmp_path: Path
) -> None:
    run = trainer(profile_file, tmp_path / "run", *OBJECTIVES[0], "train.max_steps=1", "train.ema=0")
    before = copy.deepcopy(run.objective.teacher.state_dict())
    run.fit()
    # Six steps an epoch and 0.5 an epoch: 0.5 ** (1 / 6) a step.
    kept = 0.5 ** (1 / 6)
    student = run.objective.student.state_dict()
    for key, value in run.objective.teacher.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, kept * before[key] + (1 - kept) * student[key])


def test_a_stored_model_teaches_and_refines(profile_file: Path, tmp_path: Path) -> None:
    trainer(profile_file, tmp_path / "first", "objective.name=mixit", "model.n_src=4", "train.epochs=1").fit()
    taught = trainer(
        profile_file, tmp_path / "taught", "objective.name=ts_mixit", f"objective.teacher_model={tmp_path / 'first'}"
    )
    frozen = copy.deepcopy(taught.objective.teacher.state_dict())
    taught.fit()
    assert taught.objective.teacher.n_src == 4
    assert all(torch.equal(v, frozen[k]) for k, v in taught.objective.teacher.state_dict().items())
    # As refinement: student and teacher start from the stored weights, the optimiser and the schedule afresh.
    refined = trainer(
        profile_file, tmp_path / "refined", f"init_from={tmp_path / 'taught'}", "objective.name=self_remixing",
        "objective.teacher_init=copy",
    )  # fmt: skip
    stored = store.read_weights(tmp_path / "taught" / "best.safetensors")
    for module in (refined.objective.student, refined.objective.teacher):
        assert all(torch.equal(module.state_dict()[key], value) for key, value in stored.items())
    assert refined.step == 0
    assert refined.schedule.at(1) < 1e-3
    refined._close()


def test_a_batch_too_small_for_the_shuffle_is_refused(profile_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"raise train\.batch_size"):
        trainer(profile_file, tmp_path / "run", "objective.name=remixit", "train.accumulate=4")


@pytest.mark.parametrize(
    ("sets", "fault", "said"),
    [
        (
            ["objective.name=remixit", "objective.teacher_model=defualt"],
            InputNotFound,
            "objective.teacher_model: unknown",
        ),
        (
            ["objective.name=remixit", "objective.teacher_model={}/x.bin"],
            BadInput,
            "objective.teacher_model: .*readable",
        ),
        (["objective.name=pit", "init_from=runs/none"], InputNotFound, "init_from: runs/none: no such"),
        (["objective.name=ts_mixit"], ConfigError, "objective.teacher_model: empty, so that an untrained network"),
    ],
)
def test_what_a_run_cannot_begin_with_is_named_with_its_key(
    profile_file: Path, tmp_path: Path, sets: list[str], fault: type[UsepError], said: str
) -> None:
    (tmp_path / "x.bin").write_bytes(b"no weights")
    with pytest.raises(fault, match=f"^{said}"):
        trainer(profile_file, tmp_path / "run", *(item.format(tmp_path) for item in sets))


def test_a_copy_of_trained_weights_may_teach(
    profile_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer(profile_file, tmp_path / "first", "train.max_steps=1").fit()
    capsys.readouterr()
    run = trainer(
        profile_file,
        tmp_path / "run",
        "objective.name=ts_mixit",
        f"init_from={tmp_path / 'first'}",
        "train.max_steps=1",
    )
    student, teacher = run.student.state_dict(), run.objective.teacher.state_dict()
    assert all(torch.equal(student[key], teacher[key]) for key in student)
    # How much an untrained teacher alters its input is of no interest where it is trained.
    run.fit()
    assert "match its input" not in capsys.readouterr().err
