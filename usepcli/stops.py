"""Signals that ask for an end: which they are, what a process says and returns because of one, and the first moment.

SIGUSR1 is a scheduler's word that the time is nearly over: whatever it ends is to be run again, so its code is 75.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

AGAIN = 75  # errors.Stopped: run the same command again
NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
# A shell that starts jobs in the background has them ignore Ctrl-C, and nohup the end of the terminal: so be it.
# Nobody ignores the other two on purpose; who starts ranks may, and means itself.
_LEFT_ALONE = (signal.SIGINT, signal.SIGHUP)
_passing: set[str] = set()
_word: list[tuple[int, Callable[[int, int], None]]] = []
_held: list[bool] = []


class Ended(SystemExit):
    """The process is to end because of the signal `number`."""

    def __init__(self, number: int, code: int = 0) -> None:
        super().__init__(code or code_of(number))
        self.number = number


def code_of(number: int) -> int:
    """Return the exit code of a process that a signal ended while it had nothing of its own to save."""
    return AGAIN if number == signal.SIGUSR1 else 128 + number


def name_of(number: int) -> str:
    """Return what a user calls the signal."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def answered(number: int) -> bool:
    """Whether a signal is this process's affair, and not one that its caller has it ignore."""
    return not (number in _LEFT_ALONE and signal.getsignal(number) is signal.SIG_IGN)


def say(line: str) -> None:
    """Write a line to stderr from within a handler: not by print, which a handler may have interrupted."""
    with suppress(OSError, ValueError, AttributeError):  # a terminal that is gone, a stream without a file
        to = sys.stderr.fileno()
        clear = "\r\033[K" if os.isatty(to) else ""  # a line of progress
        os.write(to, f"{clear}usep: {line}\n".encode("utf-8", "backslashreplace"))


def passing(path: str | os.PathLike[str]) -> None:
    """Note a file or folder of this process that is not to be left behind, whatever comes."""
    if len(_passing) > 100:
        _passing.intersection_update([each for each in _passing if os.path.lexists(each)])
    _passing.add(os.fspath(path))


def last_word(said: Callable[[int, int], None] | None) -> None:
    """Have `said(number, code)` called where a signal ends this process at once; None: nothing any more."""
    _word[:] = [(os.getpid(), said)] if said else []


def hold() -> None:
    """Answer no signal any more: this process is ending, and what it has yet to tell takes seconds at most."""
    _held[:] = [True]


def held() -> bool:
    """Whether signals have nothing to ask for any more."""
    return bool(_held)


def tell(number: int, code: int) -> None:
    """Have the last word said: a signal ends this process at once, with `code`."""
    for pid, said in _word:
        if pid == os.getpid():  # a fork's end is not this process's
            said(number, code)


def leave(number: int, code: int = 0) -> NoReturn:
    """End at once because of a signal, without what an exception would undo but for the files noted as passing."""
    tell(number, code or code_of(number))
    for path in list(_passing):
        with suppress(OSError):
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    os._exit(code or code_of(number))


def begin() -> None:
    """Answer signals while the program itself is still being loaded and has nothing to clear away."""
    atexit.register(_finish)  # the first to be registered is the last to be called
    for number in filter(answered, NUMBERS):
        signal.signal(number, _at_once)


def _finish() -> None:
    # All is done, and the exit code is known. The interpreter takes its handlers away while it ends, and a signal to
    # hundreds of processes meets some of them just then.
    for number in NUMBERS:
        signal.signal(number, signal.SIG_IGN)


def _at_once(number: int, frame: FrameType | None) -> None:
    if _held:
        return
    # No exception: what is being imported may swallow it.
    say(f"stopped by {name_of(number)}")
    leave(number)
