"""Standard output and error as a program on Unix should have them: a reader who leaves ends it without a word.

Python raises BrokenPipeError where a reader has gone, and Typer takes that from whatever raised it, a pipe to a
worker among them, and ends with 1. Here only the two streams speak for themselves. A training is asked to save first:
Ctrl-C in `usep train ... 2>&1 | tee log` ends tee as well. A terminal that is gone has no reader, and is no fault.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from typing import Any

from usepcli.engine.training.signals import StopFlag
from usepcli.errors import IOFault
from usepcli.files import shown

NAMES = {"stdout": "standard output", "stderr": "standard error"}
_ANEW = "\r\033[K"
GONE = 141  # what a shell says of a process that SIGPIPE ended: 128 + 13


class Stream:
    """A text stream whose lost reader is SystemExit(141), and whose other faults are an IOFault with its name."""

    def __init__(self, stream: Any, name: str) -> None:
        """Take a stream of the interpreter; letters that its encoding lacks are escaped from now on.

        On a terminal, and in all that is said for people, what would drive a terminal is escaped, too.
        """
        self._stream, self._name, self._lost, self._told = stream, name, False, False
        self._read = name == NAMES["stderr"] or stream.isatty()
        self._terminal = stream.isatty()
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write as the stream does, but for nothing at all, by which Typer asks what kind of stream this is."""
        if text == "":
            return 0
        if self._read:
            # Progress begins its line anew; nothing else of the kind is ours.
            anew = _ANEW if text.startswith(_ANEW) else ""
            text = anew + shown(text.removeprefix(anew))
        return int(self._tried(self._stream.write, text) or 0)

    def flush(self) -> None:
        """Flush as the stream does."""
        self._tried(self._stream.flush)

    def _tried(self, call: Any, *values: Any) -> Any:
        try:
            done = call(*values)
        except BrokenPipeError:
            self._blind()
            self._lost, done = True, None
            if StopFlag.current:
                self._told = True
                StopFlag.current.ask(f"the reader of {self._name} has left")
        except OSError as err:
            self._blind()
            if err.errno == errno.EIO and self._terminal:
                return None
            raise IOFault(f"{self._name}: writing failed: {err.strerror or err}") from err
        # Another thread would end alone, and be waited for.
        if self._lost and not self._told and threading.current_thread() is threading.main_thread():
            self._told = True
            raise SystemExit(GONE)
        return done

    def _blind(self) -> None:
        """Let what still waits in the stream go nowhere: the interpreter flushes it once more when it ends."""
        blank = os.open(os.devnull, os.O_WRONLY)
        os.dup2(blank, self._stream.fileno())
        os.close(blank)


def install() -> None:
    """Put both streams in their places; where the caller closed 0, 1 or 2, nothing stands there from now on.

    Otherwise the next file that is opened would take the number, and get what libraries print.
    """
    while (blank := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(blank, True)
    os.close(blank)
    for name, words in NAMES.items():
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as the process
        if not isinstance(stream, Stream):
            setattr(sys, name, Stream(stream, words))
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
