"""usep models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from usepcli.cli.app import app
from usepcli.weights import reach, store

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def _one_model(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The file lies in ./models too, hidden by the name that ships.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path / "models")
    monkeypatch.setattr(reach, "released", lambda: {"toy": model_file})


def test_table():
    head, line = RUNNER.invoke(app, ["models"]).stdout.splitlines()
    assert head.split() == [
        "name", "sample_rate", "outputs", "parameters", "mbytes", "licence", "about", "score",
    ]  # fmt: skip
    assert line.split()[:3] == ["toy", "8000", "2"] and " CC0-1.0 " in line
    assert line.endswith("si-snri 7.5 (mean over sources; toy test)")


def test_models_of_folders_and_what_they_hide(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "cache" / "usep" / "models"
    folder.mkdir(parents=True)
    shutil.copy(model_file, folder / "mine.safetensors")
    shutil.copy(model_file, folder / "toy.safetensors")
    (folder / "other.safetensors").write_bytes(b"nonsense")
    done = RUNNER.invoke(app, ["models", "--json"])
    assert done.exit_code == 0
    assert {row["name"]: row["path"] for row in json.loads(done.stdout)} == {
        "toy": str(model_file), "mine": str(folder / "mine.safetensors"),
    }  # fmt: skip
    assert f"{folder / 'toy.safetensors'} is hidden by {model_file}" in done.stderr
    assert "left out" in done.stderr and "other.safetensors" in done.stderr
    facts = json.loads(RUNNER.invoke(app, ["info", "toy", "--json"]).stdout)
    assert (facts["file"], facts["hides"]) == (str(model_file), [str(folder / "toy.safetensors")])


def test_json(model_file: Path):
    (found,) = json.loads(RUNNER.invoke(app, ["models", "--json"]).stdout)
    assert found["parameters"] == store.load_model(model_file)[0].n_params
    assert found["scores"][0]["protocol"] == "mean over sources"
    assert found["path"] == str(model_file)


def test_none_released(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reach, "released", dict)
    done = RUNNER.invoke(app, ["models", "--json"])
    assert (done.exit_code, json.loads(done.stdout)) == (0, [])
    assert RUNNER.invoke(app, ["models"]).exit_code == 0
