"""Files written whole: a failed write leaves nothing, neither file nor folder; names and records are read with care."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from usepcli import files
from usepcli.cli import _streams
from usepcli.errors import IOFault, OutputError


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
@pytest.mark.parametrize("there", [False, True])
def test_a_full_disk_leaves_no_file_and_no_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, there: bool
) -> None:
    path = tmp_path / "new" / "deep" / "a.json"
    if there:
        files.write_text(path, "before")
    real = getattr(os, call)

    def full(*words: Any, **more: Any) -> Any:
        if str(words[0]).endswith(".tmp") or call == "fsync":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*words, **more)

    monkeypatch.setattr(os, call, full)
    with pytest.raises(IOFault, match=r"a\.json: writing failed: No space left .* MiB are free there, 0\.0 MiB"):
        files.write_text(path, "after")
    monkeypatch.undo()
    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*"))
    assert left == (["new", "new/deep", "new/deep/a.json"] if there else [])
    assert not there or path.read_text() == "before"


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 50 + "]" * 50, '{"a":' * 60 + "1" + "}" * 60, "{", "\xff"])
def test_what_is_no_record_is_a_value_error_of_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        files.read_json(tmp_path / "a.json")


def test_a_record_comes_back(tmp_path: Path) -> None:
    record = {"a": [1, {"b": [None, 2.5]}], "ü": "x"}
    (tmp_path / "a.json").write_text(json.dumps(record))
    assert files.read_json(tmp_path / "a.json") == record


def test_names_that_turn_the_line_or_drive_a_terminal_are_seen_as_what_they_are() -> None:
    name = "a\u202egnp.\x1b[31m\u200b\r.wav"
    assert files.show(name) == "a\\u202egnp.\\x1b[31m\\u200b\\x0d.wav"
    assert files.shown("one\n\ttwo é 日本") == "one\n\ttwo é 日本"
    escaped = files.shown("a\u202eb\x1b[2J\x9b")
    assert escaped == "a\\u202eb\\u001b[2J\\u009b"
    assert json.loads(f'"{escaped}"') == "a\u202eb\x1b[2J\x9b"  # a line of JSON says the same as before


class _Screen:
    def __init__(self, tty: bool) -> None:
        self.tty, self.held = tty, ""

    def isatty(self) -> bool:
        return self.tty

    def write(self, text: str) -> int:
        self.held += text
        return len(text)


@pytest.mark.parametrize(
    ("name", "tty", "seen"),
    [("stdout", False, "a\x1b[31m"), ("stdout", True, "a\\u001b[31m"), ("stderr", False, "a\\u001b[31m")],
)  # fmt: skip
def test_a_terminal_gets_no_sequences_but_a_pipe_gets_the_bytes(name: str, tty: bool, seen: str) -> None:
    screen = _Screen(tty)
    stream = _streams.Stream(screen, _streams.NAMES[name])
    stream.write("a\x1b[31m")
    assert screen.held == seen
    stream.write("\r\033[Kstep 3")  # our own progress
    assert screen.held == f"{seen}\r\033[Kstep 3"


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
    with pytest.raises(IOFault, match=r"No space left on device; .* MiB are free there"):
        files.tried(tmp_path / "new" / "deeper")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["file", "there", "there/kept"]
