"""Ctrl-C and SIGTERM end a batch at once, but never in the middle of a call from libsndfile."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from types import FrameType, TracebackType

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Ending:
    """Inside its `with` block SIGINT raises KeyboardInterrupt and SIGTERM SystemExit(143), so files are cleaned up.

    libsndfile calls Python to read and write; what is raised in there is printed and lost. Such a signal waits for
    the next `check`. A second Ctrl-C ends the process where it stands; what that leaves, the next run clears away.
    A line on stderr says which signal it was, unless the caller has more to say (told).
    """

    def __init__(self, told: bool = False) -> None:
        self._told = told
        self._waiting = 0
        self._asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Ending:
        if threading.current_thread() is threading.main_thread():
            for number in _NUMBERS:
                # A shell that starts jobs in the background has them ignore SIGINT: so be it.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if kind is None:
            self.check()

    def check(self) -> None:
        """Raise what a signal asked for while it could not be raised."""
        if self._waiting:
            number, self._waiting = self._waiting, 0
            self._stop(number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            if number == signal.SIGINT:
                os._exit(128 + number)
            return  # what was asked for first is being done
        self._asked = True
        while frame is not None:
            if frame.f_code.co_filename.endswith("soundfile.py"):
                self._waiting = number
                return
            frame = frame.f_back
        self._stop(number)

    def _stop(self, number: int) -> None:
        by = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        if not self._told:
            with suppress(OSError):  # not print: a handler may interrupt another write to the same stream
                os.write(2, f"usep: stopped by {by}\n".encode())
        if number == signal.SIGINT:
            raise KeyboardInterrupt(by)  # with a word: who catches it last need not speak again
        raise SystemExit(128 + number)
