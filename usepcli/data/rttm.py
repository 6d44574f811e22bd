"""Who speaks when: RTTM files (NIST Rich Transcription), and frames made of them.

A line `SPEAKER file channel begin duration <NA> <NA> name ...` is a turn, in seconds from the beginning of the
recording; lines of other kinds, and comments behind ';;', say nothing of turns. Frames last 1 / FRAME_RATE seconds,
counted from the first sample of a segment wherever that was cut; a talker is active in a frame if one of their turns
covers its middle. The channel is not read: training hears one channel of each recording.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np

from usepcli.audio import tars
from usepcli.data.items import Item
from usepcli.data.manifest import Manifest, Row
from usepcli.errors import BadInput, InputNotFound
from usepcli.files import show, write_text

FRAME_RATE = 50  # per second
SUFFIX = ".rttm"
_NAME = 7  # field of the talker's name, from 0


class Turn(NamedTuple):
    """A talker speaks in recording `file` from begin to end, in seconds."""

    file: str
    talker: str
    begin: float
    end: float


class Activity(NamedTuple):
    """frames (talkers, frames) float32, 1 where one speaks, and the names of those who do; None where unknown."""

    frames: np.ndarray | None
    talkers: tuple[str, ...] = ()


UNKNOWN = Activity(None)


def beside(root: Path, mixture: str) -> str:
    """Return the RTTM file of the same name in the folder of a recording, '' where there is none."""
    name = str(PurePath(mixture).with_suffix(SUFFIX)) if mixture and tars.split(mixture) is None else ""
    return name if name and (root / name).is_file() else ""


def read(path: Path) -> tuple[Turn, ...]:
    """Return the turns of a file in their order; InputNotFound, or BadInput naming the line that is no turn."""
    try:
        said = path.stat()
    except OSError as fault:
        raise InputNotFound(
            f"{show(path)}: no RTTM file where the manifest names one; restore it or correct the column 'activity'"
        ) from fault
    return _read(path, said.st_mtime_ns, said.st_size)


@lru_cache(maxsize=1024)
def _read(path: Path, changed: int, size: int) -> tuple[Turn, ...]:
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise BadInput(f"{show(path)}: not an RTTM file in UTF-8: {fault}") from fault
    lines = ((number, line.partition(";;")[0].split()) for number, line in enumerate(text.splitlines(), 1))
    return tuple(_turn(f"{show(path)}:{number}", cells) for number, cells in lines if cells[:1] == ["SPEAKER"])


def _turn(where: str, cells: list[str]) -> Turn:
    try:
        begin, duration = float(cells[3]), float(cells[4])
        fine = len(cells) > _NAME and 0 <= begin < math.inf and 0 <= duration < math.inf
    except (IndexError, ValueError):
        fine = False
    if not fine:
        raise BadInput(
            f"{where}: '{show(' '.join(cells))}'; expected SPEAKER FILE CHANNEL BEGIN DURATION <NA> <NA> NAME, "
            "times in seconds, 0 or more"
        )
    return Turn(cells[1], cells[_NAME], begin, begin + duration)


def of_recording(path: Path, stem: str) -> tuple[Turn, ...]:
    """Return the turns of one recording: all where the file is of one alone, else those that bear its name."""
    turns = read(path)
    if len({turn.file for turn in turns}) < 2:
        return turns
    own = tuple(turn for turn in turns if turn.file == stem)
    if not own:
        raise BadInput(
            f"{show(path)}: turns of several recordings and none of '{show(stem)}'; expected the name of the sound "
            "file without its ending in the second field"
        )
    return own


def write(path: Path, turns: tuple[Turn, ...]) -> None:
    """Replace a file by the lines of these turns; errors as for `write_text`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times = [(round(turn.begin, 6), round(turn.end - turn.begin, 6)) for turn in turns]
    lines = [
        f"SPEAKER {turn.file} 1 {begin} {duration} <NA> <NA> {turn.talker} <NA> <NA>\n"
        for turn, (begin, duration) in zip(turns, times, strict=True)
    ]
    write_text(path, "".join(lines))


def activity(manifest: Manifest, row: Row, item: Item) -> Activity:
    """Return who speaks in a segment of a row's mixture; nobody does where the row's stretch is over.

    Only those who speak in it have a line. Errors as for `read` and `of_recording`.
    """
    turns = of_recording(manifest.resolve(row.activity), PurePath(row.mixture).stem)
    end = ((row.start or 0) + row.frames) / row.sample_rate if row.frames and row.sample_rate else math.inf
    return frames(turns, item.first / item.rate, count(item.mix.shape[-1], item.rate), end)


def count(samples: int, rate: int) -> int:
    """Return how many frames so many samples fill or begin."""
    return -(-samples * FRAME_RATE // rate)


def frames(turns: tuple[Turn, ...], begin: float, n_frames: int, end: float = math.inf) -> Activity:
    """Return the activity in n_frames from `begin` seconds on, of turns that are cut at `end` seconds."""
    middle = begin + (np.arange(n_frames) + 0.5) / FRAME_RATE
    found: dict[str, np.ndarray] = {}
    for turn in turns:
        heard = (turn.begin <= middle) & (middle < min(turn.end, end))
        if heard.any():
            found[turn.talker] = found.get(turn.talker, False) | heard
    lines = np.stack(list(found.values())) if found else np.zeros((0, n_frames), bool)
    return Activity(lines.astype(np.float32), tuple(found))
