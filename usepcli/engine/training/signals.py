"""SIGTERM, SIGINT, SIGUSR1 and SIGHUP ask for a stop at the next step; a second one stops at once."""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
ECHO_S = 10.0


class StopFlag:
    """Set by a signal; the training loop looks at it after every step."""

    def __init__(self, ranks: int = 1, speaks: bool = True) -> None:
        """Take the signals over for one of `ranks`, which speaks of them or leaves it to another.

        One signal reaches ranks twice, by the group and by their launcher: for them another one counts a while later.
        """
        self.by, self._at = "", 0.0
        self._echo_s, self._speaks = 0.0 if ranks == 1 else ECHO_S, speaks
        self._before = {number: signal.getsignal(number) for number in STOPS}
        for number in STOPS:
            signal.signal(number, self._raise)

    def ask(self, by: str, number: int = 0) -> None:
        """Ask for a stop at the next step, as the first signal does."""
        self.by = self.by or by

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self.by:
            if time.monotonic() - self._at > self._echo_s:
                os._exit(128 + number)
            return
        self._at = time.monotonic()
        self.by = signal.Signals(number).name
        # os.write because a handler may interrupt another write to the same stream.
        if self._speaks:
            os.write(sys.stderr.fileno(), f"usep: {self.by}: finishing this step, then saving\n".encode())

    def close(self) -> None:
        """Put the former handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
