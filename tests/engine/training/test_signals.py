"""A training answers signals from its first moment to its last, and what it had is there afterwards."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from usepcli.engine import tables
from usepcli.engine.training import run as training
from usepcli.engine.training import states
from usepcli.engine.training.signals import StopFlag
from usepcli.engine.training.train import Trainer
from usepcli.errors import Stopped
from usepcli.profile.load import load_profile
from usepcli.stops import Ended

_SECOND = """
import os, signal, sys
from usepcli.engine.training.signals import StopFlag
flag = StopFlag(doing="saving it")
for name in sys.argv[1:]:
    os.kill(os.getpid(), getattr(signal, name))
    while not flag.by: pass
    print(name, flush=True)
flag.close()
print("closed", flush=True)
"""


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in signal.valid_signals() if number not in (9, 19)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before


def twice(*names: str, **environment: str) -> tuple[int, list[str], str]:
    free = {k: v for k, v in os.environ.items() if k not in ("SLURM_JOB_ID", "TORCHELASTIC_RUN_ID")}
    line = [sys.executable, "-c", _SECOND, *names]
    done = subprocess.run(line, capture_output=True, text=True, env=free | environment, timeout=600)
    return done.returncode, done.stdout.split(), done.stderr


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_second_signal_ends_at_once(name: str, code: int) -> None:
    # The thread that ends the process may let a print through, but never the hundredth.
    ended, printed, said = twice(*[name] * 100)
    called = "Ctrl-C" if name == "SIGINT" else name
    assert ended == code and "closed" not in printed
    assert said.startswith(f"usep: {called}: saving it\nusep: {called} again: stopped at once")


def test_what_a_scheduler_says_twice_is_one_word() -> None:
    ended, printed, said = twice("SIGUSR1", "SIGTERM", "SIGTERM", SLURM_JOB_ID="7")
    assert (ended, printed, said) == (0, ["SIGUSR1", "SIGTERM", "SIGTERM", "closed"], "usep: SIGUSR1: saving it\n")


def test_a_terminal_that_nohup_lets_go_is_no_reason_to_stop(handlers: None) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        flag = StopFlag()
        os.kill(os.getpid(), signal.SIGHUP)
        flag.close()
        assert not flag.by and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def validations(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in tables.read_csv(run / "valid.csv")]


def test_a_validation_is_left_at_once_and_done_by_the_next_start(
    profile_file: Path, tmp_path: Path, handlers: None, patience_s: int
) -> None:
    Trainer(load_profile(str(profile_file)), tmp_path / "whole").fit()
    trainer = Trainer(load_profile(str(profile_file)), tmp_path / "run")

    def for_ever(*_: object) -> float:
        os.kill(os.getpid(), signal.SIGUSR1)
        end = time.monotonic() + patience_s
        while time.monotonic() < end:
            time.sleep(0.01)
        pytest.fail("the validation went on")

    trainer.validator.score = for_ever  # type: ignore[method-assign]
    with pytest.raises(Stopped, match=r"saved at step 6 .*, the next start validates it; run the same command"):
        trainer.fit()
    assert states.load_state(tmp_path / "run/last.ckpt")["due"] and not (tmp_path / "run/valid.csv").exists()
    Trainer(load_profile(str(profile_file)), tmp_path / "run").fit()
    assert validations(tmp_path / "run") == validations(tmp_path / "whole")


def test_before_the_first_step_there_is_nothing_to_save_unless_a_run_goes_on(
    profile_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def hit(*_: object) -> list[str]:
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("went on")

    run, train = tmp_path / "run", lambda: training.train(str(profile_file), run)
    for place in ("_look", "_build"):
        with monkeypatch.context() as patch, pytest.raises(Ended) as ended:
            patch.setattr(Trainer, place, hit)
            train()
        assert ended.value.code == 143
    assert "usep: SIGTERM: ending before the first step; nothing is learned yet" in capfd.readouterr().err
    Trainer(load_profile(str(profile_file), ["train.epochs=1"]), run).fit()
    state = (run / "last.ckpt").read_bytes()
    for place, kind in (("_look", Stopped), ("_build", Ended)):
        with monkeypatch.context() as patch, pytest.raises(kind) as ended:
            patch.setattr(Trainer, place, hit)
            training.train(str(profile_file), run, force=True)
        assert ended.value.code == 75 and (run / "last.ckpt").read_bytes() == state
    assert "run the same command to resume" in capfd.readouterr().err


def test_a_signal_while_saving_ends_with_what_is_saved(profile_file: Path, tmp_path: Path) -> None:
    trainer, steps = Trainer(load_profile(str(profile_file)), tmp_path / "run"), []
    save = trainer.save

    def hit() -> None:
        if not steps:
            os.kill(os.getpid(), signal.SIGHUP)
        steps.append(trainer.step)
        save()

    trainer.save = hit  # type: ignore[method-assign]
    with pytest.raises(Stopped, match="SIGHUP: saved at step"):
        trainer.fit()
    assert len(steps) <= 2 and states.load_state(tmp_path / "run/last.ckpt")["step"] == steps[-1] <= 2


@pytest.mark.slow
def test_a_terminal_that_closes_saves(
    profile_file: Path, tmp_path: Path, until: Callable[..., Any], patience_s: int
) -> None:
    ours, theirs = pty.openpty()
    line = [sys.executable, "-m", "usepcli", "train", "-p", str(profile_file), "-o", str(tmp_path / "run")]
    line = [*line, "--set", "train.epochs=100000"]
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *line], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    until(lambda: (tmp_path / "run/last.ckpt").exists() or process.poll() is not None, "a state is saved")
    os.close(ours)  # the terminal hangs up: SIGHUP, and nothing can be written any more
    assert process.wait(patience_s) == 75
    assert states.load_state(tmp_path / "run/last.ckpt")["step"] > 0


@pytest.mark.slow
def test_a_tee_that_ctrl_c_ends_too_costs_no_state(
    profile_file: Path, tmp_path: Path, until: Callable[..., Any], patience_s: int
) -> None:
    line = [sys.executable, "-m", "usepcli", "train", "-p", str(profile_file), "-o", str(tmp_path / "run")]
    line = [*line, "--set", "train.epochs=100000", "--set", "train.checkpoint_every_s=100000"]
    process = subprocess.Popen(line, stderr=subprocess.PIPE)
    assert process.stderr
    until(lambda: (tmp_path / "run/train.csv").exists() or process.poll() is not None, "a step is taken")
    process.stderr.close()
    assert process.wait(patience_s) == 75
    assert (tmp_path / "run/last.ckpt").exists()
