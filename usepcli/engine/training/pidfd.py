"""A process of this machine by a descriptor, which means the same process for ever: numbers are given anew."""

from __future__ import annotations

import select
import signal
from contextlib import suppress


def has_ended(process: int) -> bool:
    """Return whether the process of a pidfd is no more."""
    look = select.poll()  # select itself takes no number above 1023
    look.register(process, select.POLLIN)
    return bool(look.poll(0))


def kill(process: int) -> None:
    """Kill the process of a pidfd, unless it is no more or belongs to somebody else."""
    with suppress(OSError):
        signal.pidfd_send_signal(process, signal.SIGKILL)
