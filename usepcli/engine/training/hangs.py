"""The end of a training whose main thread hangs in reading a file: at the first look, or in a validation.

No exception reaches a thread that waits inside the system, so another one ends the process, with the reason; data
workers die with it, and what was saved stands: a run saves before it validates.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from usepcli import guard, stops
from usepcli.audio import reading
from usepcli.engine.training import status
from usepcli.engine.training.watch import Watch
from usepcli.errors import WorkerDied
from usepcli.files import show


def limited(limit_s: float, folder: Path, watch: Watch | None) -> AbstractContextManager[None]:
    """Return a block in which no read of the main thread lasts longer than limit_s (0: for ever): exit code 70 then."""

    def end(path: str) -> None:
        fault = WorkerDied(
            f"{show(path)}: reading takes longer than {limit_s:g} s (train.worker_timeout_s): the disk hangs or is "
            "slow; see to it or raise train.worker_timeout_s, and run the same command again"
        )
        if watch is not None:
            watch.fail(fault)
        line, code = guard.explain(fault)
        stops.say(line.removeprefix("usep: "))
        if status.read(folder).get("state") == status.RUNNING:
            status.end(folder, code, str(fault))
        stops.leave(0, code)

    return reading.limited(limit_s, end)
