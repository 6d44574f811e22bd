"""A bar for a person at a terminal, one plain line every half minute for a log file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import Any, Self, TextIO

PLAIN_EVERY_S = 30.0
_USUAL_SIZE = {"ncols": 80, "nrows": 24}


class Progress:
    """Count `unit`s of work on stderr; iterate it, or call `update` and `note` from a loop of your own."""

    def __init__(
        self,
        iterable: Iterable[Any] | None = None,
        total: int | None = None,
        desc: str = "",
        unit: str = "item",
        quiet: bool = False,
        stream: TextIO | None = None,
        every_s: float = PLAIN_EVERY_S,
    ) -> None:
        self._iterable = iterable
        self.total = len(iterable) if total is None and isinstance(iterable, Sized) else total
        self.desc, self.unit, self.quiet, self.every_s = desc, unit, quiet, every_s
        self.done = 0
        self._note = ""
        self._stream = stream if stream is not None else sys.stderr
        self._start = self._said = time.monotonic()
        self._bar = None if quiet or not self._stream.isatty() else self._tqdm()

    def _tqdm(self) -> Any:
        # Outside a terminal tqdm is never needed, so its absence may not stop a batch job.
        try:
            from tqdm import tqdm
        except ImportError:
            return None
        known: dict[str, Any] = {"dynamic_ncols": True} if _sized(self._stream) else _USUAL_SIZE
        return tqdm(total=self.total, desc=self.desc, unit=self.unit, file=self._stream, **known)

    @property
    def shown(self) -> bool:
        """Whether there is a bar, around which lines have to be written by `say`."""
        return self._bar is not None

    def update(self, n: int = 1) -> None:
        """Count n more units; writes at most one plain line per `every_s` seconds when there is no bar."""
        self.done += n
        if self._bar is not None:
            self._bar.update(n)
        elif not self.quiet and time.monotonic() - self._said >= self.every_s:
            self._said = time.monotonic()
            self.say(self.line())

    def note(self, text: str, now: bool = False) -> None:
        """Show `text` (the numbers that matter now) behind the count; with `now`, not only at the next update."""
        self._note = text
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=now)
        elif now:
            self.update(0)

    def say(self, line: str) -> None:
        """Write a line of its own on stderr without breaking the bar."""
        if self._bar is not None:
            self._bar.write(line, file=self._stream)
        else:
            self._stream.write(line + "\n")
            self._stream.flush()

    def line(self) -> str:
        """Return the plain line: what, how far, how fast, how long still, and the note."""
        spent = max(time.monotonic() - self._start, 1e-9)
        rate = self.done / spent
        far = f"{self.done}/{self.total}" if self.total else str(self.done)
        parts = [f"{far} {self.unit}", f"{rate:.3g} {self.unit}/s"]
        if self.total and rate > 0 and self.done < self.total:
            parts.append(f"{clock((self.total - self.done) / rate)} left")
        parts += [self._note] if self._note else []
        return (f"{self.desc}: " if self.desc else "") + ", ".join(parts)

    def close(self) -> None:
        """Finish the bar; safe to call twice."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
            self.quiet = True

    def __iter__(self) -> Iterator[Any]:
        try:
            for item in self._iterable if self._iterable is not None else ():
                yield item
                self.update()
        finally:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _sized(stream: TextIO) -> bool:
    """Return whether a terminal tells its size; tqdm draws nothing on one of no columns and no rows."""
    try:
        return min(os.get_terminal_size(stream.fileno())) > 0
    except (OSError, ValueError):
        return False


def progress(
    iterable: Iterable[Any] | None = None,
    total: int | None = None,
    desc: str = "",
    unit: str = "item",
    quiet: bool = False,
) -> Progress:
    """Return a Progress on stderr: a tqdm bar on a terminal, else one plain line every 30 s."""
    return Progress(iterable, total, desc, unit, quiet)


def clock(seconds: float) -> str:
    """Return seconds as `42 s`, `12:07` or `3:05:00`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
