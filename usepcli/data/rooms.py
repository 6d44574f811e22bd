"""Rooms with one microphone and talkers around it: geometry drawn from a generator, impulse responses by image sources.

The room of SMS-WSJ (Drude et al. 2019): 8 x 6 x 3 m, each side within 0.2 m; the microphone near its middle; talkers
at the microphone's height, 1 to 2 m away in any direction.  Saijo and Ogawa (2023) draw reverberation times from 0.2
to 1.0 s and move every image source by up to 8 cm along each axis, which breaks up the sweeping echoes that the
regular grid of images makes (De Sena et al. 2015).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from usepcli.errors import ConfigError
from usepcli.versions import need

SIZE_M = (8.0, 6.0, 3.0)
MIC_M = (4.0, 3.0, 1.5)
SPREAD_M = 0.2  # of the sides and of the microphone's place, either way
RING_M = (1.0, 2.0)
JITTER_M = 0.08
SOUND_MPS = 343.0
_ARRIVAL = 0.1  # the direct sound is the first sample above this share of the peak, as in SMS-WSJ
Point = tuple[float, ...]


@dataclass(frozen=True)
class Room:
    """A shoebox of `size` metres with a microphone and talkers at points in it; `seed` moves its image sources."""

    size: Point
    mic: Point
    talkers: tuple[Point, ...]
    rt60_s: float
    seed: int


def draw_room(rng: np.random.Generator, n_src: int, rt60_s: tuple[float, float]) -> Room:
    """Draw a room with `n_src` talkers and a reverberation time from the range (low, high)."""
    size = np.asarray(SIZE_M) + rng.uniform(-SPREAD_M, SPREAD_M, 3)
    mic = np.asarray(MIC_M) + rng.uniform(-SPREAD_M, SPREAD_M, 3)
    away, angle = rng.uniform(*RING_M, n_src), rng.uniform(0, 2 * np.pi, n_src)
    talkers = mic + np.stack([away * np.cos(angle), away * np.sin(angle), np.zeros(n_src)], axis=1)  # (K, 3)
    return Room(
        tuple(map(float, size)),
        tuple(map(float, mic)),
        tuple(tuple(map(float, talker)) for talker in talkers),
        float(rng.uniform(*rt60_s)),
        int(rng.integers(2**63)),
    )


def sabine(size: Point, rt60_s: float) -> tuple[float, int]:
    """Return the walls' energy absorption and the order of images for a reverberation time, by Sabine's formula.

    absorption = 24 ln(10) V / (c S rt60), above 1 where the room is too large; the order reaches every image within
    c rt60 of the microphone.  It is nominal: measured on the responses, T30 is 0.18, 0.63 and 1.4 s for 0.2, 0.5 and
    1.0 s, since the flat room decays slower along its long sides than a diffuse field would.
    """
    pairs = list(combinations(size, 2))
    surface = 2 * sum(a * b for a, b in pairs)
    reach = min(a * b / math.hypot(a, b) for a, b in pairs)
    absorption = 24 * math.log(10) * math.prod(size) / (SOUND_MPS * surface * rt60_s)
    return absorption, math.ceil(SOUND_MPS * rt60_s / reach - 1)


def check_rt60(rt60_s: tuple[float, float]) -> None:
    """Raise ConfigError unless every room of `draw_room` can have every reverberation time of the range."""
    low, high = rt60_s
    largest = tuple(side + SPREAD_M for side in SIZE_M)
    shortest = sabine(largest, 1.0)[0]  # absorption and time are inverse to each other
    if not shortest <= low <= high < math.inf:
        raise ConfigError(f"--rt60 {rt60_s}: two times in seconds, {shortest:.2f} <= low <= high, were expected")


def need_simulator() -> None:
    """Raise MissingDependency, with the line that installs it, where pyroomacoustics is absent."""
    need("the simulation of rooms", "sim")


def simulator() -> dict[str, str]:
    """Return the version of the room simulator by its name; MissingDependency without it."""
    need_simulator()
    import pyroomacoustics

    return {"pyroomacoustics": str(pyroomacoustics.__version__)}


def responses(room: Room, rate: int) -> np.ndarray:
    """Return float32 (2 K, L): for each talker the room's impulse response, then its direct sound alone."""
    need_simulator()
    import pyroomacoustics as pra

    # The images are summed thread by thread: with one thread their order, and so every bit, is always the same.
    pra.constants.set("num_threads", 1)
    rng = np.random.default_rng(room.seed)
    found: list[np.ndarray] = []
    for talker in room.talkers:  # one at a time: a second's reverberation is some two million images
        box = _box(room, rate, talker)
        box.image_source_model()
        images = box.sources[0].images
        images += rng.uniform(-JITTER_M, JITTER_M, images.shape)
        direct = images[:, box.sources[0].orders == 0]
        box.compute_rir()
        found.append(np.asarray(box.rir[0][0], np.float32))
        box = _box(room, rate, talker, order=0)
        box.image_source_model()
        box.sources[0].images[:] = direct
        box.compute_rir()
        found.append(np.asarray(box.rir[0][0], np.float32))
    length = max(map(len, found))
    return np.stack([np.pad(wave, (0, length - len(wave))) for wave in found])  # (2 K, L)


def _box(room: Room, rate: int, talker: Point, order: int = -1) -> Any:
    import pyroomacoustics as pra

    absorption, reach = sabine(room.size, room.rt60_s)
    box = pra.ShoeBox(
        list(room.size), fs=rate, materials=pra.Material(absorption), max_order=reach if order < 0 else order
    )
    box.add_source(list(talker))
    box.add_microphone(np.asarray(room.mic))
    return box


def arrival(response: np.ndarray) -> int:
    """Return the first sample of an impulse response (L,) that passes a tenth of its peak: the direct sound."""
    size = np.abs(response)
    return int(np.argmax(size > _ARRIVAL * size.max()))
