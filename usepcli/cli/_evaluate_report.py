"""What `usep evaluate` makes for eyes and ears: its page, the blind listening test, and the test's result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from usepcli.cli import _options as options
from usepcli.cli._evaluate_jobs import Asked, Job, Rows
from usepcli.errors import UsageError, choices

if TYPE_CHECKING:
    from usepcli.engine.scoring.protocols import Protocol
    from usepcli.engine.scoring.results import Results
    from usepcli.engine.scoring.systems import System


def complete_kind(incomplete: str) -> list[str]:
    """Return the kinds of listening tests whose names start with `incomplete`."""
    return [name for name in ("preference", "which") if name.startswith(incomplete)]


def check(asked: Asked, protocol: Protocol | None) -> None:
    """UsageError for options of the page and of the test that do not go together."""
    if asked.report_by and not asked.report:
        raise UsageError("--report-by chooses the items on the page: add --report, or leave it away")
    if asked.report and not (asked.metrics or protocol):
        raise UsageError("--report needs a --metric per source, or a --protocol")
    _check_by(asked, protocol)
    if asked.listening_test is None and (asked.against or asked.listening_kind):
        raise UsageError("--against and --listening-kind belong to --listening-test DIR: add it, or leave them away")
    if asked.key is not None and not asked.listening_score:
        raise UsageError("--key is read for --listening-score ANSWERS: add it, or leave it away")
    if asked.listening_score and (asked.model is not None or asked.data is not None or asked.files):
        what = f"'{asked.model}'" if asked.model is not None else "--data, --estimates and the like"
        raise UsageError(
            f"--listening-score reads answers alone: leave {what} away; of several listeners give the folder, or the "
            "option once for each file"
        )
    if asked.listening_test is None:
        return
    if asked.report or asked.listening_score:
        other = "--report" if asked.report else "--listening-score"
        raise UsageError(f"--listening-test writes a page and scores nothing: leave {other} away")


def _check_by(asked: Asked, protocol: Protocol | None) -> None:
    from usepcli.engine.scoring import fuss_scores

    known = fuss_scores.names([]) if protocol else asked.metrics
    if asked.report_by and asked.report_by not in known:
        raise UsageError(choices("score for --report-by", asked.report_by, known))


def system(job: Job, asked: Asked, protocol: Protocol | None = None) -> System:
    """Return what is scored as something that can be asked for single items."""
    from usepcli.engine.scoring import systems

    if job.net is not None and job.manifest is not None:
        name = str(job.facts["model"]["ref"])
        return systems.of_model(
            name, job.net, job.manifest, device=job.device, limit=asked.limit, summed=protocol is not None
        )
    if asked.estimates is None or asked.references is None:
        raise UsageError("words alone cannot be heard: give a MODEL, or --estimates and --references")
    return systems.of_folders(asked.estimates, asked.references, asked.mixtures, asked.limit)


def page(found: Results, record: dict[str, Any], job: Job, asked: Asked, rows: Rows, protocol: Protocol | None) -> Path:
    """Write report.html into the folder of the results."""
    from usepcli.engine import tables
    from usepcli.engine.scoring import evaluate_report, results, versus

    scored, scores = versus.columns(rows, found.conventions)
    folder = asked.out or job.out
    place, lost = evaluate_report.write(
        folder, found, record, scored, scores, system(job, asked, protocol), asked.report_by
    )
    tables.write_csv(folder / results.HOLES, lost)
    asked.say(f"page: {place}")
    return place


def make_test(job: Job, asked: Asked) -> None:
    """Write the page and the key of a blind listening test."""
    from usepcli.engine.scoring import listening
    from usepcli.report import listening as pages
    from usepcli.report.progress import progress

    folder = asked.listening_test or Path()
    listening.refuse(folder, asked.overwrite)
    both = [system(job, asked), *([_against(job, asked)] if asked.against else [])]
    kind = asked.listening_kind or (listening.PREFERENCE if asked.against else listening.WHICH)
    drawn = listening.trials(both, kind, asked.trials, asked.seed)
    entries, keys = [], []
    total = asked.trials * (len(both) if kind == listening.WHICH else 1)
    for trial in progress(drawn, total, desc="drawing", unit="trial", quiet=asked.quiet):
        entries.append(pages.entry(trial.key["trial"], trial.sounds))
        keys.append(trial.key)
    if len(keys) < total:
        asked.say(f"{len(keys)} trials: the set has no more to ask about than these, {total} were wanted")
    test, entries, keys = listening.arrange(entries, keys, asked.seed)
    place, key = listening.write(folder, keys, pages.page(test, kind, entries))
    asked.say(
        f"{len(keys)} trials of kind {kind}, drawn with seed {asked.seed}; systems: {', '.join(s.name for s in both)}"
    )
    asked.say(f"give to listeners: {place}; keep to yourself: {key}")
    facts = {"page": str(place), "key": str(key), "trials": len(keys), "kind": kind, "test": test}
    options.report(facts, asked.as_json)


def _against(job: Job, asked: Asked) -> System:
    """Return the second system of a test: a folder of estimates, or else a model on the same manifest."""
    from usepcli.engine.scoring import systems
    from usepcli.weights import reach, store

    place = Path(asked.against)
    if place.is_dir() and not (place / "best.safetensors").is_file():
        if job.manifest is not None:
            return systems.of_manifest_files(place, job.manifest, asked.limit)
        return systems.of_folders(place, asked.references or Path(), asked.mixtures, asked.limit)
    if job.manifest is None:
        raise UsageError(
            f"--against {asked.against}: beside --estimates stands another folder of estimates; none is here"
        )
    net, card = store.load_any(reach.find_model(asked.against))
    asked.say(f"against: {asked.against}, {card.n_src} outputs at {card.sample_rate} Hz")
    return systems.of_model(asked.against, net, job.manifest, device=job.device, limit=asked.limit)


def score_test(asked: Asked) -> None:
    """Print what the answers of a listening test come to, and write listening.csv."""
    from usepcli.engine import tables
    from usepcli.engine.scoring import listening_score

    places = asked.listening_score
    key = listening_score.read_key(listening_score.find_key(places, asked.key))
    answers = listening_score.read_answers(places, key)
    rows = listening_score.score(answers)
    folder = asked.out or (places[0] if places[0].is_dir() else places[0].parent)
    out = listening_score.write(folder, rows, asked.overwrite)
    heard = len({answer.listener for answer in answers})
    asked.say(f"{len(answers)} answers of {heard} listeners to {len(key)} trials")
    asked.say(f"intervals: {listening_score.NOTES['interval']}")
    if len(answers) < heard * len(key):
        asked.say(f"{heard * len(key) - len(answers)} trials were left unanswered")
    if asked.as_json:
        from usepcli.engine.scoring.results import strict

        options.report({"rows": strict(rows), "notes": listening_score.NOTES, "out": str(out)}, True)
    else:
        typer.echo("\n\n".join(tables.render(table) for table in listening_score.shown(rows)))
    asked.say(f"written: {out}")
