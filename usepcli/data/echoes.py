"""Rooms for fresh mixtures: every voice of a mixture through a response of its own of one room.

A voice is heard from the arrival of its direct sound on and as far as the segment lasts, at the level that it had
before. What is heard, all its echoes with it, is the reference.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.signal import oaconvolve

from usepcli.audio import io
from usepcli.audio.resample import resample
from usepcli.data.corpora.base import Bad
from usepcli.data.corpora.responses import responses_in
from usepcli.data.rooms import arrival
from usepcli.errors import BadInput, InputNotFound
from usepcli.files import show

_RATIOS = (0.8, 0.1, 0.1)  # of rooms whose splits nobody names, as for recordings
_REMEMBERED = 1000  # responses; a second of each is 64 kB at 16 kHz


class Echo(NamedTuple):
    """A response: a channel of a file."""

    path: str
    channel: int


class Echoes:
    """Rooms at one rate, each a list of responses, which are read when they are first heard."""

    def __init__(self, rooms: Sequence[Sequence[Echo]], rate: int) -> None:
        self.rooms, self.rate = [list(room) for room in rooms], rate
        self.read_last = Path()  # the file that was asked for last

    def __call__(self, waves: Sequence[np.ndarray], draw: np.random.Generator) -> list[np.ndarray]:
        """Return waves (T,) as they sound in a room that is drawn, no two at one place while it has another."""
        room = self.rooms[int(draw.integers(len(self.rooms)))]
        places = draw.permutation(len(room))
        return [self._heard(wave, room[places[k % len(room)]]) for k, wave in enumerate(waves)]

    def _heard(self, wave: np.ndarray, echo: Echo) -> np.ndarray:
        self.read_last = Path(echo.path)
        found = oaconvolve(wave, _response(echo, self.rate))[: len(wave)]
        level, now = (float(np.sqrt(np.mean(np.square(each)))) for each in (wave, found))
        return found * (level / now) if now else found


def place(folder: Path) -> Path:
    """Return where the responses lie: in a folder, or in that of the rooms which prepare-data simulated for a set."""
    return folder / "rooms" if (folder / "prepare.json").is_file() else folder


def echoes(folder: Path, split: str, rate: int, seed: int) -> Echoes:
    """Return the rooms of a split in a folder of responses, or those that prepare-data simulated for a set.

    InputNotFound where there is no such folder, BadInput where it holds none.
    """
    if not folder.is_dir():
        raise InputNotFound(f"data.rooms: {show(folder)}: no such folder; expected one of room responses")
    if (there := place(folder)) != folder:
        # Of every place the response and its direct sound alone (data/rooms.py).
        files = sorted(there.glob(f"{split}_*.wav"))
        rooms = [[Echo(str(path), k) for k in range(0, io.info(path).channels, 2)] for path in files]
    else:
        bad: list[Bad] = []
        by_room: dict[str, list[Echo]] = defaultdict(list)
        for row in responses_in(folder, [split], _RATIOS, seed, bad)[0]:
            by_room[row.speaker].append(Echo(str(folder / row.path), 0))
        rooms = [by_room[name] for name in sorted(by_room)]
    if not rooms:
        raise BadInput(
            f"data.rooms: {show(folder)}: no room response for split '{split}'; name a folder of responses, or a set "
            "that usep prepare-data made with --rooms"
        )
    return Echoes(rooms, rate)


@functools.lru_cache(maxsize=_REMEMBERED)
def _response(echo: Echo, rate: int) -> np.ndarray:
    """Return a response (L,) at a rate from its direct sound on, float32; BadInput for one that is silent."""
    waves, own = io.read(echo.path)
    wave = waves[echo.channel]
    if not wave.any():
        raise BadInput(f"{show(echo.path)}: channel {echo.channel + 1} is silent, a room response was expected")
    heard = wave if own == rate else resample(wave, own, rate)
    return heard[arrival(heard) :].astype(np.float32)
