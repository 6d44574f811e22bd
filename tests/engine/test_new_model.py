"""A new model is one file and one line of the registry: a recurrent one, from its profile to its exported stream."""

from __future__ import annotations

import csv
import math
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from usepcli import registry
from usepcli.audio import io
from usepcli.engine.exchange import export
from usepcli.engine.training import states
from usepcli.engine.training.train import Trainer
from usepcli.profile.faults import ProfileError
from usepcli.profile.load import load_profile
from usepcli.separator.separator import Separator

PARTS = Path(__file__).resolve().parents[1] / "parts"
MODEL = "model: {name: recurrent_net, preset: tiny, n_src: 2, sample_rate: 8000, hidden: 24}"


@pytest.fixture(autouse=True)
def _one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PARTS))
    monkeypatch.setitem(registry.MODELS, "recurrent_net", "recurrent_net:RecurrentNet")


@pytest.fixture
def profile(profile_file: Path) -> Path:
    profile_file.write_text(re.sub(r"model: \{.*\}", MODEL, profile_file.read_text()))
    return profile_file


def test_a_new_model_trains_validates_separates_streams_and_travels(
    profile: Path, corpus: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    Trainer(load_profile(str(profile), ["train.epochs=2", "optim.lr=1e-2"]), run).fit()
    with open(run / "valid.csv", newline="") as file:
        scores = [float(row["si-snri"]) for row in csv.DictReader(file)]
    assert len(scores) == 2 and all(map(math.isfinite, scores))
    separator = Separator.load(run / "best.safetensors", device="cpu")
    assert separator.model.live and separator.model.gru.hidden_size == 24
    wave, rate = io.read_mono(corpus.parent / "valid" / "000" / "mix.wav")
    wave = wave.astype(np.float32)
    whole = separator(wave, rate).sources
    live = separator.live(rate)
    pieces = [live.push(wave[at : at + 100]) for at in range(0, len(wave), 100)]
    sources = np.concatenate([*pieces, live.finish()], axis=1)
    assert sources.shape == whole.shape == (2, len(wave)) and live.latency_s == 16 / 8000
    # One chunk holds the whole recording: both ways ask the model for the same.
    assert np.abs(sources - whole).max() <= 1e-5 * np.abs(whole).max()
    facts = export.export(str(run / "best.safetensors"), tmp_path / "new.pt2", "torch-export", live=True)
    assert facts["max_difference"] < 1e-5 and [each["input"] for each in facts["state"]] == ["heard", "inner.cell"]


PROGRAM = f"""
import sys
sys.path.insert(0, {str(PARTS)!r})
from usepcli import registry
registry.MODELS["recurrent_net"] = "recurrent_net:RecurrentNet"
from usepcli.cli.app import main
main()
"""


@pytest.mark.slow  # what resumes is the engine, with any model
def test_killed_and_resumed_it_is_equal_bit_by_bit(profile: Path, tmp_path: Path, until: Callable[..., Any]) -> None:
    def command(run: Path) -> list[str]:
        return [sys.executable, "-c", PROGRAM, "train", "--profile", str(profile), "-o", str(run)]

    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    run, log = tmp_path / "killed", tmp_path / "killed" / "train.csv"
    with subprocess.Popen(command(run), stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: (log.exists() and log.read_bytes().count(b"\n") > 5) or process.poll() is not None, "step 5")
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL, "training ended before it could be killed"
    subprocess.run(command(run), check=True, capture_output=True)
    ends = [states.load_state(tmp_path / name / "last.ckpt")["objective"] for name in ("whole", "killed")]
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())


def test_its_signature_is_the_schema(profile: Path) -> None:
    with pytest.raises(ProfileError, match="hiden"):
        load_profile(str(profile), ["model.hiden=8"])
