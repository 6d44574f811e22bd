from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from usepcli.engine import folder
from usepcli.engine.folder import Folder, Lock
from usepcli.errors import IOFault, OutputError

WHOLE, ONE, TWO = "", "-1-of-2", "-2-of-2"


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [(WHOLE, WHOLE, False), (WHOLE, ONE, False), (ONE, WHOLE, False), (ONE, ONE, False), (ONE, TWO, True)],
)
def test_who_may_run_beside_whom(tmp_path: Path, first: str, second: str, together: bool):
    with Lock(tmp_path, ".usep", first):
        if together:
            with Lock(tmp_path, ".usep", second):
                pass
        else:
            with pytest.raises(OutputError, match=r"in use by pid \d+ on "), Lock(tmp_path, ".usep", second):
                pass
        with pytest.raises(OutputError), Lock(tmp_path, ".usep", first):  # the refused one took nothing away
            pass
    with Lock(tmp_path, ".usep", second):
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_left_behind_by_a_kill_is_free(tmp_path: Path):
    (tmp_path / ".usep.lock").write_text("pid 1 on somewhere")
    with Lock(tmp_path, ".usep"):
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be made"), Lock(tmp_path / "file" / "deeper"):
        pass


def _of_a_dead_process(path: Path) -> Any:
    """Return a handle that holds the lock `path`, whose text names a process that has ended."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    handle = open(path, "w")  # noqa: SIM115 - the test closes it
    handle.write(f"pid {dead.pid} on {socket.gethostname()} since then")
    handle.flush()
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def test_workers_of_a_killed_run_are_waited_for(tmp_path: Path):
    orphan = _of_a_dead_process(tmp_path / ".lock")
    threading.Timer(0.5, orphan.close).start()
    begin = time.monotonic()
    with Lock(tmp_path):
        assert 0.4 < time.monotonic() - begin < 5


def test_patience_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(folder, "ORPHANS_S", 0.2)
    with _of_a_dead_process(tmp_path / ".lock"), pytest.raises(OutputError, match="in use by pid"), Lock(tmp_path):
        pass


def test_a_file_system_without_locks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def none(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with Lock(tmp_path):
        assert capsys.readouterr().err == f"{tmp_path}: no file locks here; do not start a second run in it now\n"


class Toy(Folder):
    name, command, made = "toy", "usep toy", ("table.csv", "wav")

    def __init__(self, path: Path, seed: int = 0) -> None:
        super().__init__(path, f"k{seed}", {"key": f"k{seed}", "settings": {"seed": seed}})


def begun(path: Path, seed: int = 0) -> Path:
    """Leave a folder as a killed run does."""
    run = Toy(path, seed)
    run.claim(False)
    run.release()
    (path / "wav").mkdir()
    for name in ("one.wav", ".two.wav.99.tmp"):
        (path / "wav" / name).write_text("x")
    return path


def names(path: Path) -> set[str]:
    return {str(found.relative_to(path)) for found in path.rglob("*") if found.is_file()}


def test_the_same_settings_go_on_without_what_was_half_written(tmp_path: Path):
    out = begun(tmp_path / "out")
    for name in ("last.ckpt.tmp.77", ".mine.tmp", "notes.tmp.txt", "77"):
        (out / name).write_text("x")
    run = Toy(out)
    run.claim(False)
    assert names(out) == {".lock", "toy.partial.json", "wav/one.wav", ".mine.tmp", "notes.tmp.txt", "77"}
    run.finish({"n": 1})
    run.release()
    assert json.loads((out / "toy.json").read_text()) == {"key": "k0", "settings": {"seed": 0}, "n": 1}
    assert names(out) == {"toy.json", "wav/one.wav", ".mine.tmp", "notes.tmp.txt", "77"}
    run.claim(False)
    assert run.complete and not run.partial.exists()
    run.release()


def test_other_settings_are_refused_or_empty_the_folder(tmp_path: Path):
    out = begun(tmp_path / "out")
    (out / "mine.txt").write_text("x")
    with pytest.raises(OutputError, match=r"made with other settings \(seed was 0, now 1\).*--overwrite"):
        Toy(out, 1).claim(False)
    assert "wav/one.wav" in names(out) and not (out / ".lock").exists()
    run = Toy(out, 1)
    run.claim(True)
    assert names(out) == {".lock", "toy.partial.json", "mine.txt"}
    run.release()


def test_a_folder_that_was_half_emptied_has_to_be_overwritten_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = begun(tmp_path / "out")
    monkeypatch.setattr(shutil, "rmtree", lambda path: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
    with pytest.raises(IOFault, match="cannot be emptied: broken"):
        Toy(out, 1).claim(True)
    for seed in (0, 1):
        with pytest.raises(OutputError, match=r"its toy\.json cannot be read"):
            Toy(out, seed).claim(False)


def test_what_others_made_is_refused(tmp_path: Path):
    (tmp_path / "table.csv").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"holds 'table\.csv', which `usep toy` did not make"):
            Toy(tmp_path).claim(overwrite)
    assert names(tmp_path) == {"table.csv"}


def test_a_full_disk_is_no_lack_of_permission_and_leaves_no_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(IOFault, match=r"deeper: writing failed: No space left on device; .* MiB are free there"):
        Lock(tmp_path / "new" / "deeper").take()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old").mkdir()
    with pytest.raises(IOFault):
        Lock(tmp_path / "old", share="-1-of-2").take()
    assert list(tmp_path.rglob("*")) == [tmp_path / "old"]
