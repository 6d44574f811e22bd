"""Readers who leave, full disks and closed streams: every command that prints ends as programs on Unix do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from usepcli.cli import app
from usepcli.errors import WorkerDied

SAMPLE = Path(app.__file__).parents[1] / "samples" / "two_talkers.flac"
PRINTING = [
    *(["--help"], ["--version"], ["profiles"], ["profiles", "--json"], ["models"], ["models", "--json"]),
    *(["info", "default"], ["doctor"], ["train", "-p", "small_pit", "--print-config"], ["separate", "--help"]),
]


def usep(*words: object, closed: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a command whose stdout or stderr, as `closed` says, is a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    line = [sys.executable, "-m", "usepcli", *map(str, words)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, closed: write}
    done = subprocess.run(line, **streams, env={**os.environ, **(env or {})})
    os.close(write)
    return done


@pytest.mark.parametrize("words", PRINTING, ids=" ".join)
def test_a_reader_who_left_ends_it_without_a_word(words: list[str]) -> None:
    # Without a buffer the text itself meets the closed pipe, with one its end does.
    done = usep(*words, closed="stdout", env={"PYTHONUNBUFFERED": "1" if "--json" in words else ""})
    assert done.returncode == 141 and done.stderr == b""


def test_a_reader_who_left_ends_a_batch_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    done = usep("separate", SAMPLE, "-o", tmp_path / "out", "--json", closed="stdout")
    assert done.returncode == 141 and b"Error" not in done.stderr and b"Exception" not in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("outputs.csv", "two_talkers_1.wav", "two_talkers_2.wav")
    ]


def test_errors_that_nobody_reads_are_no_other_errors() -> None:
    assert usep("nosuch", closed="stderr").returncode == 141
    assert usep("info", "/no/such.safetensors", closed="stderr").returncode in (66, 141)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_below_the_output_is_said(unbuffered: str) -> None:
    with open("/dev/full", "wb") as full:
        line, env = [sys.executable, "-m", "usepcli", "models"], {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, env=env)
    assert done.returncode == 74
    assert done.stderr == b"usep: error: standard output: writing failed: No space left on device\n"


@pytest.mark.parametrize("closing", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_place_for_files(closing: str, tmp_path: Path) -> None:
    """What is opened next would get number 1 or 2, and what libraries print."""
    line = f'"{sys.executable}" -m usepcli push default "{tmp_path / "two"}" {closing}'
    assert subprocess.run(["bash", "-c", line], capture_output=True).returncode == 0
    shipped = SAMPLE.parents[1] / "pretrained" / "default.safetensors"
    assert (tmp_path / "two" / "model.safetensors").stat().st_size >= shipped.stat().st_size


def test_letters_that_the_encoding_lacks_are_escaped() -> None:
    env = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    said = "import typer; from usepcli.cli import _streams as s; s.install(); typer.echo('\\xfc\\u2192')"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, env=env)
    assert done.stdout == b"\xfc\\u2192\n" and done.returncode == 0


def test_another_pipe_speaks_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    import typer

    def broken() -> None:
        raise BrokenPipeError(32, "Broken pipe")

    made = typer.Typer(add_completion=False)
    made.command("break")(broken)
    monkeypatch.setattr(app, "command", lambda name: typer.main.get_command(made))
    monkeypatch.setattr(sys, "argv", ["usep", "profiles"])
    with pytest.raises(SystemExit) as caught:
        app.main()
    assert caught.value.code == WorkerDied.code


@pytest.mark.parametrize("name", [None, *app.WAITING])
def test_threads_wait_asleep_unless_the_user_decided(name: str | None) -> None:
    env = {key: value for key, value in os.environ.items() if key not in app.WAITING}
    said = "import os, sys, {}; print(os.environ.get('OMP_WAIT_POLICY', ''), 'torch' in sys.modules)"
    for module, expected in (("usepcli.cli.app", "PASSIVE" if name is None else ""), ("usepcli", "")):
        own = {**env, name: "7"} if name else env
        done = subprocess.run([sys.executable, "-c", said.format(module)], capture_output=True, text=True, env=own)
        assert done.stdout == f"{'7' if name == 'OMP_WAIT_POLICY' else expected} False\n"


@pytest.mark.skipif(sys.platform != "linux", reason="torch brings GNU's OpenMP on Linux")
def test_the_runtime_of_torch_heard_it() -> None:
    env = {key: value for key, value in os.environ.items() if key not in app.WAITING} | {"OMP_DISPLAY_ENV": "TRUE"}
    line = [sys.executable, "-m", "usepcli", "doctor", "--load"]
    done = subprocess.run(line, capture_output=True, text=True, env=env)
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr and "thread_waiting" in done.stdout
