from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from usepcli import files
from usepcli.errors import OutputError


def test_a_folder_is_tried_and_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "kept").touch()
    for folder in (tmp_path / "there", tmp_path / "new" / "deeper"):
        files.tried(folder)
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(OutputError, match="cannot be made or written"):
            files.tried(folder)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        files.tried(tmp_path / "new" / "deeper")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["file", "there", "there/kept"]
