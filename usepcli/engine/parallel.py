"""A function over many small tasks in several processes, results in order, nothing left behind.

A pool sets its tasks no time: a task that hangs looks like a long one. Ctrl-C and SIGTERM end it, within the grace that
a task of `run_tasks` gets, which may be writing a file; and nobody outlives this process.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, TypeVar

from usepcli.engine import crew, working

T = TypeVar("T")
R = TypeVar("R")
_GRACE_S = 10.0  # for the task under way when nothing more is wanted


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_tasks(function: Callable[[T], R], tasks: Sequence[T], workers: int = 0, chunk: int = 16) -> Iterator[R]:
    """Yield function(task) for every task, in order; workers 0: one for each core, 1: this process.

    Errors raised by the function arrive unchanged and stop the rest; WorkerDied if a process was killed.
    """
    workers = min(workers or cores(), -(-len(tasks) // chunk))
    if workers <= 1:
        yield from map(function, tasks)
        return
    parts = (tasks[at : at + chunk] for at in range(0, len(tasks), chunk))
    with pool(workers) as hands, contextlib.closing(hands.in_order(partial(_all_of, function), parts)) as done:
        for results in done:
            yield from results


class Pool(Executor):
    """Processes of one thread each for any function; WorkerDied for every task once one of them is lost."""

    def __init__(self, workers: int) -> None:
        advice = "run again, with fewer --workers if memory is short"
        with _one_thread_each():
            # spawn: a fork would copy the locks of torch's threads in whatever state they are.
            self._crew = crew.Crew(_call, workers, "spawn", if_dead=advice, if_hung=advice, grace_s=_GRACE_S)
        self.workers = workers

    def submit(self, function: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        """Have function(*args, **kwargs) computed."""
        return self._crew.submit((function, args, kwargs))

    def in_order(self, function: Callable[[T], R], tasks: Iterable[T]) -> Generator[R]:
        """Yield function(task) for every task, in order, with at most four of them on their way for each process."""
        return crew.in_order(self._crew, ((function, (task,), {}) for task in tasks), 4 * self.workers)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes; what they have begun is given its grace, what waits is dropped."""
        self._crew.close()


@contextlib.contextmanager
def pool(workers: int) -> Iterator[Pool]:
    """Yield a pool of `workers` processes, which are gone when the block is left."""
    hands = Pool(workers)
    try:
        yield hands
    finally:
        hands.shutdown()


def _call(task: tuple[Callable[..., R], tuple[Any, ...], dict[str, Any]]) -> R:
    function, args, kwargs = task
    return function(*args, **kwargs)


def _all_of(function: Callable[[T], R], tasks: Sequence[T]) -> list[R]:
    done = []
    for task in tasks:
        with working.at_work:
            done.append(function(task))
    return done


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    # The arithmetic libraries read these when a child starts; without them every child takes every core.
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
