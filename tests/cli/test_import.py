"""`usep import` as a user meets it: a foreign checkpoint in, a model that separates out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from usepcli.audio import io
from usepcli.cli.app import app

RUNNER = CliRunner()
STORED = Path(__file__).resolve().parent.parent / "engine" / "exchange" / "foreign"


def test_import_info_and_separate(tmp_path: Path):
    own = tmp_path / "own.safetensors"
    done = RUNNER.invoke(app, ["import", str(STORED / "convtasnet.pth"), "-o", str(own), "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert (facts["architecture"], facts["outputs"], facts["sample_rate"]) == ("convtasnet", 2, 8000)
    assert "CC BY-NC 4.0" in facts["licence"] and "licence of the weights" in done.stderr
    told = json.loads(RUNNER.invoke(app, ["info", str(own), "--json"]).stdout)
    assert told["sha256"] == facts["sha256"] and told["parameters"] == facts["parameters"]
    assert "asteroid ConvTasNet" in told["origin"] and told["licence"] == facts["licence"]
    assert told["licences"] == {"training data": told["licence"], "code": "MIT", "weights": "unstated"}
    assert told["barred"].startswith("Not for commercial use: what it learned from")
    wave = np.random.default_rng(0).normal(0, 0.1, 4003).astype(np.float32)
    io.write(tmp_path / "in.wav", wave, 8000, "FLOAT")
    arguments = ["separate", str(tmp_path / "in.wav"), "-o", str(tmp_path / "out"), "-m", str(own)]
    done = RUNNER.invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "Not for commercial use" in done.stderr
    assert len(list((tmp_path / "out").glob("*.wav"))) == 2


def test_a_note_where_the_licence_is_unstated(tmp_path: Path):
    done = RUNNER.invoke(app, ["import", str(STORED / "dprnn.pth"), "-o", str(tmp_path / "own.safetensors")])
    assert done.exit_code == 0 and "unstated" in done.stdout and "--licence" in done.stderr


def test_options_reach_a_torchaudio_model(tmp_path: Path):
    theirs = pytest.importorskip("torchaudio.models").ConvTasNet(2, 16, 8, 3, 8, 8, 3, 1, "relu")
    torch.save(theirs.state_dict(), tmp_path / "theirs.pt")
    options = ["--sample-rate", "16000", "--mask", "relu", "--blocks", "3", "--licence", "CC0-1.0", "--name", "n"]
    options += ["--training-data", "toys"]
    own = tmp_path / "own.safetensors"
    done = RUNNER.invoke(app, ["import", str(tmp_path / "theirs.pt"), "-o", str(own), *options])
    assert done.exit_code == 0, done.output
    told = json.loads(RUNNER.invoke(app, ["info", str(own), "--json"]).stdout)
    assert (told["name"], told["licence"], told["training_data"]) == ("n", "CC0-1.0", "toys")
    assert (told["sample_rate"], told["settings"]["mask"], told["settings"]["blocks"]) == (16000, "relu", 3)


@pytest.mark.parametrize(
    ("content", "arguments", "code"),
    [(b"no model", [], 65), (None, [], 66), (b"", ["--kind", "nemo"], 2)],
)
def test_exit_codes(content: bytes | None, arguments: list[str], code: int, tmp_path: Path):
    path = tmp_path / "theirs.pt"
    if content is not None:
        path.write_bytes(content)
    done = RUNNER.invoke(app, ["import", str(path), "-o", str(tmp_path / "own.safetensors"), *arguments])
    assert done.exception is not None and done.exception.code == code
    assert not (tmp_path / "own.safetensors").exists()
