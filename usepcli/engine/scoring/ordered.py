"""Estimates in the order of the references, as listeners and recognisers need them: estimate k belongs to source k."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from usepcli.data import items
from usepcli.engine.scoring import layouts
from usepcli.engine.scoring.scoring import Signals
from usepcli.errors import BadInput, InputNotFound

if TYPE_CHECKING:
    from usepcli.data.manifest import Manifest

References = Mapping[str, Mapping[str, Path]]


def by_files(
    estimates: Path, references: References, channels: str = "each"
) -> Iterator[tuple[str, Callable[[], Signals]]]:
    """Yield each item of references {id: {source: file}}, and how to have it with the separated files of a folder.

    channels: of every file, one of items.CHANNELS.  What is had is trimmed to one length; InputNotFound where an item
    has no estimates, BadInput for unequal rates.
    """
    _, found = layouts.find_sources(estimates)

    def had(item: str) -> Signals:
        if item not in found:
            raise InputNotFound(
                f"{estimates}: no estimates for {item} (found there: {next(iter(found))}); give them the same names"
            )
        return in_order(read_item(item, found[item], references[item], channels=channels))

    for item in references:
        yield item, partial(had, item)


def read_item(
    item: str,
    estimates: Mapping[str, Path],
    sources: Mapping[str, Path],
    mixture: Path | None = None,
    padded: bool = False,
    channels: str = "each",
) -> Signals:
    """Read one item's files: est (N,T) as they are named, ref (K,T), and mix (T,) where given, or with channels (C,T).

    All are trimmed to the shortest, or with `padded` brought to the longest reference.  BadInput for unequal rates or
    numbers of channels.
    """
    places = [*estimates.values(), *sources.values(), *([] if mixture is None else [mixture])]
    waves, rate = items.together(places, channels)
    cut, note = items.trimmed(waves)  # (N+K,T) or (N+K+1,T)
    first, last = len(estimates), len(estimates) + len(sources)
    if padded:
        cut = items.fitted(waves, max(wave.shape[-1] for wave in waves[first:last]))
    mix = None if mixture is None else cut[-1]
    return Signals(item, tuple(sources), cut[:first], cut[first:last], mix, note, rate)


def of_manifest(manifest: Manifest, limit: int = 0) -> References:
    """Return {id: {source: file}} of a manifest's items, sources named s1, s2, ... as in items.csv."""
    rows = manifest.rows[:limit] if limit else manifest.rows
    return {row.id: {f"s{k}": manifest.resolve(name) for k, name in enumerate(row.sources, 1)} for row in rows}


def in_order(signals: Signals) -> Signals:
    """Return the item with est (K,T), (K,C,T) in the order of its references, by the best mean SI-SNR; drop others.

    Estimates that were asked for stand in that order already.
    """
    from usepcli.metrics.align import permutation

    if len(signals.est) < len(signals.ref):
        counts = f"{len(signals.est)} estimates for {len(signals.ref)} references"
        raise BadInput(f"{signals.id}: {counts}; expected as many")
    if signals.ordered:
        return signals._replace(est=signals.est[: len(signals.ref)])
    return signals._replace(est=signals.est[permutation(signals.est, signals.ref)])
