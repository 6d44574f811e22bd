"""SIGTERM, SIGINT and SIGUSR1 ask for a stop at the next step; a second one stops at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar

T = TypeVar("T")
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


def started(loader: Iterable[T]) -> Iterator[T]:
    """Return iter(loader); signals wait meanwhile, so that none meets a worker that does not ignore it yet."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_in_worker(_: int = 0) -> None:
    """Let data workers outlive a signal sent to the whole group: the trainer ends them after it has saved."""
    import torch

    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
