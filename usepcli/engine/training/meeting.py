"""How ranks meet: torch's rendezvous store, which rank 0 or torchrun keeps, and who has come to it."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from usepcli import stops
from usepcli.engine.training.place import LISTENING
from usepcli.errors import WorkerDied

ARRIVAL_S = 600.0  # for all ranks to come: machines of one job may start minutes apart
SAY_S = 30.0  # between lines that say who is awaited
_DIAL_S = 30.0


def machine() -> str:
    """Return this machine's name and which of its process numbers are ours: containers have their own."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return f"{socket.gethostname()} {space}"


def _address(environ: Mapping[str, str]) -> tuple[str, int]:
    return environ["MASTER_ADDR"], int(environ["MASTER_PORT"])


def agent_there(environ: Mapping[str, str]) -> bool:
    """Whether torchrun, which kept the store before any rank was there, still does."""
    try:
        socket.create_connection(_address(environ), _DIAL_S).close()
    except OSError:
        return False
    return True


def dial(environ: Mapping[str, str], keeps: bool, patience_s: float) -> Any:
    """Return the store at the address that the environment names; keeps: this rank is to keep it.

    RuntimeError where nobody is there; WorkerDied where whoever is there does not answer in time.
    """
    import torch.distributed as dist

    address, port = _address(environ)
    listening = environ.get(LISTENING, "")
    found: list[Any] = []

    def reach() -> None:
        try:
            found.append(dist.TCPStore(
                address, port, None, keeps, timedelta(seconds=patience_s), wait_for_workers=False,
                master_listen_fd=int(listening) if keeps and listening else None,
            ))  # fmt: skip
        except Exception as error:
            found.append(error)

    # Where rank 0 stands still, the call waits for its answer in C, where no signal reaches a main thread.
    thread, end = threading.Thread(target=reach, daemon=True), time.monotonic() + patience_s
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
        if time.monotonic() > end + _DIAL_S:
            raise WorkerDied(f"rank 0 did not come, or did not answer, within {patience_s:.0f} s")
    if isinstance(found[0], Exception):
        raise found[0]
    return dist.PrefixStore(f"usep/{environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", found[0])


def missing(store: Any, world: int) -> str:
    """Return the numbers of the ranks that have not come, '' where all have."""
    return ", ".join(str(rank) for rank in range(world) if not store.check([f"here/{rank}"]))


def say_awaited(store: Any, rank: int, world: int) -> None:
    """Say which ranks are awaited, and let one speak for all: rank 0, and of itself the next one."""
    if store is None and rank == 1:
        stops.say("rank 1: waiting for rank 0")
    elif store is not None and rank == 0 and (lost := missing(store, world)):
        stops.say(f"waiting for rank {lost}")


def all_here(store: Any, world: int) -> None:
    """Wait until all ranks have come; WorkerDied where one does not."""
    keys = [f"here/{rank}" for rank in range(world)]
    end = time.monotonic() + ARRIVAL_S
    while not store.check(keys):
        if time.monotonic() > end:
            lost = missing(store, world)
            raise WorkerDied(f"of {world} ranks these did not come within {ARRIVAL_S:.0f} s: {lost}")
        time.sleep(0.05)
