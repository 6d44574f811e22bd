from __future__ import annotations

import importlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usepcli.engine import crew, working
from usepcli.errors import BadInput, WorkerDied


@contextmanager
def hired(function: Callable[[Any], Any], size: int, **how: Any) -> Iterator[crew.Crew]:
    hands = crew.Crew(function, size, "fork", **how)
    try:
        yield hands
    finally:
        hands.close()
    assert not any(one.process.is_alive() for one in hands._workers)


def test_arrays_and_errors_come_as_they_went() -> None:
    def work(task: np.ndarray) -> dict[str, Any]:
        if not task.size:
            raise BadInput("nothing in it")
        return {"squares": task**2, "turned": np.asfortranarray(task.reshape(-1, 2)), "said": str(task.sum())}

    tasks = [np.arange(n, dtype=np.float32) for n in (2, 200_000, 4, 6)]
    with hired(work, 2, ahead=2) as hands:
        for task, done in zip(tasks, crew.in_order(hands, tasks, 3), strict=True):
            np.testing.assert_array_equal(done["squares"], task**2)
            np.testing.assert_array_equal(done["turned"], task.reshape(-1, 2))
            done["squares"] += 1  # it is ours
        with pytest.raises(BadInput, match=r"^nothing in it$"):
            list(crew.in_order(hands, [tasks[0], tasks[0][:0], tasks[0]], 3))
        assert len(list(crew.in_order(hands, tasks, 1))) == 4  # an error of a task is no fault of the crew


PARTS = Path(__file__).parents[1] / "parts"


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_who_crashes_or_hangs_in_a_file_names_it(start: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(PARTS)  # a spawned worker imports its task
    read = importlib.import_module("read_and_die").read
    path = str(tmp_path / "ä.mp3")
    how = {"if_dead": "add memory", "if_hung": "see to the disk", "limit_s": 60.0 if start == "spawn" else 1.0}
    with closing(crew.Crew(read, 1, start, **how)) as hands:
        assert hands.submit((path, 0)).result() == 0
        with pytest.raises(WorkerDied) as crash:
            hands.submit((path, signal.SIGSEGV)).result()
    said = f"was killed by SIGSEGV, a crash while it read {path}: the file makes its decoder crash; replace it or leave"
    assert said in str(crash.value)
    with closing(crew.Crew(read, 1, start, **how)) as hands, pytest.raises(WorkerDied) as killed:
        hands.submit((path, signal.SIGKILL)).result()
    assert str(killed.value).endswith(f"while it read {path}: add memory")
    if start == "fork":
        with closing(crew.Crew(read, 1, start, **how)) as hands, pytest.raises(WorkerDied) as hung:
            list(crew.in_order(hands, [(path, signal.SIGSTOP)], 1))
        assert str(hung.value).endswith(f"gave nothing for 1 s while it read {path}: see to the disk")


def test_an_error_that_cannot_travel_is_told_all_the_same() -> None:
    class Odd(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    def work(task: int) -> Any:
        if task:
            raise Odd(1, 2)
        return lambda: None  # no result that can be sent

    with hired(work, 1) as hands:
        with pytest.raises(Exception, match="1 and 2"):
            hands.submit(1).result()
        with pytest.raises(Exception, match=r"(?i)pickle"):
            hands.submit(0).result()


def test_a_worker_that_dies_ends_every_task() -> None:
    with hired(lambda task: time.sleep(task) or os.getpid(), 2) as hands:
        pid = hands.submit(0.0).result()
        waiting = [hands.submit(3600.0) for _ in range(5)]
        os.kill(pid, signal.SIGKILL)
        for future in waiting:
            with pytest.raises(WorkerDied, match=rf"\({pid}\) was killed by SIGKILL, most likely for"):
                future.result()
        with pytest.raises(WorkerDied):
            hands.submit(0.0)


def test_an_idle_worker_that_dies_is_missed(until: Callable[..., Any]) -> None:
    with hired(lambda task: os.getpid(), 1) as hands:
        os.kill(hands.submit(None).result(), signal.SIGKILL)
        until(lambda: hands.fault, "the death was seen")
        with pytest.raises(WorkerDied, match="memory"):
            hands.check()


def test_a_worker_that_stops_inside_a_message_is_told_by_the_clock(tmp_path: Path) -> None:
    begun = tmp_path / "begun"

    def work(task: str) -> np.ndarray:
        if task == "stop":
            begun.touch()
            threading.Timer(0.0, os.kill, (os.getpid(), signal.SIGSTOP)).start()
        return np.zeros(30_000_000, np.uint8)  # more than a line holds

    with hired(work, 2, limit_s=1.0, if_hung="look at the disk") as hands:
        hands.submit("go").result()
        with pytest.raises(WorkerDied, match=r"gave nothing for 1 s: look at the disk"):
            list(crew.in_order(hands, ["stop", "stop", "go"], 3))
    assert begun.exists()


def test_workers_begin_with_signals_blocked_and_ignore_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def noted(*what: Any) -> None:
        held = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        (tmp_path / "held").write_text(" ".join(sorted(signal.Signals(number).name for number in held)))
        begin(*what)

    begin = working.work
    monkeypatch.setattr(working, "work", noted)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with hired(lambda task: [signal.getsignal(number) for number in working.IGNORED], 1) as hands:
        assert set(hands.submit(None).result()) == {signal.SIG_IGN}
    assert {signal.Signals(number).name for number in working.IGNORED} <= set((tmp_path / "held").read_text().split())
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_task_in_this_process_that_hangs_is_told_by_the_clock() -> None:
    over = threading.Event()
    hands = crew.Alone(lambda task: over.wait() if task else 7, 0.6, "too long")
    assert list(crew.in_order(hands, [0, 0], 1)) == [7, 7]
    with pytest.raises(WorkerDied, match="too long"):
        list(crew.in_order(hands, [1], 1))
    over.set()
    hands.close()


def test_what_this_process_computes_is_over_when_its_hands_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, waited_for, done = threading.Event(), threading.Event(), []

    def task(number: int) -> None:
        begun.set()
        waited_for.wait()
        done.append(number)

    hands = crew.Alone(task, 600.0, "too long")
    join = hands._thread.join
    monkeypatch.setattr(hands._thread, "join", lambda seconds: (waited_for.set(), join(seconds)))
    for number in (0, 1, 2):
        hands.submit(number)
    begun.wait()
    hands.close()
    assert done == [0]  # a thread still at work would be ended by the interpreter's end, and abort it (SIGABRT)


def test_what_is_read_ahead_is_let_go_and_the_thread_works_on() -> None:
    go, begun = threading.Event(), threading.Event()

    def task(number: int) -> int:
        if number == 1:
            begun.set()
            go.wait()
        return number

    hands = crew.Alone(task, 600.0, "too long")
    some = crew.in_order(hands, range(5), 3)
    assert next(some) == 0
    begun.wait()  # the second is under way, the third waits for it
    some.close()
    go.set()
    assert list(crew.in_order(hands, [7, 8], 2)) == [7, 8]
    hands.close()


def test_time_in_which_the_parent_stood_still_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(crew.time, "monotonic", lambda: now[0])
    waited = crew.Waited(3.0)
    now[0] = 3600.0  # stopped by Ctrl-Z
    assert not waited.over() and waited.seconds == 2 * crew.TICK_S
    for _ in range(5):
        now[0] += crew.TICK_S
    assert not waited.over()
    now[0] += crew.TICK_S
    assert [waited.over() for now[0] in (now[0] + crew.TICK_S, now[0] + 2 * crew.TICK_S)][-1]
