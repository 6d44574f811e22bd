"""A task of a worker that a spawned process can import: it reads a file, and meets a signal there."""

from __future__ import annotations

import os

from usepcli.audio.reading import reading


def read(task: tuple[str, int]) -> int:
    """Note that a file is read, and send this process a signal, 0 for none."""
    path, number = task
    with reading(path):
        if number:
            os.kill(os.getpid(), number)
    return 0
