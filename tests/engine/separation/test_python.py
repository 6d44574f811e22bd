"""`Separator.separate_file`: the command's own names, tables and refusals, from Python."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from usepcli import How, Separator
from usepcli.audio import io
from usepcli.cli.app import app
from usepcli.errors import BadInput, InputNotFound, OutputError, UsageError
from usepcli.files import sha256


@pytest.fixture(scope="module")
def separator() -> Separator:
    return Separator.load("default", "cpu", threads=1)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    wave = np.random.default_rng(0).uniform(-0.3, 0.3, (1, 12000)).astype(np.float32)
    io.write(tmp_path / "a.wav", wave, 8000)
    return tmp_path / "a.wav"


def settings(out: Path) -> list[str]:
    with open(out / "outputs.csv", encoding="utf-8") as file:
        return [row["settings"] for row in csv.DictReader(file)]


def test_it_does_what_the_command_does(tmp_path: Path, separator: Separator, recording: Path):
    made = separator.separate_file(str(recording), str(tmp_path / "python"))
    assert made.outputs == [str(tmp_path / f"python/a_{k}.wav") for k in (1, 2)] and made.null_db == -np.inf
    line = ["separate", str(recording), "-o", str(tmp_path / "command"), "--threads", "1"]
    assert CliRunner().invoke(app, line).exit_code == 0
    for k in (1, 2):
        assert sha256(tmp_path / f"python/a_{k}.wav") == sha256(tmp_path / f"command/a_{k}.wav")
    assert settings(tmp_path / "python") == settings(tmp_path / "command")
    assert separator.separate_file(recording, tmp_path / "command").resumed  # either goes on where the other ended


def test_what_is_wrong_is_raised(tmp_path: Path, separator: Separator, recording: Path):
    with pytest.raises(InputNotFound, match="no such file"):
        separator.separate_file(tmp_path / "b.wav", tmp_path / "o")
    with pytest.raises(BadInput, match="one sound file"):
        separator.separate_file(tmp_path, tmp_path / "o")
    with pytest.raises(UsageError, match="format"):
        separator.separate_file(recording, tmp_path / "o", form="wax")
    (tmp_path / "c.wav").write_bytes(b"no sound")
    with pytest.raises(BadInput, match="no sound file"):
        separator.separate_file(tmp_path / "c.wav", tmp_path / "o")
    separator.separate_file(recording, tmp_path / "o")
    with pytest.raises(OutputError, match="other settings"):
        separator.separate_file(recording, tmp_path / "o", How(rest="leave"))
    kept = separator.separate_file(recording, tmp_path / "o", How(rest="source"), overwrite=True)
    assert [Path(path).name for path in kept.outputs] == ["a_1.wav", "a_2.wav", "a_residual.wav"]
    bare = Separator(separator.model)
    with pytest.raises(UsageError, match="load"):
        bare.separate_file(recording, tmp_path / "o")
