"""What a worker process does: it answers tasks, ignores signals, and is gone when its parent is.

The kernel kills it with its parent (Linux), whatever it is doing; elsewhere it sees within a second that it has another
one.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import connection
from typing import Any, NoReturn

from usepcli.audio import reading
from usepcli.engine import lines
from usepcli.errors import Unforeseen

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class AtWork:
    """Held while a file may be half written: who wants the end of this process gets it before the next `with`.

    A lock alone is not enough: who releases one and takes it again at once mostly gets it before those who wait.
    """

    def __init__(self) -> None:
        self._lock, self._over = threading.Lock(), threading.Event()

    def __enter__(self) -> None:
        if self._over.is_set():
            os._exit(1)
        self._lock.acquire()

    def __exit__(self, *fault: object) -> None:
        self._lock.release()

    def end(self) -> NoReturn:
        """End this process once nothing is under way; whoever asked kills it when that takes too long."""
        self._over.set()
        self._lock.acquire()
        os._exit(1)


at_work = AtWork()


def work(
    function: Callable[[Any], Any],
    asked: Any,
    line: socket.socket,
    parent: int,
    others: Sequence[socket.socket],
    note: Any,
) -> None:
    """Answer the tasks that come over a line, until the parent is no more or asks for the end.

    asked: a pipe that becomes ready when no more is wanted.  others: sockets of the parent's that a fork must close.
    note: memory of the parent's for the name of the file that is read.
    """
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)
    for other in others:
        other.close()
    reading.share(note)
    bound = _dies_with_parent()
    if os.getppid() != parent:
        os._exit(1)
    if asked is not None or not bound:
        threading.Thread(target=_follow, args=(parent, asked), daemon=True).start()
    with suppress(EOFError, ConnectionError):  # the parent is no more
        while True:
            lines.send(line, _answer(function, lines.receive(line)))


def _answer(function: Callable[[Any], Any], task: Any) -> list[memoryview]:
    try:
        return lines.pack((True, function(task)))
    except Exception as error:
        if os.environ.get("USEP_DEBUG", "") not in ("", "0"):
            import traceback

            error.add_note(f"\nIn process {os.getpid()}:\n{''.join(traceback.format_exception(error))}")
        try:
            packed = lines.pack((False, error))
            lines.unpack(packed)
        except Exception:  # of a kind that does not travel
            packed = lines.pack((False, Unforeseen(f"{type(error).__name__}: {error}")))
        return packed


def _dies_with_parent() -> bool:
    """Have the kernel kill this process when its parent ends, and return whether it can."""
    if sys.platform != "linux":
        return False
    try:
        return bool(ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def _follow(parent: int, asked: Any) -> None:
    while True:
        if asked is None:
            time.sleep(1.0)
        elif connection.wait([asked], 1.0):
            break
        if os.getppid() != parent:
            os._exit(1)
    at_work.end()
