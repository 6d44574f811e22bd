"""SIGINT, SIGTERM, SIGHUP and SIGUSR1 ask for a stop at the next step; a second one stops at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from usepcli import stops

# Slurm signals a step, and its srun, which passes it on 10 ms later; it kills what does not end in time, so there a
# repeated word is the first one's echo, but for Ctrl-C after a while.
_SLURM = "SLURM_JOB_ID"
_SLURM_ECHO_S = 1.0
# What a group of processes gets reaches ranks by their launcher, too.
_RANKS_ECHO_S = 10.0
_RETRY_S = 0.05
_WORD_S = 2.0  # for a last word to be written


class Cut(BaseException):
    """A signal ended what may be ended anywhere; no Exception, so that no guard takes it for a fault of an item."""


class StopFlag:
    """Set by a signal; the training loop looks at `by` after every step.

    What it says comes from a thread of its own, at once, even while the main thread computes one long step.
    """

    current: StopFlag | None = None

    def __init__(
        self, ranks: int = 1, speaks: bool = True, doing: str = "", environment: Mapping[str, str] = os.environ
    ) -> None:
        """Take the signals over for one of `ranks`, which speaks of them or leaves it to another.

        doing: what is said to be done when one comes.
        """
        self.by, self.number = "", 0
        self.doing = doing or "finishing this step, then saving"
        self._speaks, self._slurm = speaks, _SLURM in environment
        self._echo_s = _RANKS_ECHO_S if ranks > 1 else _SLURM_ECHO_S if self._slurm else 0.0
        self._at = 0.0
        self._cutting = False
        self._before = {n: signal.getsignal(n) for n in (*stops.NUMBERS, signal.SIGALRM)}
        self._ear, self._mouth = os.pipe()
        for end in (self._ear, self._mouth):
            os.set_blocking(end, end == self._ear)
        self._wakeup = signal.set_wakeup_fd(self._mouth, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        for number in stops.NUMBERS:
            # Ctrl-C is taken even where a shell has it ignored: there is a state to save.
            if number != signal.SIGHUP or stops.answered(number):
                signal.signal(number, self._note)
        signal.signal(signal.SIGALRM, self._retry)
        StopFlag.current = self

    def ask(self, by: str, number: int = 0) -> None:
        """Ask for a stop at the next step, as the first signal does."""
        if not self.by:
            self.by, self.number = by, number

    @contextmanager
    def cutting(self, doing: str) -> Iterator[None]:
        """Raise Cut where a signal comes inside the block, or has come before; nothing in it may need an end."""
        was, self.doing = self.doing, doing
        try:
            self._cutting = True
            if self.by:
                raise Cut
            yield
        finally:
            self._cutting = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            if not self.by:  # otherwise it is still to be said
                self.doing = was

    def close(self) -> None:
        """Put the former handlers back."""
        StopFlag.current = None
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._mouth)
        self._thread.join()
        os.close(self._ear)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.ask(stops.name_of(number), number)
        self._retry(number, frame)

    def _retry(self, number: int, frame: FrameType | None) -> None:
        if not (self._cutting and self.by):
            return
        # Again after a while: what is raised in a callback of libsndfile, or while something is deleted, is lost.
        signal.setitimer(signal.ITIMER_REAL, _RETRY_S)
        if not _swallowed(frame):
            signal.setitimer(signal.ITIMER_REAL, 20 * _RETRY_S)
            raise Cut

    def _listen(self) -> None:
        while heard := os.read(self._ear, 64):
            for number in heard:
                if number in stops.NUMBERS:
                    self._heard(number)

    def _heard(self, number: int) -> None:
        if stops.held():
            return
        now = time.monotonic()
        if not self._at:
            self._at = now
            if self._speaks:
                stops.say(f"{stops.name_of(number)}: {self.doing}")
        elif now - self._at >= self._echo_s and not (self._slurm and number != signal.SIGINT):
            stops.say(f"{stops.name_of(number)} again: stopped at once; what was saved before stands")
            # In a thread of its own: a disk that does not answer is a reason to be stopped at once.
            word = threading.Thread(target=stops.tell, args=(number, 128 + number), daemon=True)
            word.start()
            word.join(_WORD_S)
            os._exit(128 + number)


def _swallowed(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.endswith("soundfile.py") or frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False
