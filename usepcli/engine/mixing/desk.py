"""The mixing desk: what becomes of each source, as one linear gain per source, channel and sample.

The balance law of --pan: with p from -1 (left) to 1 (right) the channel on the far side is turned down by
cos(pi/2 |p|) and the near one stays as it is, so that p = 0 changes nothing at all and p = 1 leaves the right
channel alone. A source in stereo keeps its own image, and is balanced in the same way; one channel becomes two.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from usepcli.engine.mixing.automation import MOST_DB, Curve
from usepcli.errors import UsageError, did_you_mean

_T = TypeVar("_T", float, Curve)


@dataclass(frozen=True)
class Desk:
    """Gains (N,), linear, pans (N,) from -1 to 1, and curves by index of the named sources."""

    names: tuple[str, ...]
    gains: np.ndarray
    pans: np.ndarray
    curves: Mapping[int, Curve] = field(default_factory=dict)

    @property
    def neutral(self) -> bool:
        """True where every source stays as it is."""
        return bool(np.all(self.gains == 1) and not np.any(self.pans) and not self.curves)

    def channels(self, channels: int) -> int:
        """Return the channels of the remix of sources with `channels`; UsageError for a pan of more than two."""
        if not np.any(self.pans):
            return channels
        if channels > 2:
            raise UsageError(f"--pan: the input has {channels} channels; only mono and stereo can be panned")
        return 2

    def weights(self, start: int, frames: int, rate: int, channels: int) -> np.ndarray:
        """Return the gains (N, C, frames), or (N, C, 1) where none moves, of `channels` from sample `start` on."""
        fixed = np.repeat(self.gains[:, None], channels, axis=1)  # (N, C)
        if np.any(self.pans):
            fixed = fixed * _balance(self.pans)
        weights = fixed[..., None]
        if self.curves:
            weights = np.repeat(weights, frames, axis=2)  # (N, C, frames)
            for index, curve in self.curves.items():
                weights[index] *= curve.gains(start, frames, rate)
        return weights


def desk(
    names: Sequence[str],
    gains: Iterable[str] = (),
    mutes: Iterable[str] = (),
    pans: Iterable[str] = (),
    curves: Mapping[str, Curve] | None = None,
    origin: str = "--automation",
) -> Desk:
    """Return the desk for named sources from "NAME=dB", muted NAMEs, "NAME=-1..1" and curves by name.

    A source is named by its name or its number 1..N. UsageError for unknown, ambiguous or repeated names and
    for values out of range; `origin` says where the curves come from.
    """
    moves: dict[int, Curve] = {}
    for name, curve in (curves or {}).items():
        _put(moves, names, name, curve, f"{origin}: source '{name}'")
    return Desk(tuple(names), parse_gains(names, gains, mutes), parse_pans(names, pans), moves)


def parse_gains(names: Sequence[str], gains: Iterable[str], mutes: Iterable[str]) -> np.ndarray:
    """Return the linear gain (N,) of each named source from "NAME=dB" and muted NAMEs, or their numbers 1..N.

    UsageError for unknown, ambiguous or repeated names and for values that are no number of dB.
    """
    chosen: dict[int, float] = {}
    for text in gains:
        name, decibel = split("--gain", text, "NAME=dB, for example 1=-6", -math.inf, MOST_DB)
        _put(chosen, names, name, 10 ** (decibel / 20), f"--gain {text}")
    for name in mutes:
        _put(chosen, names, name, 0.0, f"--mute {name}")
    return np.array([chosen.get(index, 1.0) for index in range(len(names))])


def parse_pans(names: Sequence[str], pans: Iterable[str]) -> np.ndarray:
    """Return the place (N,) of each named source, -1 left to 1 right, from "NAME=place"; UsageError as for gains."""
    chosen: dict[int, float] = {}
    for text in pans:
        name, place = split("--pan", text, "NAME=-1..1 (left to right), for example 1=-0.3", -1, 1)
        _put(chosen, names, name, place, f"--pan {text}")
    return np.array([chosen.get(index, 0.0) for index in range(len(names))])


def split(option: str, text: str, expected: str, least: float, most: float) -> tuple[str, float]:
    """Return name and value of "NAME=value"; UsageError unless the value lies between `least` and `most`."""
    name, equals, value = text.rpartition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not equals or not name or not least <= number <= most:
        raise UsageError(f"{option}: found '{text}'; expected {expected}")
    return name, number


def _put(chosen: dict[int, _T], names: Sequence[str], name: str, value: _T, where: str) -> None:
    index = _index(names, name, where)
    if index in chosen:
        raise UsageError(f"{where}: source '{names[index]}' is given twice; name each source once")
    chosen[index] = value


def _index(names: Sequence[str], name: str, where: str) -> int:
    found = {k for k, known in enumerate(names) if known == name}
    if name.isdecimal() and len(name) < 10 and 1 <= int(name) <= len(names):
        found.add(int(name) - 1)
    if len(found) == 1:
        return found.pop()
    if found:
        raise UsageError(f"{where}: '{name}' fits {len(found)} sources; use numbers, 1 to {len(names)}")
    hint = did_you_mean(name, names)
    raise UsageError(f"{where}: no such source{hint}; there are {', '.join(names)} (or 1 to {len(names)})")


def _balance(pans: np.ndarray) -> np.ndarray:
    """Return the gains (N, 2) of left and right."""
    far = np.cos(np.pi / 2 * np.abs(pans))
    far[np.abs(pans) == 1] = 0.0  # the cosine leaves 6e-17
    return np.stack([np.where(pans > 0, far, 1.0), np.where(pans < 0, far, 1.0)], axis=1)
