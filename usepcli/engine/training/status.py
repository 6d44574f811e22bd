"""How a run stands: status.json in its folder says running, finished, stopped or failed, with exit code and reason.

Whoever started a run through another program, which has an exit code of its own, reads here what came of it.
"""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from usepcli.engine.folder import alive
from usepcli.errors import Stopped, UsepError
from usepcli.files import read_json, write_text

FILE = "status.json"
RUNNING, FINISHED, STOPPED, FAILED, KILLED = "running", "finished", "stopped", "failed", "killed"


def begin(folder: Path) -> None:
    """Write that a run goes on in the folder; IOFault or OutputError where that fails."""
    _write(folder, RUNNING, None, "")


def end(folder: Path, code: int, reason: str) -> None:
    """Write how the run ended: its exit code and the line that it printed."""
    state = FINISHED if code == 0 else STOPPED if code == Stopped.code else FAILED
    with suppress(OSError, UsepError):  # a full disk, say, of which the run's own message tells
        _write(folder, state, code, reason)


def read(folder: Path) -> dict[str, Any]:
    """Return what is known: state, code, reason, and when; {} where the folder says nothing.

    A run that neither goes on nor came to say how it ended was killed.
    """
    try:
        found = read_json(folder / FILE)
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    if found.get("state") == RUNNING and not alive(str(found.get("by"))):
        found |= {"state": KILLED, "reason": "ended without a word; the same command goes on from what it saved"}
    return found


def unsaid(folder: Path, main: str, signalled: bool) -> bool:
    """Whether it falls to another rank of a start to say there how that ended; main: rank 0's signature.

    A start that came to nothing must not leave the former one's "run again", which a scheduler would do for ever, but
    where a signal ended it; nor that a run goes on whose rank 0 has gone. Others' runs are not touched.
    """
    found = read(folder)
    state, ours = found.get("state"), found.get("by") == main
    return state == KILLED or (state == STOPPED and not signalled) or (state == RUNNING and ours)


def signature(pid: int, host: str) -> str:
    """Return how a process signs what it writes."""
    return f"pid {pid} on {host}"


def _write(folder: Path, state: str, code: int | None, reason: str) -> None:
    by = signature(os.getpid(), socket.gethostname())
    facts = {"state": state, "code": code, "reason": reason, "by": by, "at": time.strftime("%F %T")}
    write_text(folder / FILE, json.dumps(facts, indent=2) + "\n")
