"""`usep pull` as a user meets it: a folder as a maker lays it out, and a recording separated under its name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from usepcli.audio import io
from usepcli.cli.app import app

RUNNER = CliRunner()
STORED = Path(__file__).resolve().parent.parent / "engine" / "exchange" / "foreign"


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("USEP_MODELS", raising=False)
    monkeypatch.chdir(tmp_path)


def theirs(folder: Path, name: str = "convtasnet") -> None:
    folder.mkdir()
    (folder / "pytorch_model.bin").write_bytes((STORED / f"{name}.pth").read_bytes())
    (folder / "README.md").write_text("---\nlicense: cc-by-sa-4.0\n---\n")


def test_pull_info_and_separate_by_name(tmp_path: Path):
    theirs(tmp_path / "toy_net")
    done = RUNNER.invoke(app, ["pull", "./toy_net", "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert (facts["name"], facts["architecture"], facts["outputs"]) == ("toy_net", "convtasnet", 2)
    assert "Not for commercial use" in done.stderr
    told = json.loads(RUNNER.invoke(app, ["info", "toy_net", "--json"]).stdout)
    assert told["licences"]["weights"] == "cc-by-sa-4.0" and told["pulled"]["files"] == facts["files"]
    io.write(tmp_path / "in.wav", np.random.default_rng(0).normal(0, 0.1, 4003).astype(np.float32), 8000, "FLOAT")
    done = RUNNER.invoke(app, ["separate", "in.wav", "-o", "out", "--model", "toy_net"])
    assert done.exit_code == 0 and len(list((tmp_path / "out").glob("*.wav"))) == 2, done.output
    assert "Not for commercial use" in done.stderr
    said = " ".join(done.stderr.split())
    assert "was imported from a checkpoint of asteroid ConvTasNet; it learned from Toy2Mix sep_clean." in said


def test_what_nobody_states_is_asked_for_and_said(tmp_path: Path):
    theirs(tmp_path / "bare", "dprnn")
    (tmp_path / "bare" / "README.md").unlink()
    done = RUNNER.invoke(app, ["pull", "./bare"])
    assert done.exit_code == 0 and "(--licence)" in done.stderr and "(--licence-weights)" in done.stderr
    words = ["--licence", "CC0-1.0", "--licence-weights", "MIT", "--training-data", "toys", "--overwrite", "--json"]
    done = RUNNER.invoke(app, ["pull", "./bare", *words])
    facts = json.loads(done.stdout)
    assert (facts["licence"], facts["training_data"], facts["state"]) == ("CC0-1.0", "toys", "replaced")
    assert facts["licences"] == {"code": "MIT", "weights": "MIT"} and "licence" not in done.stderr


def test_names_of_public_models_complete():
    from usepcli.cli.pull import _repos

    assert "speechbrain/sepformer-wham" in _repos("speechbrain/") and _repos("nobody/") == []
