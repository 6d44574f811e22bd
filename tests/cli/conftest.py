"""A released model and a run, made on the spot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """An untrained tiny Conformer with a full card."""
    from usepcli.engine import build, checkpoint

    model = build.model({"name": "conformer_mask", "preset": "tiny"})
    score = {"metric": "si-snri", "value": 7.5, "n": 3, "data": "toy test", "protocol": "mean over sources"}
    card = checkpoint.Card(
        name="toy", about="a toy", model=model.config, sample_rate=model.sample_rate, n_src=model.n_src,
        objective="pit", training_data="toys", licence="CC0-1.0", credits="nobody", scores=[score], steps=12,
    )  # fmt: skip
    path = tmp_path / "models" / "toy.safetensors"
    checkpoint.save_model(path, model.state_dict(), card)
    return path


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run that was stopped before its first validation."""
    from usepcli.engine import checkpoint

    folder = tmp_path / "run"
    folder.mkdir()
    checkpoint.save_state(folder / "last.ckpt", {"step": 40, "epoch": 2, "best": 1.5, "skipped": 1, "seconds": 9.0})
    profile = {
        "model": {"name": "conformer_mask", "preset": "tiny"}, "objective": {"name": "mixit"},
        "data": {"manifest": "data/two", "pool": ["data/more"]}, "licence": "CC0-1.0", "credits": "nobody",
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps({"profile": profile}))
    return folder
