"""Several ranks on this machine, started and followed by one process that ends as they do.

torchrun does the same for many machines, but ends with 1 whatever its ranks end with, and some signals end it alone.
Torch's own rendezvous brings the ranks together, at a socket that stands before the first of them does.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from usepcli import stops
from usepcli.engine.parallel import cores
from usepcli.engine.training import status
from usepcli.engine.training.place import LISTENING, PARENT
from usepcli.errors import Stopped, WorkerDied

PASSED_ON = stops.NUMBERS
LOOK_S = 0.05
# One that has ended ends the others within seconds, unless it was killed before they all had met: then they are told,
# and what stands still is killed.
TELL_S, KILL_S = 4.0, 20.0


def launch(ranks: int, line: Sequence[str], folder: Path, quiet: bool = False, told: list[int] | None = None) -> int:
    """Run `line` as so many ranks, pass signals on, and return the exit code that they agree upon.

    folder: of the run, in which a code is noted that no rank came to note. quiet: their stdout is nobody's.
    told: is given the signals that were passed on.
    """
    earlier = status.read(folder)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        children: list[subprocess.Popen[bytes]] = []
        sent: list[int] = [] if told is None else told

        def pass_on(number: int, frame: FrameType | None) -> None:
            sent.append(number)
            for child in children:
                child.send_signal(number)

        before = {number: signal.signal(number, pass_on) for number in filter(stops.answered, PASSED_ON)}
        try:
            for rank in range(ranks):
                if not sent:
                    children.append(_start(rank, ranks, line, listening, quiet))
            for child in children if sent else ():  # one may have been on its way when the signal came
                child.send_signal(sent[0])
            ended = _follow(children)
        finally:
            for child in children:
                child.kill()
            for number, handler in before.items():
                signal.signal(number, handler)
    code, reason = _agreed({rank: children[rank].wait() for rank in ended}, sent)
    if reason:
        sys.stderr.write(f"usep: {reason}\n")
    if code:
        _note(folder, earlier, code, reason.removeprefix("error: "))
    return code


def _note(folder: Path, earlier: Mapping[str, Any], code: int, reason: str) -> None:
    """Note how the ranks ended where they did so before they could, or a former start's "run again" would stand."""
    found = status.read(folder)
    stale = found == earlier and found.get("state") == status.STOPPED and code != Stopped.code
    if stale or found.get("state") == status.KILLED:
        status.end(folder, code, reason or f"the ranks ended with {code} in their start, and said why")


def _start(
    rank: int, ranks: int, line: Sequence[str], listening: socket.socket, quiet: bool
) -> subprocess.Popen[bytes]:
    own = {
        "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks,
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": listening.getsockname()[1], PARENT: os.getpid(),
    }  # fmt: skip
    if rank == 0:
        own[LISTENING] = listening.fileno()
    shared = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": max(1, cores() // ranks)}
    env = {**os.environ, **{name: str(value) for name, value in (own | shared).items()}}
    to = subprocess.DEVNULL if quiet else None
    return subprocess.Popen(line, env=env, pass_fds=[listening.fileno()] if rank == 0 else [], stdout=to)


def _follow(children: Sequence[subprocess.Popen[bytes]]) -> list[int]:
    """Wait until all have ended, and return the ranks as they did, one after the other.

    Sees to it where one failed, or rank 0 is done, and others do not follow.
    """
    failed, done, told = 0.0, 0.0, False
    ended: list[int] = []
    while True:
        ended += [n for n, child in enumerate(children) if n not in ended and child.poll() is not None]
        if len(ended) == len(children):
            return ended
        time.sleep(LOOK_S)
        if not failed and any(child.returncode for child in children):
            failed = time.monotonic()
        late = time.monotonic() - failed if failed else 0.0
        if not done and 0 in [child.returncode for child in children]:
            done = time.monotonic()
        if late > KILL_S:
            for child in children:
                child.kill()
        elif done and not failed and time.monotonic() - done > KILL_S:
            for rank, child in enumerate(children):
                if child.poll() is None:
                    stops.say(
                        f"warning: rank {rank} (pid {child.pid}) was still there {KILL_S:.0f} s after another had "
                        "ended with all done: killed"
                    )
                    child.kill()
        elif late > TELL_S and not told:
            told = True
            for child in children:
                child.terminate()


def _agreed(codes: Mapping[int, int], sent: Sequence[int]) -> tuple[int, str]:
    """Return the code of ranks that ended with `codes`, negative for a signal, and what none of them could say.

    codes: of each rank, in the order in which they ended. sent: signals that were passed on.
    """
    if codes.get(0) == 0:  # it has written all; whoever was lost had nothing left to do
        return 0, ""
    told = [code for code in codes.values() if code > 0]
    if told:
        return Counter(told).most_common(1)[0][0], ""
    if sent and (not codes or any(-code in sent for code in codes.values())):  # in their start, with nothing to save
        return stops.code_of(sent[0]), f"stopped by {stops.name_of(sent[0])}"
    if killed := [rank for rank, code in codes.items() if code]:
        rank = killed[0]  # whose end was that of the others
        name = signal.Signals(-codes[rank]).name
        return WorkerDied.code, f"error: rank {rank} was killed ({name}); run the same command again"
    return 0, ""
