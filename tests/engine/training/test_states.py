"""Resume files: the one before stays, a kill during the save loses nothing."""

from __future__ import annotations

import errno
import itertools
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from usepcli.engine.training import states
from usepcli.engine.training.runfolder import RunFolder
from usepcli.errors import BadInput, IOFault, OutputError

LAST, PREV = states.SAVED


def state_of(step: int) -> dict[str, Any]:
    """The least that a run's state has to hold."""
    whole = dict.fromkeys(("step", "epoch", "in_epoch", "skipped", "in_row"), step)
    return whole | {
        "best": 0.5, "seconds": 1.0, "window": {}, "schedule": {"scale": 1.0}, "bad": {}, "optimizers": {},
        "scaler": {}, "objective": {"w": torch.full((3,), float(step))}, "average": None, "best_states": [[0.5, step]],
    }  # fmt: skip


def steps_in(folder: Path) -> tuple[int, int]:
    return tuple(states.load_state(folder / name)["step"] for name in states.SAVED)  # type: ignore[return-value]


def test_state_keeps_the_previous_one(tmp_path: Path) -> None:
    for step in (1, 2):
        states.save_state(tmp_path / "last.ckpt", state_of(step))
    assert states.load_state(tmp_path / "last.ckpt")["step"] == 2
    assert states.load_state(tmp_path / "prev.ckpt")["step"] == 1
    (tmp_path / "last.ckpt").write_bytes(b"short")
    found = states.load_last(tmp_path)
    assert found.state is not None and found.state["step"] == 1 and "last.ckpt" in found.warning
    assert found.path == tmp_path / "prev.ckpt"


def save_for_ever(folder: Path) -> None:
    """Be a process that does nothing else; never returns."""
    try:
        torch.set_num_threads(1)
        for step in itertools.count(1):
            states.save_state(folder / LAST, state_of(step) | {"objective": {"t": torch.full((400_000,), float(step))}})
    finally:
        os._exit(1)


def test_kill_9_during_the_save_leaves_a_readable_state(tmp_path: Path, until: Callable[..., Any]) -> None:
    draw = random.Random(0)
    for _ in range(4):
        if (child := os.fork()) == 0:  # torch is imported once
            save_for_ever(tmp_path)
        try:
            until(lambda: (tmp_path / PREV).exists() or os.waitpid(child, os.WNOHANG)[0], "a second save")
            time.sleep(draw.uniform(0, 0.3))  # any moment of a save will do
        finally:
            os.kill(child, signal.SIGKILL)
            end = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert end == -signal.SIGKILL
        state = states.load_last(tmp_path).state
        assert state is not None and (state["objective"]["t"] == state["step"]).all()
        (tmp_path / PREV).unlink()


CALLS = ("open", "fsync", "link", "replace", "unlink")


def counted(monkeypatch: pytest.MonkeyPatch, act: Callable[[int], None], after: bool) -> list[int]:
    """Let every call that a save makes to the disk run `act` with its number, from 1, before or after it is done."""
    count = [0]

    def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            count[0] += 1
            if not after:
                act(count[0])
            done = real(*args, **more)
            if after:
                act(count[0])
            return done

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, wrapped(getattr(os, name)))
    monkeypatch.setattr(states, "open", wrapped(open), raising=False)
    return count


def calls_of_a_save(folder: Path) -> int:
    for step in (1, 2):
        states.save_state(folder / LAST, state_of(step))
    with pytest.MonkeyPatch.context() as patch:
        count = counted(patch, lambda number: None, after=False)
        states.save_state(folder / LAST, state_of(3))
    assert steps_in(folder) == (3, 2)
    return count[0]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_save_that_fails_at_any_call_leaves_two_different_states(tmp_path: Path, number: int) -> None:
    total = calls_of_a_save(tmp_path)
    assert total > 8
    for k in range(1, total + 1):
        folder = tmp_path / str(k)
        folder.mkdir()
        for step in (1, 2):
            states.save_state(folder / LAST, state_of(step))

        def fail(count: int, k: int = k) -> None:
            if count == k:
                raise OSError(number, os.strerror(number))

        with pytest.MonkeyPatch.context() as patch:
            counted(patch, fail, after=False)
            try:
                states.save_state(folder / LAST, state_of(3))
            except (IOFault, OutputError) as fault:
                assert os.strerror(number) in str(fault)
        assert steps_in(folder) in ((2, 1), (3, 1), (3, 2)), k
        assert {path.name for path in folder.iterdir()} == set(states.SAVED), k


def test_a_kill_after_any_call_of_a_save_leaves_two_different_states(tmp_path: Path) -> None:
    ends = []
    for k in range(1, calls_of_a_save(tmp_path) + 1):
        folder = tmp_path / str(k)
        folder.mkdir()
        for step in (1, 2):
            states.save_state(folder / LAST, state_of(step))
        if (child := os.fork()) == 0:
            try:
                with pytest.MonkeyPatch.context() as patch:
                    counted(patch, lambda count, k=k: os._exit(9) if count == k else None, after=True)  # type: ignore[misc]
                    states.save_state(folder / LAST, state_of(3))
                os._exit(0)
            finally:
                os._exit(1)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))  # 0: the call itself found nothing to do
        assert steps_in(folder) in ((2, 1), (3, 1), (3, 2)), k
    assert set(ends) <= {0, 9} and ends.count(9) > 8


def test_a_file_system_without_links_keeps_two_states_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", none)
    for step in (1, 2, 3):
        states.save_state(tmp_path / LAST, state_of(step))
    assert steps_in(tmp_path) == (3, 2) and len(list(tmp_path.iterdir())) == 2


def test_a_damaged_last_state_does_not_push_out_the_one_before(tmp_path: Path) -> None:
    for step in (1, 2):
        states.save_state(tmp_path / LAST, state_of(step))
    (tmp_path / LAST).write_bytes(b"short")
    states.save_state(tmp_path / LAST, state_of(3), keep=False)
    assert steps_in(tmp_path) == (3, 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"objective": None}, "has no 'objective'"),
        ({"best_states": [["high", 3]]}, "'best_states'"),
        ({"step": -1}, "'step'"),
        ({"average": {"state": {}, "steps": "all"}}, "'average'"),
    ],
)
def test_a_state_that_lacks_something_or_holds_another_thing_is_refused_by_name(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    state = {key: value for key, value in (state_of(2) | change).items() if not (key in change and value is None)}
    states.save_state(tmp_path / LAST, state)
    with pytest.raises(BadInput, match=said):
        states.load_last(tmp_path)


def test_what_a_killed_save_left_is_gone_at_the_next_start(tmp_path: Path) -> None:
    left = [tmp_path / name for name in (".last.ckpt.10000001.tmp", "best/.step00000004.safetensors.10000001.tmp")]
    kept = [tmp_path / "best/step00000004.safetensors", tmp_path / ".mine.tmp"]
    (tmp_path / "best").mkdir()
    for path in (*left, *kept):
        path.write_bytes(b"half")
    folder = RunFolder(tmp_path)
    folder.close()
    assert not any(path.exists() for path in left) and all(path.exists() for path in kept)
