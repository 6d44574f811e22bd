"""Signals end what is at work at once, but never in the middle of a call from libsndfile, and files are cleaned up."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType, TracebackType

from usepcli import stops
from usepcli.stops import Ended, name_of

_RETRY_S = 0.05


class Ending:
    """Inside its `with` block SIGINT raises KeyboardInterrupt; SIGTERM, SIGHUP and SIGUSR1 raise Ended (SystemExit).

    libsndfile calls Python to read and write; what is raised in there is printed and lost. Such a signal waits for
    the call's end, or the next `check`. A library that is being loaded would take the exception for a fault of its
    own, and takes seconds: then the process ends where it stands. So it does at a second Ctrl-C; what that leaves,
    the next run clears away.
    A line on stderr says which signal it was, unless the caller has more to say (told). With `again`, what is said
    beside, every signal ends with 75: something is there from which the same command goes on. With `at_once` nothing
    is raised: the process ends as while a library is loaded.
    """

    _depth = _asked = 0  # of all blocks together: one inside another ends for the same signal, told once

    def __init__(self, told: bool = False, again: str = "", at_once: bool = False) -> None:
        self._told, self._more, self._at_once = told, again, at_once
        self._waiting = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Ending:
        if Ending._depth == 0:
            Ending._asked = 0
        Ending._depth += 1
        if threading.current_thread() is threading.main_thread():
            for number in filter(stops.answered, stops.NUMBERS):
                self._before[number] = signal.signal(number, self._note)
            self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._try)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        Ending._depth -= 1
        if self._before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if kind is None:
            self.check()

    def check(self) -> None:
        """Raise what a signal asked for while it could not be raised."""
        if self._waiting:
            self._raise()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if stops.held():
            return
        if Ending._asked:
            if number == signal.SIGINT:
                stops.tell(number, 128 + number)
                os._exit(128 + number)
            return  # what was asked for first is being done
        Ending._asked = number
        loading = _inside(frame, "<frozen importlib._bootstrap>")
        if not self._told or (loading and not self._at_once):
            stops.say(f"stopped by {name_of(number)}{self._more and f': {self._more}'}")
        if loading or self._at_once:
            stops.leave(number, stops.AGAIN if self._more else 0)
        self._waiting = True
        self._try(number, frame)

    def _try(self, number: int, frame: FrameType | None) -> None:
        """Raise what is asked for, and once more where it got lost: in a callback, or while something is deleted."""
        signal.setitimer(signal.ITIMER_REAL, _RETRY_S)
        if not (_under_way() or _inside(frame, "soundfile.py")):
            self._raise()

    def _raise(self) -> None:
        self._waiting = False
        if Ending._asked == signal.SIGINT and not self._more:
            raise KeyboardInterrupt(name_of(Ending._asked))  # with a word: who catches it last need not speak again
        raise Ended(Ending._asked, stops.AGAIN if self._more else 0)


class Noting:
    """Inside its `with` block the first signal is only noted, for a loop that looks at it; a second one ends at once.

    What is written meanwhile has to be whole at every moment.
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, object] = {}

    def __call__(self) -> bool:
        """Whether a stop is asked for."""
        return self.number > 0

    def __enter__(self) -> Noting:
        if threading.current_thread() is threading.main_thread():
            for number in filter(stops.answered, stops.NUMBERS):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *fault: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def stop(self) -> None:
        """Raise what the signal asks for, where there was one: the exit code is its own."""
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt(name_of(self.number))
        if self.number:
            raise Ended(self.number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            stops.leave(number)
        self.number = number


def _under_way() -> bool:
    """Whether what is being cleaned up just now is cleaned up because of a signal."""
    error = sys.exception()
    while error is not None and not isinstance(error, (Ended, KeyboardInterrupt)):
        error = error.__context__
    return error is not None


def _inside(frame: FrameType | None, file: str) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.endswith(file):
            return True
        frame = frame.f_back
    return False
