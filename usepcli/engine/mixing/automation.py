"""Gains that move: a CSV of (time, source, gain) as curves in dB over time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from usepcli.audio import io
from usepcli.data.rows import read as read_table
from usepcli.errors import BadInput, InputNotFound, did_you_mean

FADE_S, MOST_DB = 0.01, 120.0
_COLUMNS = ("time", "source", "gain")
Point = tuple[float, float]  # seconds, dB


@dataclass(frozen=True)
class Curve:
    """A gain over time: `points` (s, dB), linear in dB between them, held before the first and after the last.

    In the spans (begin, end) of `muted` the source is silent: it fades out in the 10 ms after their begin and
    in again in the 10 ms before their end.
    """

    points: tuple[Point, ...]
    muted: tuple[Point, ...] = ()

    def gains(self, start: int, frames: int, rate: int) -> np.ndarray:
        """Return the linear gains (frames,) from sample `start` on; exactly 1 where the curve is at 0 dB."""
        t = np.arange(start, start + frames) / rate
        if not self.points:
            return np.zeros(frames)
        times, levels = np.array(self.points).T
        found = 10 ** (np.interp(t, times, levels) / 20)
        for begin, end in self.muted:
            inside = (t >= begin) & (t <= end)
            found[inside] *= np.maximum(_fade(t[inside] - begin), _fade(end - t[inside]))
        return found


def curve(points: Sequence[Point]) -> Curve:
    """Return the curve through points (s, dB) in order of time; -inf dB mutes from there to the next point."""
    levels: list[Point] = []
    muted: list[Point] = []
    for index, (time, decibel) in enumerate(points):
        if math.isfinite(decibel):
            levels.append((time, decibel))
            continue
        if levels:
            levels.append((time, levels[-1][1]))  # the level stays until the fade
        begin = time if index else -math.inf
        end = points[index + 1][0] if index + 1 < len(points) else math.inf
        if muted and muted[-1][1] == begin:  # two mutes in a row are one
            begin, _ = muted.pop()
        muted.append((begin, end))
    return Curve(tuple(levels), tuple(muted))


def _fade(seconds: np.ndarray) -> np.ndarray:
    """Return the fade from 1 at 0 s to 0 at 10 ms and later."""
    return 0.5 + 0.5 * np.cos(np.pi * np.minimum(seconds / FADE_S, 1))


def read_automation(path: Path) -> dict[str, Curve]:
    """Return the curve of every source that a CSV with the columns time (s), source and gain (dB) names.

    BadInput with the line for cells that are no numbers, negative or repeated times and times out of order
    within a source; InputNotFound where there is no file.
    """
    points: dict[str, list[Point]] = {}
    for line, row in _rows(path):
        where = f"{io.show(path)}: line {line}"
        name = row["source"].strip()
        if not name:
            raise BadInput(f"{where}: the source is empty; expected the name or the number of a source")
        time = _number(row["time"], f"{where}: time", "seconds from the start, e.g. 12.5")
        gain = _number(row["gain"], f"{where}: gain", "dB, e.g. -6, or -inf to mute")
        if not 0 <= time < math.inf:
            raise BadInput(f"{where}: time {time:g}; expected seconds from the start, 0 or more")
        if gain > MOST_DB:
            raise BadInput(f"{where}: gain {gain:g}; expected at most {MOST_DB:g} dB, -inf mutes")
        earlier = points.setdefault(name, [])
        if earlier and time <= earlier[-1][0]:
            raise BadInput(
                f"{where}: time {time:g} of source '{name}' comes after {earlier[-1][0]:g}; "
                "sort the lines of each source by time, one line per time"
            )
        earlier.append((time, gain))
    if not points:
        raise BadInput(f"{io.show(path)}: no line under the header; expected time, source and gain in dB")
    return {name: curve(found) for name, found in points.items()}


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Return line numbers and rows; BadInput unless the columns are there and the table is whole."""
    try:
        table = read_table(path)
    except (FileNotFoundError, NotADirectoryError) as fault:
        raise InputNotFound(f"{io.show(path)}: no such automation file") from fault
    except OSError as fault:
        raise BadInput(f"{io.show(path)}: cannot be read as CSV: {fault}") from fault
    for column in _COLUMNS:
        if column not in table.columns:
            hint = did_you_mean(column, table.columns)
            raise BadInput(f"{io.show(path)}: no column '{column}'{hint}; expected {', '.join(_COLUMNS)}")
    return zip(table.lines, table.rows, strict=True)


def _number(text: str, where: str, expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise BadInput(f"{where} '{text}'; expected {expected}")
    return value
