"""The commands as functions, and a released model and a run, made on the spot."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest


class Answer(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Callable[..., Answer]]:
    """Give `usep NAME ... ALWAYS` as a function that runs it as a shell would, in an empty folder."""
    from usepcli.cli.app import main

    monkeypatch.chdir(tmp_path)

    def of(name: str, *always: object) -> Callable[..., Answer]:
        def run(*arguments: object) -> Answer:
            monkeypatch.setattr(sys, "argv", ["usep", name, *map(str, (*arguments, *always))])
            code = 0
            try:
                main()
            except SystemExit as stop:
                code = int(stop.code or 0)
            return Answer(code, *capsys.readouterr())

        return run

    return of


@pytest.fixture
def separating(command: Callable[..., Callable[..., Answer]], tmp_path: Path) -> Callable[..., Answer]:
    """Run `usep separate ...` with an untrained but mixture-consistent model, in an empty folder."""
    import torch

    from usepcli.weights import build, cards, store

    torch.manual_seed(0)
    model = build.model(
        {"name": "conformer_mask", "preset": "tiny", "n_src": 2, "sample_rate": 8000, "consistency": "uniform"}
    )
    card = cards.Card(name="toy", model=model.config, sample_rate=8000, n_src=2)
    store.save_model(tmp_path / "toy.safetensors", model.state_dict(), card)
    return command("separate", "--model", "toy.safetensors")


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """An untrained tiny Conformer with a full card."""
    from usepcli.weights import build, cards, store

    model = build.model({"name": "conformer_mask", "preset": "tiny"})
    score = {"metric": "si-snri", "value": 7.5, "n": 3, "data": "toy test", "protocol": "mean over sources"}
    card = cards.Card(
        name="toy", about="a toy", model=model.config, sample_rate=model.sample_rate, n_src=model.n_src,
        objective="pit", training_data="toys", licence="CC0-1.0", credits="nobody", scores=[score], steps=12,
    )  # fmt: skip
    path = tmp_path / "models" / "toy.safetensors"
    store.save_model(path, model.state_dict(), card)
    return path


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run that was stopped before its first validation."""
    from usepcli.engine.training import states

    folder = tmp_path / "run"
    folder.mkdir()
    states.save_state(folder / "last.ckpt", {"step": 40, "epoch": 2, "best": 1.5, "skipped": 1, "seconds": 9.0})
    profile = {
        "model": {"name": "conformer_mask", "preset": "tiny"}, "objective": {"name": "mixit"},
        "data": {"manifest": "data/two", "pool": ["data/more"]}, "licence": "CC0-1.0", "credits": "nobody",
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps({"profile": profile}))
    return folder
