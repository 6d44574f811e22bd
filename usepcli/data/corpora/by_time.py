"""Splits of few or long recordings: by time, within each recording, where whole recordings cannot be dealt out.

A recording is split by time where it is longer than LONG_S and than the smallest share of all (one of three of five
minutes; the day beside the minutes), and any from SHORTEST_S on where there are fewer than splits. It comes in one row
for training and in rows of at most PIECE_S for the other splits, each with the first sample and the length of its
stretch: no sample is in two of them. Other recordings are dealt out whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from usepcli.data.corpora.base import SPLITS, ratio_splits
from usepcli.data.crops import pieces
from usepcli.data.manifest import Row

LONG_S = 60.0
SHORTEST_S = 5.0  # a tenth of less is no validation
PIECE_S = 10.0
_MANY = 10  # from here on, what is beside recordings split by time is dealt out to all splits


def deal(rows: Sequence[Row], ratios: Sequence[float], seed: int, names: Sequence[str]) -> tuple[list[Row], list[str]]:
    """Return the rows with a split each, those split by time several times, and remarks.

    names: what rows without a split are dealt out by; equal ones stay together.
    """
    unnamed = [(row, name) for row, name in zip(rows, names, strict=True) if not row.split]
    if not unnamed:
        return list(rows), []
    dealt = ratio_splits([name for _, name in unnamed], ratios, seed)
    timed = _by_time([row for row, _ in unnamed], len(dealt), ratios)
    if timed and len(dealt) - len(timed) < _MANY:
        dealt = dict.fromkeys(dealt, "train")
    found: list[Row] = []
    for row, name in zip(rows, names, strict=True):
        if row.id in timed:
            found += _stretches(row, ratios)
        else:
            found.append(row if row.split else replace(row, split=dealt[name]))
    return found, _remarks(timed, found, ratios)


def _by_time(rows: Sequence[Row], n_names: int, ratios: Sequence[float]) -> set[str]:
    """Return the ids of the rows to be split by time: none that says of itself what is heard in it from its start."""
    lengths = {row.id: row.frames / row.sample_rate for row in rows if row.sample_rate and row.frames}
    wordy = {row.id for row in rows if row.text or row.caption or row.phrases}
    wanted = [ratio for ratio in ratios if ratio > 0]
    if len(wanted) < 2 or wordy:
        return set()
    if n_names < len(wanted):
        return {name for name, length in lengths.items() if length >= SHORTEST_S}
    least = min(wanted) / sum(wanted) * sum(lengths.values())
    return {name for name, length in lengths.items() if length > max(least, LONG_S)}


def _stretches(row: Row, ratios: Sequence[float]) -> Iterator[Row]:
    ends = [0, *(round(row.frames * sum(ratios[: k + 1]) / sum(ratios)) for k in range(len(SPLITS)))]
    for split, (start, end) in zip(SPLITS, pairwise(ends), strict=True):
        stretch = replace(row, split=split, start=start, frames=end - start)
        if split == "train" and stretch.frames:
            yield stretch
        elif stretch.frames:
            # Two at least: what mixtures alone tell of a model takes two of them.
            yield from pieces(stretch, max(2, -(-stretch.frames // round(PIECE_S * row.sample_rate))))


def _remarks(timed: set[str], found: Sequence[Row], ratios: Sequence[float]) -> list[str]:
    if not timed:
        return []
    shares, at = [], 0.0
    for split, ratio in zip(SPLITS, ratios, strict=True):
        begin, at = at, at + ratio / sum(ratios)
        if ratio > 0:
            shares.append(f"{100 * begin:.0f} to {100 * at:.0f} % for {split}")
    first = next(row for row in found if row.id in timed)
    which = f"{first.mixture or first.id}" + (f" and {len(timed) - 1} more" if len(timed) > 1 else "")
    return [
        f"few or long recordings are split by time, {', '.join(shares)}, none of it twice: {which}; record on several "
        "days and name the splits by folders (train, valid, test) for a stricter test"
    ]
