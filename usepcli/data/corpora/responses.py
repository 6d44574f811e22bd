"""Measured room responses in a folder: of which room each is, and which rooms belong to which split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from usepcli.audio.io import show
from usepcli.data.corpora.base import SPLITS, Bad, ratio_splits
from usepcli.data.corpora.listing import Recording, column, read_rows, recordings
from usepcli.data.corpora.maker import pool_rows
from usepcli.data.manifest import PoolRow
from usepcli.errors import BadInput

_ROOMS = ("room", "room_id")


def responses_in(
    folder: Path, splits: Sequence[str], ratios: Sequence[float], seed: int, bad: list[Bad]
) -> tuple[list[PoolRow], str]:
    """List the responses under a folder for some splits, `speaker` being the room; and what was decided about them.

    The room is a list's column `room`, or else the innermost folder, or else the list's label; where nothing tells
    rooms apart, it is ''. Splits are those of a list or of the top folders; where one of them has no response, rooms
    are dealt out by `ratios` and `seed`. BadInput for a room in two splits.
    """
    table = folder / "manifest.csv"
    named = column(table, read_rows(table)[0], "", _ROOMS) if table.is_file() else ""
    found = recordings(folder, "", named, "", 1, 0, bad)
    rooms = _rooms(found, bool(named))
    said, told = [item.split for item in found], ""
    if not set(splits) <= set(said) or not set(said) <= set(SPLITS):
        lacking = ", ".join(name for name in splits if name not in said)
        told = ", dealt out by seed"
        if any(said):
            told += f", since none is named for {lacking}" if lacking else ", since not all are named"
        keys = [room or item.path for room, item in zip(rooms, found, strict=True)]
        shares = [ratio if name in splits else 0.0 for name, ratio in zip(SPLITS, ratios, strict=True)]
        dealt = ratio_splits(keys, shares, seed)
        said = [dealt[key] for key in keys]
    _check_apart(folder, rooms, said)
    rows = pool_rows([replace(item, query="") for item in found], said)
    rows = [replace(row, speaker=room) for row, room in zip(rows, rooms, strict=True) if row.split in splits]
    count = len(set(rooms) - {""})
    of = f" of {count} room{'s'[: count != 1]}" if count else ", rooms not told apart"
    return rows, f"{show(folder)}: {len(found)} room responses{of}{told}"


def _rooms(found: list[Recording], named: bool) -> list[str]:
    folders = [str(PurePath(item.path).parent) for item in found]
    if named:
        return [item.label for item in found]
    if set(folders) != {"."}:
        return folders
    return [item.label for item in found]


def _check_apart(folder: Path, rooms: Sequence[str], splits: Sequence[str]) -> None:
    places: dict[str, set[str]] = defaultdict(set)
    for room, split in zip(rooms, splits, strict=True):
        if room:
            places[room].add(split)
    torn = sorted(room for room, where in places.items() if len(where) > 1)
    if torn:
        where = " and ".join(sorted(places[torn[0]]))
        raise BadInput(
            f"{show(folder)}: room '{torn[0]}' has responses in {where}; a room belongs to one split: name rooms in a "
            "column 'room', or leave the column 'split' out"
        )
