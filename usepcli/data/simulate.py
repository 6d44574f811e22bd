"""Mixtures in simulated rooms: impulse responses on disk or made on the spot, and talkers heard through them.

Levels are those of SMS-WSJ: a talker's image has standard deviation 10^(weight / 20) / 71 over the whole mixture, and
noise is set against the sum of the images.  The time that sound takes to the microphone is taken out, so that
references are not later than what was said.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.signal import oaconvolve

from usepcli.audio import io
from usepcli.data.render import Load, noise_part, quantise
from usepcli.data.rooms import Room, arrival, responses

if TYPE_CHECKING:  # a plan knows how it is rendered
    from usepcli.data.pairs import RoomPlan

_LEVEL = 1 / 71  # leaves room for the peaks of any sum


@dataclass(frozen=True)
class RoomFile:
    """The impulse responses of one simulated room that several mixtures share, in a file below the set's folder."""

    name: str
    room: Room

    def make(self, root: Path, rate: int) -> bool:
        """Write the room's impulse responses (2 K channels, 32-bit floats); True if they were there already."""
        target = root / self.name
        if target.exists():
            return True
        io.write(target, responses(self.room, rate), rate, "FLOAT", overwrite=True)
        return False


def heard_in(room: Room, name: str, rate: int, root: Path) -> np.ndarray:
    """Return a room's impulse responses (2 K, L) from its file `name` under root, or simulated now where that is ''."""
    return read_responses(str(root / name)) if name else responses(room, rate)


@functools.lru_cache(maxsize=64)
def read_responses(path: str) -> np.ndarray:
    """Return the impulse responses (C, L) in a file; those used last stay in memory."""
    return io.read(path)[0]


def simulate(plan: RoomPlan, heard: np.ndarray, load: Load) -> list[np.ndarray]:
    """Return the int16 waves (T,) of plan.files(), given the impulse responses (2 K, L); talkers and noise add up.

    load(path) returns the int16 samples (T,) of a pool file.
    """
    images, direct = [], []
    for turn, room, alone in zip(plan.turns, heard[::2], heard[1::2], strict=True):
        dry = np.zeros(plan.frames)
        dry[turn.at : turn.at + turn.frames] = load(turn.paths[0])[turn.start : turn.start + turn.frames] / 32768
        start = arrival(room)
        image = oaconvolve(dry, room.astype(np.float64))[start : start + plan.frames]
        size = float(image.std())
        scale = 10 ** (turn.gain_db / 20) * _LEVEL / size if size else 0.0
        images.append(image * scale)
        if plan.anechoic:
            direct.append(oaconvolve(dry, alone.astype(np.float64))[start : start + plan.frames] * scale)
    speech = np.sum(images, axis=0)
    noise = [noise_part(plan, speech, load)] if plan.noise else []
    codes = quantise(np.stack([*images, *direct, *noise]), np.sum([*images, *noise], axis=0))
    extra = slice(len(images), len(images) + len(direct))
    mix = codes.sum(axis=0) - codes[extra].sum(axis=0)
    return [*codes.astype(np.int16), mix.astype(np.int16)]
