"""Several ranks: equal to one process, ended together by what one of them meets, going on to the last bit."""

from __future__ import annotations

import csv
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.training.test_train import ENV, curve
from usepcli.engine.training import distributed, place, run, states, status, train
from usepcli.engine.training.train import Trainer
from usepcli.errors import OutputError
from usepcli.profile.load import load_profile
from usepcli.weights import store

Until = Callable[..., Any]
Meddle = Callable[[int], None]


def _one(rank: int, world: int, listening: socket.socket, said: Path, meddle: Meddle, asked: dict[str, Any]) -> None:
    """Be one rank; never returns. A fork, so that torch is imported once."""
    code = 99
    try:
        handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for stream in (1, 2):
            os.dup2(handle, stream)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(handle), "w") for _ in range(2))
        own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1"}
        own |= {"MASTER_PORT": listening.getsockname()[1], "CUDA_VISIBLE_DEVICES": ""}
        if rank == 0:
            own[place.LISTENING] = listening.fileno()
        os.environ.update({name: str(value) for name, value in own.items()})
        torch.set_num_threads(1)
        meddle(rank)
        run.train(**asked)
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


class Together:
    """Ranks under way; `meddle(rank)` runs in each before it begins."""

    def __init__(
        self, tmp_path: Path, profile: Path, out: Path, *sets: str, meddle: Meddle = lambda rank: None
    ) -> None:
        self.said = tmp_path / f"said{time.monotonic_ns()}"
        sets = (
            "train.checkpoint_every_s=600",
            *sets,
        )  # each is forced to the disk, which a busy one takes its time for
        asked = {"profile": str(profile), "out": out, "sets": list(sets)}
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.pids = []
            for rank in range(2):
                if not (pid := os.fork()):
                    _one(rank, 2, listening, self.said, meddle, asked)
                self.pids.append(pid)

    def codes(self) -> list[int]:
        return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in self.pids]

    def lines(self) -> list[str]:
        return [line for line in self.said.read_text().splitlines() if "error" in line]


def rows(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "train.csv").read_text().splitlines()))


def logged(folder: Path, step: int) -> Callable[[], bool]:
    """Return what tells whether a run has logged a step."""
    log = folder / "train.csv"
    return lambda: log.exists() and log.read_bytes().count(b"\n") > step


def test_two_ranks_equal_one_process_at_the_same_global_batch(profile_file: Path, tmp_path: Path) -> None:
    sets = ["model.dropout=0.0", "train.epochs=2"]
    Trainer(load_profile(str(profile_file), sets), tmp_path / "one").fit()
    both = Together(tmp_path, profile_file, tmp_path / "two", *sets)
    assert both.codes() == [0, 0], both.said.read_text()
    one, two = ([float(row[1]) for row in curve(tmp_path / name)] for name in ("one", "two"))
    assert one == pytest.approx(two, abs=5e-3) and len(one) == 12
    # So do the figures that each rank has of its own examples, such as the terms of the loss.
    one, two = ([float(row["pit"]) for row in rows(tmp_path / name)] for name in ("one", "two"))
    assert one == pytest.approx(two, abs=5e-3)
    assert both.said.read_text().count("2 ranks take 2 of the 4 examples of a step each") == 1


def test_a_killed_rank_ends_the_other_and_the_same_command_goes_on_bit_by_bit(
    profile_file: Path, tmp_path: Path, until: Until
) -> None:
    assert Together(tmp_path, profile_file, tmp_path / "whole").codes() == [0, 0]
    out = tmp_path / "killed"
    for victim, step in ((1, 4), (0, 9)):
        both = Together(tmp_path, profile_file, out, "train.checkpoint_every_s=0.1")
        until(logged(out, step), both.said.read_text)
        os.kill(both.pids[victim], signal.SIGKILL)
        for _ in range(20):  # as torchrun does, whose word is not to come before the reason
            os.kill(both.pids[1 - victim], signal.SIGTERM)
            time.sleep(0.02)
        codes = both.codes()
        assert (codes[victim], codes[1 - victim]) == (-signal.SIGKILL, 70), both.said.read_text()
        assert len(both.lines()) == 1 and f"rank {victim} " in both.lines()[0] and "was killed" in both.lines()[0]
        assert status.read(out)["code"] == 70
    assert Together(tmp_path, profile_file, out).codes() == [0, 0]
    assert curve(out) == curve(tmp_path / "whole")
    weights = [store.read_weights(tmp_path / name / "best.safetensors") for name in ("whole", "killed")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def _raises(where: str, error: BaseException, on: int) -> Meddle:
    """Return what lets a rank meet an error in a function of the trainer, from the second call on."""
    calls = []

    def meddle(rank: int) -> None:
        owner, name = train, where
        while "." in name:
            first, _, name = name.partition(".")
            owner = getattr(owner, first)
        before = getattr(owner, name)

        def meets(*given: Any, **named: Any) -> Any:
            calls.append(1)
            if len(calls) > 1:
                raise error
            return before(*given, **named)

        if rank == on:
            setattr(owner, name, meets)

    return meddle


def _other_profile(rank: int) -> None:
    if rank:
        os.environ["USEP_OPTIM__LR"] = "7"


def _stands_still(on: int) -> Meddle:
    def meddle(rank: int) -> None:
        before = train.Trainer._one_step

        def still(self: Any, micro: Any) -> None:
            if rank == on and self.step == 3:
                os.kill(os.getpid(), signal.SIGSTOP)
            before(self, micro)

        train.Trainer._one_step = still  # type: ignore[method-assign]

    return meddle


FULL = OSError(errno.ENOSPC, "No space left on device", "last.ckpt")


@pytest.mark.parametrize(
    ("meddle", "code", "line"),
    [
        (_raises("Trainer._one_step", KeyError("unheard of"), 1), 1, "usep: rank 1: unexpected error KeyError"),
        (_raises("Trainer._one_step", MemoryError(), 1), 70, "usep: rank 1: error: out of memory"),
        (_raises("Validator.score", RuntimeError("gone"), 0), 1, "usep: unexpected error RuntimeError: gone"),
        (_raises("states.save_state", FULL, 0), 74, "usep: error: last.ckpt: No space left on device"),
        (_other_profile, 78, "usep: rank 1: error: settings on"),
        pytest.param(_stands_still(0), 70, "usep: error: rank 0 ", marks=pytest.mark.slow),
        pytest.param(_stands_still(1), 70, "usep: error: rank 1 (pid", marks=pytest.mark.slow),
    ],
    ids=["unforeseen", "memory", "validation", "disk", "profile", "keeper stopped", "stopped"],
)
def test_what_one_rank_meets_ends_all_with_its_line_and_its_code(
    profile_file: Path, tmp_path: Path, meddle: Meddle, code: int, line: str
) -> None:
    sets = ["train.worker_timeout_s=3", "train.epochs=1000"]
    both = Together(tmp_path, profile_file, tmp_path / "run", *sets, meddle=meddle)
    assert set(both.codes()) - {-signal.SIGKILL} == {code}, both.said.read_text()
    assert len(both.lines()) == 1 and both.lines()[0].startswith(line), both.said.read_text()
    assert status.read(tmp_path / "run")["code"] == code


def _ends(where: str, number: signal.Signals, on: int) -> Meddle:
    """Return what sends a rank a signal as it comes to a method of the trainer or of the ranks."""

    def meddle(rank: int) -> None:
        owner, name = (distributed.Ranks if where == "leave" else train.Trainer), where
        before = getattr(owner, name)

        def meets(*given: Any) -> Any:
            if rank == on:
                os.kill(os.getpid(), number)
            return before(*given)

        setattr(owner, name, meets)

    return meddle


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)])
def test_who_is_lost_after_the_last_step_holds_nobody_up(
    profile_file: Path, tmp_path: Path, number: signal.Signals
) -> None:
    sets = ["train.worker_timeout_s=3", "train.epochs=1"]
    both = Together(tmp_path, profile_file, tmp_path / "run", *sets, meddle=_ends("leave", number, 1))
    assert both.codes() == [0, -signal.SIGKILL], both.said.read_text()
    (line,) = (line for line in both.said.read_text().splitlines() if "all its steps were taken before" in line)
    assert line.startswith("usep: warning: rank 1 (pid")
    assert status.read(tmp_path / "run")["state"] == "finished"


@pytest.mark.parametrize("on", [0, 1])
def test_a_signal_in_the_start_of_one_rank_ends_all_and_is_recorded(
    profile_file: Path, tmp_path: Path, on: int
) -> None:
    meddle = _ends("_build", signal.SIGUSR1, on)
    both = Together(tmp_path, profile_file, tmp_path / "run", meddle=meddle)
    assert both.codes() == [75, 75], both.said.read_text()
    how = status.read(tmp_path / "run")
    assert (how["state"], how["code"]) == ("stopped", 75) and "SIGUSR1 before the first step" in how["reason"], how


def test_bad_items_count_for_all_ranks_together(profile_file: Path, corpus: Path, tmp_path: Path) -> None:
    for i in (1, 2):
        (corpus.parent / f"train/{i:03d}/mix.wav").write_bytes(b"")
    both = Together(tmp_path, profile_file, tmp_path / "run", "data.max_bad=0.1")
    assert both.codes() == [0, 0], both.said.read_text()
    assert len(states.load_state(tmp_path / "run/last.ckpt")["bad"]) == 2
    assert both.said.read_text().count("another example takes its place") == 2
    # Each rank meets half of them in an epoch, more or less: either alone would go on.
    for i in (3, 4, 5):
        (corpus.parent / f"train/{i:03d}/mix.wav").write_bytes(b"")
    both = Together(tmp_path, profile_file, tmp_path / "many", "data.max_bad=0.17", "train.epochs=1")
    assert both.codes() == [65, 65], both.said.read_text()
    assert len(both.lines()) == 1 and "5 of 24 training recordings are unusable" in both.lines()[0]


def test_a_step_that_is_not_finite_on_one_rank_is_skipped_by_all(profile_file: Path, tmp_path: Path) -> None:
    def meddle(rank: int) -> None:
        before = train.Trainer._one_step

        def poisoned(self: Any, micro: Any) -> None:
            if rank and self.step in (4, 5):
                micro[0].mix.fill_(float("nan"))
            before(self, micro)

        train.Trainer._one_step = poisoned  # type: ignore[method-assign]

    both = Together(tmp_path, profile_file, tmp_path / "run", "train.accumulate=2", meddle=meddle)
    assert both.codes() == [0, 0], both.said.read_text()
    state = states.load_state(tmp_path / "run/last.ckpt")
    assert state["skipped"] == 2 and all(torch.isfinite(value).all() for value in state["objective"].values())


def test_ranks_that_lose_their_launcher_save_and_one_process_goes_on(
    profile_file: Path, tmp_path: Path, until: Until, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    line = [sys.executable, "-m", "usepcli", "train", "--profile", str(profile_file), "-o", str(out), "--ranks", "2"]
    with subprocess.Popen([*line, "--set", "train.epochs=1000"], env=ENV, stderr=subprocess.DEVNULL) as process:
        until(logged(out, 3), "step 3")
        process.kill()
    how = until(lambda: (found := status.read(out))["state"] != "running" and found, "the end of the ranks")
    assert (how["state"], how["code"]) == ("stopped", 75), how
    step = states.load_state(out / "last.ckpt")["step"]
    settings = [f"train.max_steps={step + 1}", "train.epochs=1000"]

    def begun() -> Trainer | None:
        try:  # a rank has said that it stopped, and may hold the folder for a moment more
            return Trainer(load_profile(str(profile_file), settings), out)
        except OutputError as fault:
            assert "in use by" in str(fault)
            return None

    trainer = until(begun, "the folder of the ranks")
    assert "1 rank in place of 2: a step takes the same examples" in capsys.readouterr().err
    trainer.fit()
    assert curve(out)[-1][0] == str(step + 1)


def test_a_signal_to_one_rank_stops_all_at_one_step(profile_file: Path, tmp_path: Path, until: Until) -> None:
    both = Together(tmp_path, profile_file, tmp_path / "run", "train.epochs=1000")
    until(logged(tmp_path / "run", 3), both.said.read_text)
    os.kill(both.pids[1], signal.SIGUSR1)
    assert both.codes() == [75, 75], both.said.read_text()
    assert len(both.lines()) == 1 and "run the same command to resume" in both.lines()[0]
    assert status.read(tmp_path / "run")["state"] == "stopped"
