"""Training with a teacher: it goes on where it was left, follows by steps, comes from a file, and learns."""

from __future__ import annotations

import copy
import csv
import json
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
    ["objective.name=mixcycle", "objective.init_updates=9"],
    ["objective.name=remixit", "objective.teacher=ema_epoch", "objective.teacher_half_life_updates=9"],
    ["objective.name=sup_remixit", "model.n_src=3"],
    ["objective.name=mixit", "objective.supervised_fraction=0.3", "model.n_src=4", "train.accumulate=2"],
]


@pytest.mark.parametrize("sets", OBJECTIVES, ids=lambda sets: "-".join(word.split("=")[1] for word in sets))
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


def test_a_half_life_is_counted_in_updates_not_in_epochs(profile_file: Path, tmp_path: Path) -> None:
    kept = {}
    for batch, epochs in ((4, 2), (12, 6)):  # six updates an epoch, and two
        run = trainer(
            profile_file, tmp_path / str(batch), "objective.name=remixit", "objective.teacher=ema_step",
            "objective.teacher_half_life_updates=6", f"train.batch_size={batch}", f"train.epochs={epochs}",
            "optim.lr=1e-30", "valid.every_epochs=9",
        )  # fmt: skip
        before, student = copy.deepcopy(run.objective.teacher.state_dict()), run.objective.student.state_dict()
        run.fit()
        after = run.objective.teacher.state_dict()
        key = max((k for k in before if before[k].is_floating_point()), key=lambda k: (before[k] - student[k]).norm())
        kept[batch] = float((after[key] - student[key]).norm() / (before[key] - student[key]).norm())
    assert kept[4] == pytest.approx(0.25, abs=1e-4) and kept[12] == pytest.approx(0.25, abs=1e-4)


def test_a_run_of_an_earlier_version_goes_on_with_what_it_began_with(profile_file: Path, tmp_path: Path) -> None:
    sets = ("objective.name=mixcycle", "objective.init_epochs=1", "train.epochs=2")
    for place in ("whole", "parts"):
        until = () if place == "whole" else ("train.max_steps=8",)
        trainer(profile_file, tmp_path / place, *sets, *until, "objective.shuffle=free").fit()
    # What it was recorded as: without the defaults, among which the free shuffle was.
    record = tmp_path / "parts" / "run.json"
    facts = json.loads(record.read_text())
    del facts["defaults"], facts["profile"]["objective"]["shuffle"]
    record.write_text(json.dumps(facts))
    with pytest.raises(ConfigError, match=r"objective\.shuffle: 'free' then, 'constrained' now.*--set"):
        trainer(profile_file, tmp_path / "parts", *sets)
    # A key that came since, set to its default, is no other setting.
    again = trainer(
        profile_file, tmp_path / "parts", *sets, "objective.shuffle=free", "objective.init_updates=0", "valid.limit=2"
    )
    again.fit()
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_a_setting_of_a_part_that_came_since_stands_at_its_default(profile_file: Path, tmp_path: Path) -> None:
    run = ("objective.name=mixit", "model.n_src=4")
    trainer(profile_file, tmp_path / "run", *run, "train.max_steps=2").fit()
    record = tmp_path / "run" / "run.json"
    facts = json.loads(record.read_text())
    del facts["defaults"]["model.look_back"]
    record.write_text(json.dumps(facts))
    trainer(profile_file, tmp_path / "run", *run, "train.max_steps=3").fit()
    record.write_text(json.dumps(facts))
    with pytest.raises(ConfigError, match=r"model\.look_back: 0 then, 5 now.*--set"):
        trainer(profile_file, tmp_path / "run", *run, "model.look_back=5")


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
