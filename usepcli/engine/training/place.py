"""Which of several ranks a process is, as the variables say that torchrun and `usep train --ranks` set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from usepcli.errors import ConfigError

PARENT = "RANKS_PARENT"  # set by `usep train --ranks`: its process
LISTENING = "RANKS_LISTENING"  # and the socket on which rank 0 is to keep the store


class Place(NamedTuple):
    """Which of `world` ranks this process is, and which on its machine."""

    rank: int = 0
    world: int = 1
    local: int = 0


def place(environ: Mapping[str, str] = os.environ) -> Place:
    """Return the place that torchrun or `usep train --ranks` gave this process; ConfigError where it is none."""
    found = []
    for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0)):
        text = environ.get(name, str(default))
        if not text.isascii() or not text.isdecimal():
            raise ConfigError(f"{name}: found '{text}' in the environment; expected a number, as torchrun sets it")
        found.append(int(text))
    here = Place(*found)
    if here.rank >= max(here.world, 1):
        raise ConfigError(f"RANK: found {here.rank} with WORLD_SIZE {here.world} in the environment; expected less")
    if here.world > 1 and not (environ.get("MASTER_ADDR") and environ.get("MASTER_PORT", "").isdecimal()):
        raise ConfigError(
            f"WORLD_SIZE: found {here.world} without MASTER_ADDR and MASTER_PORT in the environment; start several "
            "ranks by usep train --ranks or torchrun"
        )
    return here
