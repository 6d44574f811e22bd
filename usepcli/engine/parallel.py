"""A function over many small tasks in several processes, results in order, nothing left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from usepcli.errors import WorkerDied

T = TypeVar("T")
R = TypeVar("R")


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
    executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_worker)
    try:
        yield from executor.map(function, tasks, chunksize=chunk)
    except BrokenProcessPool as err:
        raise WorkerDied(
            "a worker process died, most likely for lack of memory; pass fewer --workers and run again"
        ) from err
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _worker() -> None:
    # The parent alone answers Ctrl-C; a worker finishes its file. If the parent is killed, the worker goes
    # too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: Any) -> None:
    parent.join()
    os._exit(1)
