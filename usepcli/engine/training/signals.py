"""SIGTERM, SIGINT and SIGUSR1 ask for a stop at the next step; a second one stops at once."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopFlag:
    """Set by a signal; the training loop looks at it after every step."""

    def __init__(self) -> None:
        self.by = ""
        self._before = {number: signal.getsignal(number) for number in STOPS}
        for number in STOPS:
            signal.signal(number, self._raise)

    def ask(self, by: str, number: int = 0) -> None:
        """Ask for a stop at the next step, as the first signal does."""
        self.by = self.by or by

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self.by:
            os._exit(128 + number)
        self.by = signal.Signals(number).name
        # os.write because a handler may interrupt another write to the same stream.
        os.write(sys.stderr.fileno(), f"usep: {self.by}: finishing this step, then saving\n".encode())

    def close(self) -> None:
        """Put the former handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
