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
from collections.abc import Sequence
from types import FrameType

from usepcli import stops
from usepcli.engine.parallel import cores
from usepcli.engine.training.place import LISTENING, PARENT
from usepcli.errors import WorkerDied

PASSED_ON = stops.NUMBERS
LOOK_S = 0.05
# One that has ended ends the others within seconds, unless it was killed before they all had met: then they are told,
# and what stands still is killed.
TELL_S, KILL_S = 4.0, 20.0


def launch(ranks: int, line: Sequence[str]) -> int:
    """Run `line` as so many ranks, pass signals on, and return the exit code that they agree upon."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        children: list[subprocess.Popen[bytes]] = []
        sent: list[int] = []

        def pass_on(number: int, frame: FrameType | None) -> None:
            sent.append(number)
            for child in children:
                child.send_signal(number)

        before = {number: signal.signal(number, pass_on) for number in filter(stops.answered, PASSED_ON)}
        try:
            for rank in range(ranks):
                children.append(_start(rank, ranks, line, listening))
            _follow(children)
        finally:
            for child in children:
                child.kill()
            for number, handler in before.items():
                signal.signal(number, handler)
    return _agreed([child.wait() for child in children], sent)


def _start(rank: int, ranks: int, line: Sequence[str], listening: socket.socket) -> subprocess.Popen[bytes]:
    own = {
        "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks,
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": listening.getsockname()[1], PARENT: os.getpid(),
    }  # fmt: skip
    if rank == 0:
        own[LISTENING] = listening.fileno()
    shared = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": max(1, cores() // ranks)}
    env = {**os.environ, **{name: str(value) for name, value in (own | shared).items()}}
    return subprocess.Popen(line, env=env, pass_fds=[listening.fileno()] if rank == 0 else [])


def _follow(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait until all have ended; see to it where one failed and others do not follow."""
    failed, told = 0.0, False
    while None in [child.poll() for child in children]:  # every one is asked, whichever still runs
        time.sleep(LOOK_S)
        if not failed and any(child.returncode for child in children):
            failed = time.monotonic()
        late = time.monotonic() - failed if failed else 0.0
        if late > KILL_S:
            for child in children:
                child.kill()
        elif late > TELL_S and not told:
            told = True
            for child in children:
                child.terminate()


def _agreed(codes: Sequence[int], sent: Sequence[int]) -> int:
    """Return the code of ranks that ended with `codes`, negative for a signal; sent: signals that were passed on."""
    told = [code for code in codes if code > 0]
    if told:
        return Counter(told).most_common(1)[0][0]
    if codes[0] == 0:  # it is the last to end, and has written all; whoever was lost had nothing left to do
        return 0
    if sent and any(-code in sent for code in codes):  # in their start, when there was nothing to save
        sys.stderr.write(f"usep: stopped by {signal.Signals(sent[0]).name}\n")
        return 128 + sent[0]
    killed = [(-code == signal.SIGTERM, rank, -code) for rank, code in enumerate(codes) if code]
    if killed:
        _, rank, number = min(killed)  # the others were told by SIGTERM
        name = signal.Signals(number).name
        sys.stderr.write(f"usep: error: rank {rank} was killed ({name}); run the same command again\n")
        return WorkerDied.code
    return 0
