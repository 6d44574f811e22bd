"""Who sounds when: turns of the sources of a recording, read from the files that were written.

A frame of 100 ms counts as in activity.py: above -60 dB of full scale and less than 30 dB below the loudest frame of
all sources together.  Pauses under half a second are part of a turn, turns under 0.3 s are none.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import numpy as np

from usepcli.audio import io
from usepcli.engine.separation.activity import ACTIVE_DB, FLOOR_DB, FRAME_S
from usepcli.engine.separation.jobs import Job
from usepcli.engine.separation.record import Record, Track
from usepcli.errors import OutputError, UsageError, choices
from usepcli.files import write_text

FORMS = {"rttm": ".rttm", "audacity": "_labels.txt", "csv": "_labels.csv"}
COLUMNS = ("file", "source", "start_s", "end_s")
_PAUSE_S, _LEAST_S = 0.5, 0.3
_BLOCK_S = 10.0

Turn = tuple[float, float, str]  # from, to (s), source


def check(form: str) -> None:
    """Raise UsageError for a form that is none."""
    if form not in FORMS:
        raise UsageError(choices("form for --labels", form, FORMS))


def path_of(one: Record | Job, out: Path, form: str) -> Path:
    """Return where the labels of a recording go, beside its outputs."""
    return out / one.relative.parent / f"{one.relative.name}{FORMS[form]}"


def write(record: Record, path: Path, form: str, overwrite: bool) -> None:
    """Write the turns of a recording; OutputError where something else stands there."""
    text = _text(record, turns(record), form)
    if os.path.lexists(path) and not overwrite:
        try:
            same = path.read_bytes() == text.encode("utf-8", "surrogateescape")
        except OSError:
            same = False
        if not same:
            raise OutputError(f"{io.show(path)}: exists already with other content; move it, or pass --overwrite")
        return
    write_text(path, text)


def turns(record: Record) -> list[Turn]:
    """Return when each source that has a file sounds, in order of time."""
    if not record.written:
        return []
    rows = [np.concatenate(list(_powers(track, record.rate))) for track in record.written]
    sounds = active(np.stack(rows))
    found = []
    for track, row in zip(record.written, sounds, strict=True):
        for start, end in _runs(row):
            found.append((start * FRAME_S, min(end * FRAME_S, record.duration_s), track.label))
    return sorted(found)


def _powers(track: Track, rate: int) -> Iterator[np.ndarray]:
    """Yield the mean powers of the frames of a file."""
    held, frame = np.zeros(0), 0
    start = 0  # of the frame, in samples
    for block in io.blocks(track.path, max(1, round(_BLOCK_S * rate))):
        held = np.concatenate([held, np.square(block, dtype=np.float64).mean(0)])
        ends = []
        while (end := max(frame + 1, round((frame + 1) * FRAME_S * rate)) - start) <= len(held):
            ends.append(end)
            frame += 1
        if ends:
            bounds = np.array([0, *ends[:-1]])
            yield np.add.reduceat(held[: ends[-1]], bounds) / np.diff([0, *ends])
            held, start = held[ends[-1] :], start + ends[-1]
    if len(held):
        yield np.array([held.mean()])


def active(power: np.ndarray) -> np.ndarray:
    """Return which frames (N, F) of N sources are part of a turn, from their powers."""
    levels = 10 * np.log10(np.maximum(power, 1e-16))
    whole = 10 * math.log10(max(float(power.sum(0).max(initial=0.0)), 1e-16))
    found: np.ndarray = levels > max(FLOOR_DB, whole - ACTIVE_DB)
    for row in found:
        for start, end in _runs(~row):
            if start > 0 and end < len(row) and (end - start) * FRAME_S < _PAUSE_S - 1e-9:
                row[start:end] = True
        for start, end in _runs(row):
            if (end - start) * FRAME_S < _LEAST_S - 1e-9:
                row[start:end] = False
    return found


def _runs(row: np.ndarray) -> list[tuple[int, int]]:
    """Return where a row is True, from and to."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _text(record: Record, found: list[Turn], form: str) -> str:
    if form == "csv":
        held = StringIO()
        rows = [(io.show(record.file), name, f"{a:.2f}", f"{b:.2f}") for a, b, name in found]
        csv.writer(held, lineterminator="\n").writerows([COLUMNS, *rows])
        return held.getvalue()
    if form == "audacity":
        return "".join(f"{a:.2f}\t{b:.2f}\t{name}\n" for a, b, name in found)
    stem = "_".join(io.show(record.relative.name).split()) or "-"  # RTTM parts its fields by spaces
    return "".join(
        f"SPEAKER {stem} 1 {a:.2f} {b - a:.2f} <NA> <NA> {'_'.join(name.split())} <NA> <NA>\n" for a, b, name in found
    )
