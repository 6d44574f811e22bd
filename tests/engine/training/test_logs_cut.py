"""Logs are cut behind the last step of a state, by their bytes where they are in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from usepcli.engine import tables
from usepcli.engine.training import runfolder
from usepcli.engine.training.runfolder import RunFolder

HEAD = "step,epoch,loss\n"


@pytest.mark.parametrize(
    ("text", "kept", "whole"),
    [
        ("10,0,1.5\n20,0,nan\n30,0,\n", "10,0,1.5\n20,0,nan\n", False),
        ("10,0,1.5\n20,0,2\n", "10,0,1.5\n20,0,2\n", False),
        ("10,0,1.5\n20,0,2\n30,0,1", "10,0,1.5\n20,0,2\n", False),  # torn
        ("10,0,1.5\n20,0,1", "10,0,1.5\n", False),
        ("30,0,1.5\n", "", False),
        ("", "", False),
        ("10,0,1.5\n30,0,2\n20,0,3\n", "10,0,1.5\n20,0,3\n", True),  # another order
        ('10,0,"1.5"\n30,0,2\n', "10,0,1.5\n", True),
        ("10,0,1.5\n20\n", "10,0,1.5\n", True),
    ],
)
def test_rows_behind_a_step_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, kept: str, whole: bool
) -> None:
    file, read = tmp_path / "train.csv", list[Path]()
    load = tables.load
    monkeypatch.setattr(tables, "load", lambda path, *more, **how: (read.append(path), load(path, *more, **how))[1])
    file.write_text(HEAD + text, encoding="utf-8")
    RunFolder(tmp_path, take=False).cut_logs(20)
    assert (file.read_text("utf-8") if file.exists() else "") == (HEAD + kept if kept else "")
    assert (file in read) == whole
    assert runfolder._end(tmp_path / "none.csv", 20) is None
