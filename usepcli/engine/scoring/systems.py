"""What separates: a model, or a folder of files that some program separated, asked for single items by id."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usepcli.engine.scoring import layouts, ordered
from usepcli.engine.scoring.channels import few
from usepcli.engine.scoring.scoring import Signals
from usepcli.errors import BadInput, InputNotFound

if TYPE_CHECKING:
    import numpy as np

    from usepcli.data.manifest import Manifest, Row
    from usepcli.models.queried import Model


@dataclass(frozen=True)
class System:
    """A name, the items that it can be asked for with their number of references, and the way to read one.

    `signals(id)` gives est (K,T) in the order of ref (K,T), and mix (T,) where there is one, or with two channels
    (K,2,T) and (2,T); of more channels each source comes in the one in which its reference is loudest.
    words: of an item, what each of its references is called where that is known.
    """

    name: str
    items: Mapping[str, int]
    read: Callable[[str], Signals]
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def signals(self, item: str) -> Signals:
        """Return an item as it can be heard."""
        return few(ordered.in_order(self.read(item)))

    def beside(
        self, item: str, others: Callable[[Signals], Mapping[str, np.ndarray]]
    ) -> tuple[Signals, dict[str, Signals]]:
        """Return an item as it can be heard, and likewise with the estimates of each system that `others` makes of it.

        Theirs stand in the order of the references.
        """
        found = self.read(item)
        heard = {name: found._replace(est=est, ordered=True) for name, est in others(found).items()}
        return few(ordered.in_order(found)), {name: few(ordered.in_order(one)) for name, one in heard.items()}


def of_model(
    name: str,
    net: Model,
    manifest: Manifest,
    *,
    device: Any = "cpu",
    limit: int = 0,
    summed: bool = False,
    channels: str = "each",
) -> System:
    """Return a model on the items of a manifest; summed: it separates the sum of the references, as protocols do."""
    from usepcli.engine.scoring.evaluate import separated

    def signals(row: Row) -> Signals:
        one = replace(manifest, rows=[row])
        return next(iter(separated(net, one, device=device, summed=summed, channels=channels)))

    return of_rows(name, manifest, signals, limit)


def of_rows(name: str, manifest: Manifest, signals: Callable[[Row], Signals], limit: int = 0) -> System:
    """Return whatever makes signals of the rows of a manifest."""
    rows = {row.id: row for row in manifest.rows[: limit or None]}
    items = _with_sources({item: len(row.sources) for item, row in rows.items()}, manifest.path)
    return System(name, items, lambda item: signals(rows[item]), _words(rows.values()))


def of_files(
    name: str,
    estimates: Path,
    references: ordered.References,
    mixtures: Mapping[str, Path] | None = None,
    summed: Collection[str] = (),
    channels: str = "each",
) -> System:
    """Return a folder of estimates of references {id: {source: file}}; mixtures: {id: file} where known.

    summed: items whose mixture is the sum of their references.  channels: of every file, one of items.CHANNELS.
    """
    _, there = layouts.find_sources(estimates)
    items = {item: len(sources) for item, sources in references.items() if item in there}
    if not items:
        raise InputNotFound(
            f"{estimates}: no estimates for any of {len(references)} items (found there: {next(iter(there))}); "
            "give them the same names"
        )

    def signals(item: str) -> Signals:
        mixture = (mixtures or {}).get(item)
        found = ordered.read_item(item, there[item], references[item], mixture, channels=channels)
        if item in summed:
            found = found._replace(mix=found.ref.sum(0))
        return found

    return System(name, items, signals)


def of_folders(
    estimates: Path, references: Path, mixtures: Path | None = None, limit: int = 0, channels: str = "each"
) -> System:
    """Return a folder of estimates with a folder of references, in the layouts of engine/scoring/layouts.py."""
    _, found = layouts.find_sources(references)
    wanted = {item: found[item] for item in list(found)[: limit or None]}
    mixed = layouts.find_mixtures(mixtures) if mixtures else None
    return of_files(str(estimates), estimates, wanted, mixed, channels=channels)


def of_manifest_files(estimates: Path, manifest: Manifest, limit: int = 0, channels: str = "each") -> System:
    """Return a folder of estimates of a manifest's items."""
    references = ordered.of_manifest(manifest, limit)
    mixtures = {row.id: manifest.resolve(row.mixture) for row in manifest.rows if row.mixture}
    summed = references.keys() - mixtures.keys()
    found = of_files(str(estimates), estimates, _sounding(references, manifest.path), mixtures, summed, channels)
    return replace(found, words=_words(manifest.rows))


def _words(rows: Iterable[Row]) -> dict[str, tuple[str, ...]]:
    """Return by item the queries of its sources, of items in which each has one."""
    found = {row.id: row.queries for row in rows if row.queries and len(row.queries) == len(row.sources)}
    return {item: words for item, words in found.items() if all(one.strip() for one in words)}


def _sounding(references: ordered.References, place: Path) -> ordered.References:
    _with_sources({item: len(sources) for item, sources in references.items()}, place)
    return {item: sources for item, sources in references.items() if sources}


def _with_sources(items: dict[str, int], place: Path) -> dict[str, int]:
    """Return the items that have references; BadInput where none has."""
    found = {item: count for item, count in items.items() if count}
    if not found:
        raise BadInput(f"{place}: no item lists sources; a comparison by ear needs references: use a prepared test set")
    return found
