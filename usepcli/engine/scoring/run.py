"""Scoring a model on a test set, or files that any program separated: what `usep evaluate` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usepcli.engine.scoring import filled, jobs, speech
from usepcli.engine.scoring.jobs import Folders, Job, Means, Measures, Rows, Speech, checked
from usepcli.errors import UsageError, choices

if TYPE_CHECKING:
    from usepcli.engine.scoring.results import Results


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation came to: its tables, what evaluate.json holds, and the folder of both."""

    found: Results
    record: dict[str, Any]
    out: Path


def evaluate(
    model: str | None = None,
    *,
    data: Path | None = None,
    split: str = "",
    metric: Sequence[str] = (),
    out: Path | None = None,
    estimates: Path | None = None,
    references: Path | None = None,
    mixtures: Path | None = None,
    skip_missing: bool = False,
    protocol: str = "",
    unprocessed: bool = False,
    versus: Sequence[Path] = (),
    compare: str = "",
    stats: bool = False,
    by: str = "",
    report: bool = False,
    report_by: str = "",
    mom_pairs: int = 1000,
    hypotheses: Path | None = None,
    asr: Path | None = None,
    language: str = "en",
    texts: Path | None = None,
    kaldi_export: Path | None = None,
    seed: int = 0,
    channels: str = "each",
    limit: int = 0,
    device: str = "auto",
    workers: int = 0,
    threads: int = 0,
    overwrite: bool = False,
    quiet: bool = False,
    say: Callable[[str], None] = lambda line: None,
    show: Callable[[Evaluated], None] = lambda done: None,
) -> Evaluated:
    """Score what `usep evaluate` scores, by the options of that command, and write its tables into a folder.

    `show` is given the results as soon as they are written, before the page is made.  What can be wrong without the
    model is told before it is loaded.  A comparison with published numbers that cannot be made is raised at the end.
    """
    folders = Folders(estimates, references, mixtures, skip_missing)
    words = Speech(hypotheses, asr, language, texts, kaldi_export)
    means = Means(limit, device, workers, threads, say, checked(channels))
    wanted = jobs.measures(metric, protocol, unprocessed, folders)
    jobs.check_subject(folders, model, data, split)
    jobs.check_comparisons(wanted, stats, by, versus, compare)
    speech.check(words, metric, folders)
    _check_page(wanted, report, report_by)
    if speech.words_alone(words, metric, protocol, folders):
        job = jobs.words_job(model, data, split, words, means)
    elif folders.named:
        job = jobs.files_job(folders, wanted, means)
    else:
        job = jobs.model_job(model, data, split, wanted, means)
    from usepcli.engine.scoring import results
    from usepcli.engine.scoring import versus as earlier

    place = out or job.out
    results.refuse_existing(place, overwrite)
    speech.refuse(job, kaldi_export, limit, overwrite)
    found = results.Results(job.facts, filled.conventions(wanted, job.ordered, channels))
    others = [earlier.read(one) for one in versus]
    for other in others:
        earlier.refuse_unlike(found.facts, found.conventions, other)
    if wanted.protocol:
        filled.announce(wanted.protocol, say)
    job.open()
    rows: Rows = []
    if wanted.metrics or wanted.protocol:
        rows = filled.add_items(found, job, wanted, means, quiet)
        filled.add_comparisons(found, job, rows, others, stats, by, seed)
    lost: Rows = []
    if "momi" in metric:
        lost = filled.add_moms(found, job, means, mom_pairs, seed, place)
    if "wer" in metric:
        speech.add_words(found, job, words, folders, means)
    if kaldi_export is not None:
        speech.export(found, job, words, folders, means, kaldi_export, overwrite)
    done = Evaluated(found, results.save(place, found), place)
    fault = filled.add_published(found, done.record, place, compare) if compare else None
    show(done)
    if report:
        _page(done, job, folders, wanted, rows, report_by, means)
    if fault:  # the scores are written and shown all the same
        raise fault
    filled.tell_failures(rows, lost, place)
    return done


def _check_page(wanted: Measures, report: bool, report_by: str) -> None:
    """UsageError for options of the page that do not go together."""
    if report_by and not report:
        raise UsageError("--report-by chooses the items on the page: add --report, or leave it away")
    if report and not (wanted.metrics or wanted.protocol):
        raise UsageError("--report needs a --metric per source, or a --protocol")
    if not report_by:
        return
    from usepcli.engine.scoring import fuss_scores

    known = fuss_scores.names([]) if wanted.protocol else wanted.metrics
    if report_by not in known:
        raise UsageError(choices("score for --report-by", report_by, known))


def _page(
    done: Evaluated, job: Job, folders: Folders, wanted: Measures, rows: Rows, report_by: str, means: Means
) -> None:
    """Write report.html into the folder of the results."""
    from usepcli.engine import tables
    from usepcli.engine.scoring import evaluate_report, listen, results, versus

    scored, scores = versus.columns(rows, done.found.conventions)
    heard = listen.system(job, folders, means, summed=wanted.protocol is not None)
    place, lost = evaluate_report.write(done.out, done.found, done.record, scored, scores, heard, report_by)
    tables.write_csv(done.out / results.HOLES, lost)
    means.say(f"page: {place}")
