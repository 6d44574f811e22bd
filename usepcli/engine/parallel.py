"""A function over many small tasks in several processes, results in order, nothing left behind.

Signals are the parent's affair: Ctrl-C and SIGTERM reach a whole group of processes, and a worker that answered them
too would print a traceback, die in the middle of a file, and look like a fault.  The parent tells its workers over a
pipe that nothing more is wanted; a task of `run_tasks` under way, which may be writing a file, is given some seconds.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import connection
from typing import Any, TypeVar

from usepcli.errors import WorkerDied

T = TypeVar("T")
R = TypeVar("R")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_GRACE_S = 10.0  # for the task under way when nothing more is wanted
_at_work = threading.Lock()  # in a worker: held while a task of run_tasks is under way


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
    with pool(workers) as executor:
        yield from executor.map(partial(_wanted, function), tasks, chunksize=chunk)


@contextlib.contextmanager
def pool(workers: int) -> Iterator[Executor]:
    """Yield an executor of `workers` processes of one thread each, which are gone when the block is left.

    WorkerDied if one of them was killed.
    """
    # spawn: a fork would copy the locks of torch's threads in whatever state they are.
    context = multiprocessing.get_context("spawn")
    asked, end = context.Pipe(duplex=False)
    executor = ProcessPoolExecutor(workers, context, initializer=_worker, initargs=(asked,))
    try:
        with _one_thread_each():
            _launch(executor, workers)
        yield executor
    except BrokenProcessPool as err:
        raise WorkerDied(
            "a worker process died, most likely for lack of memory; pass fewer --workers and run again"
        ) from err
    finally:
        end.close()
        executor.shutdown(wait=True, cancel_futures=True)
        asked.close()


def _launch(executor: Executor, workers: int) -> None:
    # A task starts a process while none is idle.  All begin with signals blocked, until they know to ignore them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        for _ in range(workers):
            executor.submit(os.getpid)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wanted(function: Callable[[T], R], task: T) -> R:
    with _at_work:
        return function(task)


def _worker(asked: Any) -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent, asked), daemon=True).start()


def _follow(parent: Any, asked: Any) -> None:
    # Nothing is ever sent: the pipe becomes ready when the parent closes it, or is no more.
    if parent.sentinel not in connection.wait([parent.sentinel, asked]):
        _at_work.acquire(timeout=_GRACE_S)
    os._exit(1)


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
