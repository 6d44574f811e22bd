"""Score estimates against references: a model on a manifest, or folders that any program wrote.

Signals of unequal length are trimmed to the shortest, and the rows say so in `reason`.  Under a protocol
(engine/scoring/protocols.py) the references are padded to the longest instead, and their sum is the mixture.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from usepcli.data import lazy
from usepcli.dsp.oracle import Oracle
from usepcli.engine.journal import Part
from usepcli.engine.scoring import assigning, consistencies, fuss_scores, in_flight, layouts
from usepcli.engine.scoring.asking import asked, queries_of
from usepcli.engine.scoring.assigning import Assign
from usepcli.engine.scoring.ordered import read_item
from usepcli.engine.scoring.protocols import Protocol
from usepcli.engine.scoring.reading import Reading, lost, unseparated, why
from usepcli.engine.scoring.scoring import (
    FAILED,
    NO_ESTIMATE,
    Signals,
    blank_row,
    check_metrics,
    failures,
    score_signals,
    summary,
)
from usepcli.errors import BadInput, InputNotFound

if TYPE_CHECKING:
    import torch

    from usepcli.data.manifest import Manifest
    from usepcli.data.manifest import Row as ManifestRow
    from usepcli.models.queried import Model
    from usepcli.separator.separator import Separator

__all__ = ["UNPROCESSED", "Files", "Scorer", "score_files", "score_folders", "score_model", "separated", "summary"]

UNPROCESSED = "unprocessed"
ORACLE = "oracle "  # begins the system of its rows
Say = Callable[[str], None]
Progress = Callable[[Iterable[Any], int], Iterable[Any]]


@dataclass(frozen=True)
class Scorer:
    """What is computed for each item: metrics, or a protocol's scores; it travels to worker processes.

    subject: the oracle that is scored in place of separated signals; unprocessed, oracles: what stands beside.
    assign: which output is scored against which reference, where that was asked for.
    """

    metrics: tuple[str, ...]
    protocol: Protocol | None = None
    unprocessed: bool = False
    channels: str = "each"
    oracles: tuple[Oracle, ...] = ()
    subject: Oracle | None = None
    assign: Assign | None = None

    def __call__(self, signals: Signals) -> list[dict[str, Any]]:
        """Return the item's rows; those of other estimates, the mixture and oracles follow, with their system."""
        signals = self.posed(signals)
        rows = self._rows(signals)
        for system, est in {**signals.beside, **self.beside(signals)}.items():
            if isinstance(est, str):
                found = [self.blank(signals.id, name, len(signals.ref), f"{FAILED}{est}") for name in signals.sources]
            else:
                found = self._rows(signals._replace(est=est))
            rows += [{**row, "system": system} for row in found]
        if self.assign and self.assign.kind != assigning.DEFAULT:
            rows += [{**row, "system": assigning.SYSTEM} for row in score_signals(signals, self.metrics)]
        return assigning.label(rows, self.assign)

    def posed(self, signals: Signals) -> Signals:
        """Return an item with the estimates that are scored: its own, or those of the subject."""
        if self.subject is None:
            return signals
        return signals._replace(est=_masked(self.subject, signals.ref, self._mixture(signals)))

    def beside(self, signals: Signals) -> dict[str, np.ndarray]:
        """Return the estimates (K, ..., T) of each system beside an item's own; BadInput without a mixture."""
        if not (self.unprocessed or self.oracles):
            return {}
        mix = self._mixture(signals)
        found = {UNPROCESSED: np.stack([mix] * len(signals.ref))} if self.unprocessed else {}
        return found | {f"{ORACLE}{oracle}": _masked(oracle, signals.ref, mix) for oracle in self.oracles}

    def _mixture(self, signals: Signals) -> np.ndarray:
        mix = signals.ref.sum(0) if self.protocol else signals.mix
        if mix is None:
            raise BadInput(f"{signals.id}: no mixture to score unprocessed; give --mixtures DIR")
        return mix

    def _rows(self, signals: Signals) -> list[dict[str, Any]]:
        if self.protocol:
            return fuss_scores.score_item(signals, self.protocol)
        return score_signals(self.assign.posed(signals) if self.assign else signals, self.metrics)

    def blank(self, item: str, source: str, n_src: int, reason: str) -> dict[str, Any]:
        """Return the row of an item that could not be scored."""
        if self.protocol is None:
            return assigning.label([blank_row(item, source, n_src, self.metrics, reason)], self.assign)[0]
        return fuss_scores.blank_row(item, source, reason)


def _masked(oracle: Oracle, ref: np.ndarray, mix: np.ndarray) -> np.ndarray:
    import torch

    # Outside the trimmed length of the references nothing is scored.
    length = min(ref.shape[-1], mix.shape[-1])
    waves = (torch.from_numpy(np.asarray(wave[..., :length], np.float64)) for wave in (ref, mix))
    return oracle.estimates(*waves).numpy()


class Files(NamedTuple):
    """Signals before reading: files of one item, estimates and references in natural order."""

    id: str
    est: dict[str, Path]
    ref: dict[str, Path]
    mix: Path | None


def _silent(line: str) -> None:
    del line


def _untracked(items: Iterable[Any], total: int) -> Iterable[Any]:
    del total
    return items


def score_model(
    model: Model | None,
    manifest: Manifest,
    metrics: Sequence[str],
    *,
    device: str | torch.device = "cpu",
    workers: int = 0,
    limit: int = 0,
    protocol: Protocol | None = None,
    unprocessed: bool = False,
    oracles: tuple[Oracle, ...] = (),
    subject: Oracle | None = None,
    assign: Assign | None = None,
    channels: str = "each",
    consistency: tuple[str, ...] = (),
    batch_seconds: float = 60,
    part: Part | None = None,
    say: Say = _silent,
    track: Progress = _untracked,
) -> list[dict[str, Any]]:
    """Separate every item of a manifest and return its rows, in the manifest's order.

    part: where rows go as they come, and what of them is there; a share returns what is there.

    workers: processes for the metrics (0: this one).  limit: the first items only (0: all).
    protocol: its scores, in place of metrics, on the sum of the references.  unprocessed, oracles, subject, assign: see
    Scorer; without a model items are scored at their own rates.
    consistency: kinds under which the same outputs are scored, too (engine/scoring/consistencies.py).
    channels: of every file, one of items.CHANNELS; several are separated by one decision, as `usep separate` does.
    batch_seconds: audio per batch on a GPU.  say, track: where notes and progress go.
    A model that separates by query is asked for the queries of each row.  BadInput for items without references.
    """
    if protocol is None:
        check_metrics(metrics)
    rows = referenced(manifest, limit)
    # On a CPU a batch saves nothing; on a GPU the order of the items changes, and is put back at the end.
    part = part or Part()
    left = part.left(len(rows))
    batches = _batches([rows[n] for n in left], 0 if str(device) == "cpu" else batch_seconds)
    reading = Reading(manifest, model.sample_rate if model else 0, protocol is not None, channels, say)
    if model:
        signals = _separated(model, reading, batches, device, strict=False, kinds=consistency)
    else:
        signals = unseparated(reading, batches)
    scorer = Scorer(tuple(metrics), protocol, unprocessed, channels, oracles, subject, assign)
    numbered = in_flight.numbered(signals, [(n, rows[n].id) for n in left])
    score = partial(_item_rows, score=scorer, scorer=scorer)
    if left:
        in_flight.score(numbered, score, workers, part, lambda found: track(found, len(left)))
    return gathered(part, [row.id for row in rows])


def referenced(manifest: Manifest, limit: int = 0) -> Sequence[ManifestRow]:
    """Return the items that are scored; BadInput where there are none, or one has no references."""
    rows = manifest.rows[:limit] if limit else manifest.rows
    if not rows:
        raise BadInput(f"{manifest.path}: no items to score in it; check --split")
    bare = np.flatnonzero(lazy.counts(rows, "sources") == 0)
    if len(bare):
        raise BadInput(
            f"{manifest.path}: item {rows[int(bare[0])].id} has no sources; a score needs references: "
            "use a prepared test set, score mixtures alone with --metric momi, or listen with `usep separate`"
        )
    return rows


def separated(
    model: Model,
    manifest: Manifest,
    *,
    device: str | torch.device = "cpu",
    limit: int = 0,
    summed: bool = False,
    channels: str = "each",
    say: Say = _silent,
    strict: bool = True,
) -> Iterator[Signals]:
    """Yield each item of a manifest with the model's estimates (N,T) or (N,C,T), in the manifest's order.

    summed: the sum of the references is separated, as under a protocol, and no mixture file is opened.
    strict: raise for an item that cannot be read or separated; otherwise it comes without signals, its note says why.
    """
    rows = manifest.rows[:limit] if limit else manifest.rows
    reading = Reading(manifest, model.sample_rate, summed, channels, say)
    return _separated(model, reading, ([row] for row in rows), device, strict)


def score_folders(
    estimates: str | Path,
    references: str | Path,
    mixtures: str | Path | None,
    metrics: Sequence[str],
    *,
    workers: int = 0,
    limit: int = 0,
    skip_missing: bool = False,
    protocol: Protocol | None = None,
    unprocessed: bool = False,
    oracles: tuple[Oracle, ...] = (),
    subject: Oracle | None = None,
    assign: Assign | None = None,
    channels: str = "each",
    part: Part | None = None,
    say: Say = _silent,
    track: Progress = _untracked,
) -> list[dict[str, Any]]:
    """Score separated files against reference files with the same ids; layouts as in engine/scoring/layouts.py.

    protocol, unprocessed, oracles, subject, assign, channels, part: as for score_model; a protocol opens no mixture.
    An item without estimates has failed, or with skip_missing is left out by intent; InputNotFound where all are.
    """
    if protocol is None:
        check_metrics(metrics, has_mixture=mixtures is not None)
    layout, refs = layouts.find_sources(Path(references))
    say(f"references: {references}, {layout}, {len(refs)} items")
    layout, ests = layouts.find_sources(Path(estimates))
    if subject is None:
        say(f"estimates: {estimates}, {layout}, {len(ests)} items")
    mixes = layouts.find_mixtures(Path(mixtures)) if mixtures is not None else {}
    ids = list(refs)[:limit] if limit else list(refs)
    if not any(i in ests for i in ids):
        raise InputNotFound(
            f"{estimates}: no estimates for any of {len(ids)} items, the first is {ids[0]} (found there: "
            f"{next(iter(ests))}); give them the same names"
        )
    lacking = {i: NO_ESTIMATE if skip_missing else FAILED + NO_ESTIMATE for i in ids if i not in ests}
    if mixtures is not None:
        lost = [i for i in ids if i not in mixes]
        if len(lost) == len(ids):
            raise InputNotFound(f"{mixtures}: no mixture for any of {len(ids)} items, the first is {lost[0]}")
        lacking = {i: f"{FAILED}no mixture" for i in lost} | lacking
    scorer = Scorer(tuple(metrics), protocol, unprocessed, channels, oracles, subject, assign)
    part = part or Part()
    for n, i in enumerate(ids):
        if i in lacking:
            part.put(n, [scorer.blank(i, name, len(refs[i]), lacking[i]) for name in refs[i]])
    left = part.left(len(ids))
    files = ((n, Files(ids[n], ests[ids[n]], refs[ids[n]], mixes.get(ids[n]))) for n in left)
    score = partial(_item_rows, score=partial(score_files, scorer=scorer), scorer=scorer)
    if left:
        in_flight.score(files, score, workers, part, lambda found: track(found, len(left)))
    return gathered(part, ids)


def score_files(files: Files, scorer: Scorer) -> list[dict[str, Any]]:
    """Read one item's files and score them; BadInput for unequal sample rates or numbers of channels."""
    mixture = None if scorer.protocol else files.mix
    return scorer(read_item(files.id, files.est, files.ref, mixture, scorer.protocol is not None, scorer.channels))


def _item_rows(
    item: Files | Signals, score: Callable[[Any], list[dict[str, Any]]], scorer: Scorer
) -> list[dict[str, Any]]:
    """Return score(item), or rows without values where it cannot be scored."""
    reason = item.note if isinstance(item, Signals) and item.note.startswith(FAILED) else ""
    if not reason:
        try:
            return score(item)
        except Exception as error:
            reason = why(error, item.id)
    sources = item.sources if isinstance(item, Signals) else tuple(item.ref)
    return [scorer.blank(item.id, name, len(sources), reason) for name in sources]


def gathered(part: Part, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return all rows that are there in the order of `ids`; BadInput where of all items not one could be scored."""
    rows = [row for rows in part.values() for row in rows]
    if part.complete and rows and len(failures(rows)) == len(set(ids)):
        raise BadInput(f"none of {len(ids)} items can be scored; the first, {ids[0]}: {rows[0]['reason']}")
    return rows


def _separated(
    model: Model,
    reading: Reading,
    batches: Iterable[list[ManifestRow]],
    device: Any,
    strict: bool,
    kinds: Sequence[str] = (),
) -> Iterator[Signals]:
    """Yield each item with the model's estimates; the model comes back to its mode and its device.

    strict: raise for an item that cannot be read or separated; otherwise it comes without signals, and its note says
    why.  kinds: of consistency, under which the outputs come beside.
    """
    from usepcli.separator.borrowing import borrowed

    with borrowed(model, device) as separator:
        for batch in batches:
            items = []
            for row in batch:
                try:
                    items.append((reading(row), queries_of(model, row)))
                except Exception as error:
                    if strict:
                        raise
                    yield lost(row, error)
            # A stale manifest may promise equal lengths that the files do not have.
            for (_, queries), same in itertools.groupby(items, key=lambda item: (item[0].ref.shape[1:], item[1])):
                group, fitted = [item for item, _ in same], separator.fits_s
                try:
                    separator = asked(separator, queries)
                    mixes = np.stack([item.mix for item in group if item.mix is not None])
                    est, beside = consistencies.estimates(separator, kinds, partial(estimated, separator, mixes))
                except Exception as error:
                    if strict:
                        raise
                    yield from (lost(row, error) for row in batch if row.id in {item.id for item in group})
                    continue
                if separator.fits_s < fitted:
                    reading.say(
                        f"{group[0].id}: too long for the memory of {device} at once; items above "
                        f"{separator.fits_s:g} s are separated in overlapping chunks"
                    )
                for n, (item, own) in enumerate(zip(group, est, strict=True)):
                    yield item._replace(est=own, ordered=model.ordered, beside=consistencies.of_item(beside, n))


def estimated(separator: Separator, mixes: np.ndarray) -> np.ndarray:
    """Return the model's estimates (B,N,T) of whole mixtures (B,T), or (B,N,C,T) of (B,C,T), at its rate.

    Several channels get one decision, as in `usep separate`; what the model leaves over stays out.
    """
    from usepcli.separator.flow import estimate
    from usepcli.separator.how import How

    if mixes.ndim == 2:
        return separator.rows(mixes)
    how, n_src, rate = How("linked", "leave"), separator.n_src, separator.rate
    net = separator.model
    heard = partial(estimate, rows=separator.rows, ordered=net.ordered, together=net.channels)
    return np.stack([heard(mix, n_src, rate, how) for mix in mixes])


def _batches(rows: Sequence[ManifestRow], seconds: float) -> Iterator[list[ManifestRow]]:
    """Yield batches of items of one length and rate, of at most `seconds` of audio (0: one item at a time).

    Never padded: normalisation over time would see the padding, and the scores would depend on the batch.
    """
    if not seconds:
        yield from ([row] for row in rows)
        return

    def kind(row: ManifestRow) -> tuple[int, int]:
        return row.sample_rate, row.frames

    for (rate, frames), same in itertools.groupby(sorted(rows, key=kind), key=kind):
        size = max(1, int(seconds * rate / frames)) if rate and frames else 1
        while batch := list(itertools.islice(same, size)):
            yield batch
