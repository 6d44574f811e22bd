"""Listening tests from a model or files to a page and its key, and from answers to a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usepcli.engine.scoring import jobs, listening, systems
from usepcli.engine.scoring.jobs import Folders, Job, Means
from usepcli.errors import UsageError

if TYPE_CHECKING:
    from usepcli.engine.scoring.systems import System


def make(
    out: Path,
    model: str | None = None,
    *,
    data: Path | None = None,
    split: str = "",
    estimates: Path | None = None,
    references: Path | None = None,
    mixtures: Path | None = None,
    against: str = "",
    kind: str = "",
    trials: int = 30,
    channels: str = "each",
    seed: int = 0,
    limit: int = 0,
    device: str = "auto",
    threads: int = 0,
    overwrite: bool = False,
    quiet: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Write the page and the key of a blind listening test into the folder `out`, and return what it holds.

    What is heard is that of `evaluate`: a model on a manifest, or folders of separated files.  against: a second
    system, a model or a folder of estimates.  channels: of every file, as in `evaluate`; two can be heard.
    kind: see listening.py; preference where there are two systems, words where every item names its sources by queries.
    """
    folders = Folders(estimates, references, mixtures)
    means = Means(limit, device, 0, threads, say, jobs.checked(channels))
    jobs.check_subject(folders, model, data, split)
    kind = kind or (listening.PREFERENCE if against else "")
    if kind:
        listening.check(kind, 2 if against else 1)
    listening.refuse(out, overwrite)
    wanted = jobs.Measures((), None, False, folders)
    job = jobs.files_job(folders, wanted, means) if folders.named else jobs.model_job(model, data, split, wanted, means)
    kind = kind or _usual(job)
    other = _other(job, against, folders, means) if against else None
    job.open()
    both = [system(job, folders, means), *([other()] if other else [])]
    return _written(out, both, kind, trials, seed, quiet, say)


def _usual(job: Job) -> str:
    """Return the kind of test of one system: by words where the sources of all items have some."""
    from usepcli.data import lazy

    rows = job.manifest.rows if job.manifest is not None else []
    queries, sources = (lazy.counts(rows, name) for name in ("queries", "sources"))
    return listening.WORDS if len(rows) and (queries == sources).all() and sources.any() else listening.WHICH


def _written(
    out: Path, both: Sequence[System], kind: str, trials: int, seed: int, quiet: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    from usepcli.report import listening as pages
    from usepcli.report.progress import progress

    drawn = listening.trials(both, kind, trials, seed, say)
    entries, keys = [], []
    total = trials * (1 if kind == listening.PREFERENCE else len(both))
    for trial in progress(drawn, total, desc="drawing", unit="trial", quiet=quiet):
        entries.append(pages.entry(trial.key["trial"], trial.sounds, trial.words))
        keys.append(trial.key)
    if len(keys) < total:
        say(f"{len(keys)} trials: the set has no more to ask about than these, {total} were wanted")
    test, entries, keys = listening.arrange(entries, keys, seed)
    place, key = listening.write(out, keys, pages.page(test, kind, entries))
    say(f"{len(keys)} trials of kind {kind}, drawn with seed {seed}; systems: {', '.join(s.name for s in both)}")
    say(f"give to listeners: {place}; keep to yourself: {key}")
    return {"page": str(place), "key": str(key), "trials": len(keys), "kind": kind, "test": test}


def system(job: Job, folders: Folders, means: Means, summed: bool = False) -> System:
    """Return what is scored as something that can be asked for single items; summed: as a protocol separates."""
    if job.heard is not None:
        return job.heard()
    if job.net is not None and job.manifest is not None:
        name = str(job.facts["model"]["ref"])
        return systems.of_model(
            name, job.net, job.manifest, device=job.device, limit=means.limit, summed=summed, channels=means.channels
        )
    if folders.estimates is None or folders.references is None:
        raise UsageError("words alone cannot be heard: give a MODEL, or --estimates and --references")
    return systems.of_folders(folders.estimates, folders.references, folders.mixtures, means.limit, means.channels)


def _other(job: Job, against: str, folders: Folders, means: Means) -> Callable[[], System]:
    """Return how to make the second system of a test: a folder of estimates, or else a model on the same manifest."""
    from usepcli.weights import cards, ensembles

    place, manifest = Path(against), job.manifest
    if place.is_dir() and not (place / "best.safetensors").is_file():
        if manifest is not None:
            return lambda: systems.of_manifest_files(place, manifest, means.limit, means.channels)
        return lambda: systems.of_folders(
            place, folders.references or Path(), folders.mixtures, means.limit, means.channels
        )
    if manifest is None:
        raise UsageError(f"--against {against}: beside --estimates stands another folder of estimates; none is here")
    card = ensembles.find(against).card

    def loaded() -> System:
        from usepcli.weights import store

        net, _ = store.load_any(against)
        means.say(f"against: {against}, {cards.outputs(card.n_src)} at {card.sample_rate} Hz")
        return systems.of_model(against, net, manifest, device=job.device, limit=means.limit, channels=means.channels)

    return loaded


@dataclass(frozen=True)
class Counted:
    """What answers came to: the rows of listening.csv, and where that lies."""

    rows: list[dict[str, Any]]
    out: Path


def score(
    answers: Sequence[Path],
    *,
    key: Path | None = None,
    out: Path | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Counted:
    """Count saved answers, files or folders of them, and write listening.csv beside them or into the folder `out`."""
    from usepcli.engine.scoring import listening_score

    known = listening_score.read_key(listening_score.find_key(answers, key))
    given = listening_score.read_answers(answers, known)
    rows = listening_score.score(given)
    folder = out or (answers[0] if answers[0].is_dir() else answers[0].parent)
    place = listening_score.write(folder, rows, overwrite)
    heard = len({answer.listener for answer in given})
    say(f"{len(given)} answers of {heard} listeners to {len(known)} trials")
    say(f"intervals: {listening_score.NOTES['interval']}")
    if len(given) < heard * len(known):
        say(f"{heard * len(known) - len(given)} trials were left unanswered")
    return Counted(rows, place)
