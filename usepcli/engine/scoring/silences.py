"""How far an output has to lie below the recording to count as silent, found on scenes of a known number of sources.

Of an item with K sounding sources, let d_1 <= d_2 <= ... be what lies between the loudest window of the recording and
the loudest of what is each output's own (engine/separation/own.py), in dB. A limit T says the right number where
d_K <= T < d_(K+1). The best limit is right for most items: the middle of the widest stretch between limits that are
right equally often, and most often.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from usepcli import guard
from usepcli.engine.scoring.channels import SILENT_RMS
from usepcli.engine.separation.activity import ACTIVE_DB, Meter
from usepcli.errors import BadInput, ConfigError, MissingDependency, UsageError
from usepcli.weights.cards import LEAST_SILENT_DB, MOST_SILENT_DB

if TYPE_CHECKING:
    from usepcli.data.items import Reader
    from usepcli.data.manifest import Manifest, Row
    from usepcli.models.queried import Model
    from usepcli.separator.separator import Separator

_ENDS = (UsageError, ConfigError, MissingDependency)  # what no other item would do better


def measured(
    net: Model, found: Manifest, name: str, *, device: Any, channels: str, quiet: bool = True
) -> dict[str, Any]:
    """Return what a card holds of silence, by the outputs of a model for data called `name`.

    BadInput for data of which no item can be used, or in which every output of each is needed.
    """
    from usepcli.data.items import Reader
    from usepcli.report.progress import progress
    from usepcli.separator.borrowing import borrowed

    gaps: list[tuple[int, list[float]]] = []
    first = ""
    with borrowed(net, device) as separator:
        reader = Reader(found, separator.rate, 0, channels=channels)
        for row in progress(found.rows, len(found), desc="separating", unit="item", quiet=quiet):
            try:
                gaps.append(_gaps(separator, reader, row))
            except Exception as error:
                first = first or f"{row.id}: {guard.reason(error, row.id, _ENDS)}"
    if not gaps:
        raise BadInput(f"{found.path}: no item can be used; the first, {first or 'none is there'}")
    if all(count >= len(below) for count, below in gaps):
        raise BadInput(
            f"{found.path}: every item has as many sources as the model has outputs, or more; give scenes of fewer "
            "with --data"
        )
    limit = round(best(gaps), 2)
    return {
        "own_db": limit, "right": round(right(gaps, limit), 4), "usual": round(right(gaps, ACTIVE_DB), 4),
        "items": len(gaps), "data": name,
    }  # fmt: skip


def _gaps(separator: Separator, reader: Reader, row: Row) -> tuple[int, list[float]]:
    """Return the number of sounding sources, and what each output lies below the recording, in dB."""
    item = reader.whole(row, True)
    if item.sources is None or not len(item.sources):
        raise BadInput(f"item {row.id}: no sources are listed")
    count = int((np.sqrt(np.mean(item.sources**2, -1)) > SILENT_RMS).sum())
    if not count:
        raise BadInput(f"item {row.id}: silent")
    outputs = np.asarray(separator(item.mix, separator.rate).sources)
    meter = Meter(separator.rate, len(outputs), 1)
    meter.push(outputs[:, None])
    meter.finish()
    return count, meter.below_db()


def best(gaps: Sequence[tuple[int, list[float]]]) -> float:
    """Return the limit in dB that is right for most items, each a number of sources and its outputs' distances."""
    ends: list[tuple[float, int]] = [(LEAST_SILENT_DB, 0), (MOST_SILENT_DB, 0)]
    for count, below in gaps:
        ordered = [-math.inf, *sorted(below), math.inf]
        if count < len(ordered) - 1:
            ends += [(ordered[count], 1), (ordered[count + 1], -1)]
    ends.sort()
    now, found = 0, list[tuple[int, float, float]]()
    for (at, step), (after, _) in itertools.pairwise(ends):
        now += step
        low, high = max(at, LEAST_SILENT_DB), min(after, MOST_SILENT_DB)
        if low < high:
            found.append((now, high - low, (low + high) / 2))
    return max(found)[2]


def right(gaps: Sequence[tuple[int, list[float]]], limit: float) -> float:
    """Return the share of items in which as many outputs as there are sources lie at most `limit` dB below."""
    return float(np.mean([max(1, sum(gap <= limit for gap in below)) == count for count, below in gaps]))
