"""Adversarial PIT from the command line: what stops before the first step, and a run with its figures."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from usepcli.cli.app import app
from usepcli.engine.training import states
from usepcli.errors import BadInput, Diverged, UsepError

RUN = """\
model: {name: unet_mask, preset: tiny, n_src: 2}
loss: {name: log_mse}
objective: {name: adversarial_pit, critics: [ctx_stft, inst_wave]}
optim: {name: adam, lr: 1.0e-3, groups: {inst_wave: {lr: 1.0e-4}}}
"""


@pytest.fixture
def profile(profile_file: Path, tmp_path: Path) -> Path:
    """The tiny profile with another model and adversarial PIT."""
    path = tmp_path / "adversarial.yaml"
    kept = [
        line for line in profile_file.read_text().splitlines() if not line.startswith(("model", "optim", "obj", "loss"))
    ]
    path.write_text("\n".join(kept) + "\n" + RUN)
    return path


def train(profile: Path, tmp_path: Path, *sets: str):
    words = [word for one in sets for word in ("--set", one)]
    return CliRunner().invoke(app, ["train", "--profile", str(profile), "-o", str(tmp_path / "run"), *words])


def test_a_run_logs_the_health_of_every_critic(profile: Path, tmp_path: Path):
    found = train(profile, tmp_path, "train.max_steps=2", "train.log_every=1")
    assert found.exit_code == 0, found.exception
    rows = list(csv.DictReader((tmp_path / "run" / "train.csv").read_text().splitlines()))
    assert len(rows) == 2
    for name in ("ctx_stft", "inst_wave"):
        assert {
            f"{what}_{name}" for what in ("real", "fake", "accuracy", "silent", "grad_norm", "loss", "fool")
        } <= set(rows[0])
    assert {"pit", "pit_weight", "adversarial", "pit_weighed", "snr_db"} <= set(rows[0])
    assert (tmp_path / "run" / "best_ctx_stft.safetensors").exists()


@pytest.mark.parametrize(("rate", "patience"), [("1.0e+3", 3), ("1.0e+30", 1)])
def test_a_critic_that_diverges_is_named_and_the_separator_saved(
    profile: Path, tmp_path: Path, rate: str, patience: int
):
    """Its first step is finite: what it says from then on is without bound, or without a number."""
    sets = [f"optim.groups.inst_wave.lr={rate}", f"train.nonfinite_patience={patience}", "train.max_steps=9"]
    found = train(profile, tmp_path, *sets)
    assert isinstance(found.exception, Diverged) and found.exception.code == 3
    assert f"{patience} steps of inst_wave in a row were not finite" in str(found.exception)
    state = states.load_last(tmp_path / "run").state
    assert state is not None
    kept = {k: v for k, v in state["objective"].items() if k.startswith("student.")}
    assert kept and all(torch.isfinite(v).all() for v in kept.values())


def test_more_sources_than_outputs_are_told_before_the_first_step(profile: Path, tmp_path: Path):
    found = train(profile, tmp_path, "model.n_src=1", "objective.critics=[inst_wave]")
    assert isinstance(found.exception, BadInput) and "2 references for 1 outputs" in str(found.exception)
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("set_", "said"),
    [
        ("objective.critics=[ctx_wave_2]", "2 of 2 sources replaced"),
        ("objective.critics=[ctx_phase]", "unknown domain 'phase'"),
        ("objective.critics=[inst_wave] objective.critic_s=2.5", "critics for 2.5 s, and data.segment_s is"),
        ("optim.groups.ctx_mask.lr=1.0e-3", "optim.groups.ctx_mask"),
        ("optim.groups.inst_wave.lr=1.0e+38", "optim.groups.inst_wave.lr: found 1e+38"),
    ],
)
def test_bad_settings_end_before_the_first_step(profile: Path, tmp_path: Path, set_: str, said: str):
    found = train(profile, tmp_path, *set_.split())
    assert isinstance(found.exception, UsepError) and found.exception.code == 78, found
    assert said in str(found.exception)
    assert not (tmp_path / "run" / "train.csv").exists()
