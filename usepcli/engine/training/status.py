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


def _write(folder: Path, state: str, code: int | None, reason: str) -> None:
    by = f"pid {os.getpid()} on {socket.gethostname()}"
    facts = {"state": state, "code": code, "reason": reason, "by": by, "at": time.strftime("%F %T")}
    write_text(folder / FILE, json.dumps(facts, indent=2) + "\n")
