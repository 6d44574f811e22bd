"""Estimates in the order of the references, as listeners and recognisers need them: estimate k belongs to source k."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from usepcli.engine.scoring import layouts
from usepcli.engine.scoring.scoring import Signals
from usepcli.errors import BadInput, InputNotFound

if TYPE_CHECKING:
    from usepcli.data.manifest import Manifest
    from usepcli.models.separator import SeparationModel

Say = Callable[[str], None]
References = Mapping[str, Mapping[str, Path]]


def by_model(
    model: SeparationModel, manifest: Manifest, *, device: str = "cpu", limit: int = 0, say: Say = lambda line: None
) -> Iterator[Signals]:
    """Yield each item as the model separates it, est (K,T) in the order of ref (K,T); errors as for score_model."""
    from usepcli.engine.scoring.evaluate import separated

    for signals in separated(model, manifest, device=device, limit=limit, say=say):
        yield in_order(signals)


def by_files(estimates: Path, references: References) -> Iterator[Signals]:
    """Yield each item of references {id: {source: file}} with separated files from a folder, trimmed to one length.

    InputNotFound where an item has no estimates, BadInput for unequal rates.
    """
    _, found = layouts.find_sources(estimates)
    for item, sources in references.items():
        if item not in found:
            raise InputNotFound(
                f"{estimates}: no estimates for {item} (found there: {next(iter(found))}); give them the same names"
            )
        yield in_order(read_item(item, found[item], sources))


def read_item(item: str, estimates: Mapping[str, Path], sources: Mapping[str, Path]) -> Signals:
    """Read one item's files, est (N,T) as they are named, ref (K,T), trimmed to one length; BadInput: unequal rates."""
    from usepcli.audio.io import read_mono

    paths = [*estimates.values(), *sources.values()]
    waves, rates = zip(*(read_mono(path) for path in paths), strict=True)
    odd = next((i for i, rate in enumerate(rates) if rate != rates[0]), 0)
    if odd:
        raise BadInput(f"{paths[odd]}: {rates[odd]} Hz but {paths[0]}: {rates[0]} Hz; expected one rate per item")
    length = min(map(len, waves))
    cut = np.stack([wave[:length] for wave in waves])  # (N+K,T)
    return Signals(item, tuple(sources), cut[: len(estimates)], cut[len(estimates) :], None, rate=rates[0])


def of_manifest(manifest: Manifest, limit: int = 0) -> References:
    """Return {id: {source: file}} of a manifest's items, sources named s1, s2, ... as in items.csv."""
    rows = manifest.rows[:limit] if limit else manifest.rows
    return {row.id: {f"s{k}": manifest.resolve(name) for k, name in enumerate(row.sources, 1)} for row in rows}


def in_order(signals: Signals) -> Signals:
    """Return the item with est (K,T) in the order of its references, by the best mean SI-SNR; others are dropped."""
    from usepcli.metrics.align import permutation

    if len(signals.est) < len(signals.ref):
        counts = f"{len(signals.est)} estimates for {len(signals.ref)} references"
        raise BadInput(f"{signals.id}: {counts}; expected as many")
    return signals._replace(est=signals.est[permutation(signals.est, signals.ref)])
