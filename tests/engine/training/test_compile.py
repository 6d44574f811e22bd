"""A training whose network is compiled learns what one that is not learns, and says where it cannot be."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from usepcli.engine.training.plan import plan
from usepcli.engine.training.train import Trainer
from usepcli.errors import MissingDependency
from usepcli.profile.load import load_profile
from usepcli.weights import store

# A compiled network draws other numbers for its dropout.
SETS = ["model.dropout=0", "train.max_steps=3", "train.epochs=1", "train.log_every=1", "valid.mom_pairs=0"]


def losses(run: Path) -> list[float]:
    with open(run / "train.csv", newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_where_torch_cannot_compile_no_step_is_taken(
    profile_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiler(*_: object, **__: object) -> object:
        raise RuntimeError("\nNo working C++ compiler found")

    monkeypatch.setattr(torch, "compile", compiler)
    profile = load_profile(str(profile_file), sets=[*SETS, "train.compile=true"])
    for begin in (lambda: Trainer(profile, tmp_path / "run"), lambda: plan(profile)):
        with pytest.raises(MissingDependency, match=r"train.compile: torch cannot compile for cpu \(No working C\+\+"):
            begin()
    assert not (tmp_path / "run" / "train.csv").exists()
    Trainer(load_profile(str(profile_file), sets=SETS), tmp_path / "run").fit()  # not asked for: nothing is tried


def train(profile: Path, run: Path, *sets: str) -> str:
    """Train in a process of its own, since the compiler's threads would forbid this one to fork; return its stderr."""
    words = [sys.executable, "-m", "usepcli", "train", "--profile", str(profile), "-o", str(run)]
    for each in (*SETS, *sets):
        words += ["--set", each]
    done = subprocess.run(words, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True)
    if done.returncode == MissingDependency.code:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.slow  # a minute of compiling
def test_a_compiled_training_learns_the_same(profile_file: Path, tmp_path: Path) -> None:
    runs = {name: tmp_path / name for name in ("true", "false")}
    said = {name: train(profile_file, run, f"train.compile={name}") for name, run in runs.items()}
    told = "the network is compiled in the first step of every start"
    assert told in said["true"] and told not in said["false"]
    made, meant = (losses(run) for run in (runs["true"], runs["false"]))
    assert made[0] == pytest.approx(meant[0], rel=1e-4)
    # Adam's first steps are as large for gradients near zero, whose sign rounding may turn, as for all others.
    assert made == pytest.approx(meant, abs=0.05)
    # What was compiled is stored as any other model, and a run goes on without.
    whole, plain = (store.read_weights(run / "best.safetensors") for run in (runs["true"], runs["false"]))
    assert whole.keys() == plain.keys()
    train(profile_file, runs["true"], "train.max_steps=4", "train.epochs=2")
    assert len(losses(runs["true"])) == 4
