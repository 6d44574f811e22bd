"""usep models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from usepcli.cli.app import app
from usepcli.engine import checkpoint

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def _one_model(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "released", lambda: {"toy": model_file})


def test_table():
    head, line = RUNNER.invoke(app, ["models"]).stdout.splitlines()
    assert head.split() == ["name", "sample_rate", "outputs", "parameters", "score", "licence"]
    assert line.split()[:3] == ["toy", "8000", "2"]
    assert "7.5 si-snri (toy test)" in line and line.endswith("CC0-1.0")


def test_json(model_file: Path):
    (found,) = json.loads(RUNNER.invoke(app, ["models", "--json"]).stdout)
    assert found["parameters"] == checkpoint.load_model(model_file)[0].n_params
    assert found["scores"][0]["protocol"] == "mean over sources"
    assert found["path"] == str(model_file)


def test_none_released(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checkpoint, "released", dict)
    done = RUNNER.invoke(app, ["models", "--json"])
    assert (done.exit_code, json.loads(done.stdout)) == (0, [])
    assert RUNNER.invoke(app, ["models"]).exit_code == 0
