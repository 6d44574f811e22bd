"""usep profiles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from usepcli.cli.app import app

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "mine.yaml").write_text("about: 'one line: mine'\n")


def test_one_line_each():
    lines = RUNNER.invoke(app, ["profiles"]).stdout.splitlines()
    assert lines[0].split() == ["name", "about"]
    assert [line for line in lines if line.split() == ["mine", "one", "line:", "mine"]]
    names = [line.split()[0] for line in lines[1:]]
    assert names == sorted(names)


def test_json_has_the_path():
    found = {row["name"]: row for row in json.loads(RUNNER.invoke(app, ["profiles", "--json"]).stdout)}
    assert found["mine"] == {"name": "mine", "about": "one line: mine", "path": "profiles/mine.yaml"}
