"""Bounds of a test set: masks made from the references above what is scored, the mixture itself below it.

They stand beside separated signals, or alone, where nothing is separated: then the first mask takes the place of the
model, so that whatever can be asked of a model's scores can be asked of its.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usepcli.engine.scoring import jobs
from usepcli.engine.scoring.jobs import OF_SETS, Folders, Job, Means, Measures, Rows
from usepcli.errors import InputNotFound, UsageError

if TYPE_CHECKING:
    from usepcli.engine.journal import Part
    from usepcli.engine.scoring.systems import System


def alone(
    asked: bool, model: str | None, data: Path | None, oracle: Sequence[str], folders: Folders, say: jobs.Say
) -> bool:
    """Return whether oracles are scored without a model: as asked, or because none is named and none is there.

    UsageError where a model or separated files are named, too.
    """
    if asked:
        if model is not None or folders.estimates is not None:
            raise UsageError("--bounds scores no model and no estimates: leave MODEL and --estimates away, or --bounds")
        return True
    if not oracle:
        return False
    if folders.named:
        return folders.estimates is None and folders.references is not None
    if model is None and data is not None and not jobs.latest_run():
        say("no MODEL is named, and no run is there: oracles and the mixture alone")
        return True
    return False


def check(wanted: Measures, exports: bool) -> None:
    """UsageError for what only separated signals have."""
    if set(wanted.asked) & set(OF_SETS) or exports:
        what = next((f"--metric {name}" for name in wanted.asked if name in OF_SETS), "--kaldi-export")
        raise UsageError(f"{what} needs a MODEL: oracles alone have a --metric per source, or a --protocol")


def job(data: Path | None, split: str, wanted: Measures, means: Means) -> Job:
    """Return the job of scoring oracles and the mixture, on a manifest, by default the small set of usep, or files."""
    return _of_files(wanted, means) if wanted.folders.named else _of_manifest(data, split, wanted, means)


def _of_files(wanted: Measures, means: Means) -> Job:
    folders = wanted.folders
    if folders.references is None:
        raise UsageError("oracles need the true sources: give --references DIR, and --mixtures DIR")
    # What is read as an estimate is never looked at: a mask takes its place.
    found = jobs.files_job(replace(folders, estimates=folders.references), wanted, means)
    facts = {**found.facts, "estimates": "", "oracle": str(wanted.subject)}
    return replace(found, facts=facts, out=Path("bounds"), heard=lambda: _files_heard(wanted, means))


def _of_manifest(data: Path | None, split: str, wanted: Measures, means: Means) -> Job:
    from usepcli.data.manifest import Manifest
    from usepcli.engine.scoring import results
    from usepcli.engine.scoring.evaluate import score_model

    place = data or jobs.SAMPLES
    if not place.exists():
        raise InputNotFound(f"{place}: no such manifest or folder; name one with --data")
    manifest, split = jobs.chosen(Manifest.read(place), split, "test")
    means.say(f"data: {manifest.path}, split {split or 'unnamed'}, {len(manifest)} items")
    jobs.refuse_twice(manifest, split, means.limit)
    facts: dict[str, Any] = {
        "oracle": str(wanted.subject),
        "data": results.about_data(manifest, split, manifest.rows[0].sample_rate),
        "settings": {"limit": means.limit, "metrics": wanted.metrics, "channels": means.channels},
    }

    def score(track: Any, part: Part) -> Rows:
        return score_model(
            None, manifest, wanted.metrics, workers=means.workers, limit=means.limit, protocol=wanted.protocol,
            unprocessed=wanted.unprocessed, oracles=wanted.oracles, subject=wanted.subject, assign=wanted.assign,
            channels=means.channels, part=part, say=means.say, track=track,
        )  # fmt: skip

    return Job(
        facts, Path(f"bounds{jobs.named_after(manifest)}" if data else "bounds"), score, manifest,
        files=lambda: jobs.listed(manifest, means.limit), heard=lambda: _manifest_heard(manifest, wanted, means),
    )  # fmt: skip


def _files_heard(wanted: Measures, means: Means) -> System:
    from usepcli.engine.scoring import systems

    folders = wanted.folders
    assert folders.references is not None
    found = systems.of_folders(folders.references, folders.references, folders.mixtures, means.limit, means.channels)
    scorer = wanted.scorer(means.channels)
    return replace(found, name=wanted.label, read=lambda item: scorer.posed(found.read(item)))


def _manifest_heard(manifest: Any, wanted: Measures, means: Means) -> System:
    from usepcli.engine.scoring import systems
    from usepcli.engine.scoring.reading import Reading

    scorer = wanted.scorer(means.channels)
    reading = Reading(manifest, 0, wanted.protocol is not None, means.channels, lambda line: None)
    return systems.of_rows(wanted.label, manifest, lambda row: scorer.posed(reading(row)), means.limit)
