"""A look at the data before the first step: what of them a training would leave out, average or cannot hear.

It is said here once, one line for each kind of fault.  At most LOOKED_AT
recordings are opened, evenly picked, and LONGEST_S of each; `usep prepare-data --check` looks at all of all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from usepcli.audio.io import show
from usepcli.data.audit import ERROR, Finding, Item, audit_item
from usepcli.data.examples import DynamicMixtures, FixedMixtures
from usepcli.data.lazy import numbers
from usepcli.data.manifest import Manifest, PoolRow, Row

LOOKED_AT = 100
LONGEST_S = 30.0
# What is done about each kind of fault, or is to be done; others are left out of a batch when they are met.
_REMEDIES = {
    "silent": "they are left out where they are drawn",
    "silent-source": "a source that is silent throughout teaches silence",
    "sum": "fine only where the sources are meant to differ from what was mixed, drier for instance",
    "channels": "see data.channels; opposite channels cancel in a mean",
    "dc": "remove the offset",
    "clipping": "record at a lower level",
    "left-over": "only the first of joined files is heard",
}
_OTHERS = "such files are left out where they are drawn, and end the run where they are more than data.max_bad"


def look(profile: Any, data: FixedMixtures | DynamicMixtures, rate: int, validation: Manifest | None) -> list[str]:
    """Return what is to be said of the training data, and of the references that a run validates on."""
    mixed, lines = profile.data.channels == "mix", list[str]()
    if isinstance(data, FixedMixtures):
        rows, root = data.manifest.rows, data.manifest.root
        items = [_item(row, root, data.with_sources) for row in _some(rows)]
        lines += [*_rates([rows], rate), *_said(items, "training mixtures", mixed)]
    else:
        lines += _rates([pool.rows for pool in data.pools], rate)
        items = [_alone(row, pool.root) for pool in data.pools for row in _some(pool.rows, len(data.pools))]
        lines += _said(items, "training recordings", mixed)
    if validation is not None:
        rows = validation.rows[: profile.valid.limit] if profile.valid.limit else validation.rows
        lines += _said([_item(row, validation.root, True) for row in _some(rows)], "validation mixtures", True)
    return lines


def _some(rows: Sequence[Any], shares: int = 1) -> Sequence[Any]:
    most = max(1, LOOKED_AT // shares)
    return [rows[i * len(rows) // most] for i in range(most)] if len(rows) > most else rows


def _item(row: Row, root: Any, with_sources: bool) -> Item:
    sources, noise = (row.sources, row.noise) if with_sources or not row.mixture else ((), "")
    item = Item(row.id, row.split, row.mixture, row.sample_rate, row.frames, root, sources, noise, (), row.start)
    return _shortened(item)


def _alone(row: PoolRow, root: Any) -> Item:
    return _shortened(Item(row.id, row.split, row.path, row.sample_rate, row.frames, root))


def _shortened(item: Item) -> Item:
    most = round(LONGEST_S * item.rate)
    return replace(item, start=item.start or 0, frames=most) if most and item.frames > most else item


def _said(items: Sequence[Item], what: str, mixed: bool) -> list[str]:
    found: dict[str, list[Finding]] = {}
    for item in items:
        part = item.start is not None  # its beginning may well be silent
        for kind, finding in {one.kind: one for one in reversed(audit_item(item).findings)}.items():
            if not (part and kind.startswith("silent")) and (mixed or kind not in ("channels", "silent")):
                found.setdefault(kind, []).append(finding)
    return [_line(kind, those, len(items), what) for kind, those in found.items()]


def _line(kind: str, found: Sequence[Finding], looked_at: int, what: str) -> str:
    first = found[0]
    mark = "warning: " if first.level == ERROR or kind in ("silent-source", "source-length") else ""
    where = show(first.path or first.id)
    remedy = _REMEDIES.get(kind, _OTHERS if what.startswith("training") else "such items have no score")
    return (
        f"{mark}{kind}: {len(found)} of {looked_at} {what} looked at, the first {where}: {first.detail}; {remedy} "
        "(usep prepare-data --check)"
    )


def _rates(tables: Iterable[Sequence[Row] | Sequence[PoolRow]], rate: int) -> list[str]:
    found = [numbers(some, "sample_rate") for some in tables]
    total, lines = sum(map(len, found)), []
    for own, count in zip(*np.unique(np.concatenate(found), return_counts=True), strict=True):
        if own in (0, rate):
            continue
        lost = f", and holds nothing above {own / 2:g} Hz" if own < rate else ""
        lines.append(f"{count} of {total} training recordings: {own} Hz, resampled to the model's {rate}{lost}")
    return lines
