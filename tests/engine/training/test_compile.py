"""A training whose network is compiled learns what one that is not learns, and says where it cannot be."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from usepcli import device
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


@pytest.mark.slow  # a minute of compiling
@pytest.mark.filterwarnings("default")  # what the compiler says of complex numbers, and of its own parts
def test_a_compiled_training_learns_the_same(
    profile_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        device.check_compiles(torch.device("cpu"))
    except MissingDependency as fault:
        pytest.skip(str(fault))
    runs = {name: tmp_path / name for name in ("true", "false")}
    for name, run in runs.items():
        Trainer(load_profile(str(profile_file), sets=[*SETS, f"train.compile={name}"]), run).fit()
    assert capsys.readouterr().err.count("the network is compiled in the first step of every start") == 1
    assert losses(runs["true"]) == pytest.approx(losses(runs["false"]), rel=1e-3, abs=1e-3)
    # What was compiled is stored as any other model, and a run goes on without.
    whole, plain = (store.read_weights(run / "best.safetensors") for run in (runs["true"], runs["false"]))
    assert whole.keys() == plain.keys()
    Trainer(load_profile(str(profile_file), sets=[*SETS, "train.max_steps=4", "train.epochs=2"]), runs["true"]).fit()
    assert len(losses(runs["true"])) == 4
