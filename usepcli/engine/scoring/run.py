"""Scoring a model on a test set, or files that any program separated: what `usep evaluate` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usepcli import guard
from usepcli.engine.scoring import filled, jobs, speech
from usepcli.engine.scoring.jobs import Folders, Job, Means, Measures, Rows, Speech, checked
from usepcli.engine.separation.ending import Ending
from usepcli.errors import PartialFailure, UsageError, UsepError, choices

if TYPE_CHECKING:
    from usepcli.engine.scoring.results import Place, Results
    from usepcli.engine.scoring.versus import Evaluation


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation came to: its tables, what evaluate.json holds, and the folder of both; earlier: made before.

    Of an earlier one only the tables that are shown are in `found`.
    """

    found: Results
    record: dict[str, Any]
    out: Path
    earlier: bool = False


@dataclass
class _Asked:
    """Everything that is scored and how, as `evaluate` was asked."""

    job: Job
    wanted: Measures
    folders: Folders
    words: Speech
    means: Means
    others: list[Evaluation]
    options: dict[str, Any]
    faults: list[UsepError] = field(default_factory=list)

    def part(self, work: Callable[[], Any], otherwise: Any = None) -> Any:
        """Return what one part of the results comes to; one that cannot be made leaves the others, and is told last."""
        try:
            return work()
        except Exception as fault:
            self.faults.append(guard.fault(fault, "evaluate"))
            return otherwise


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
    model is told before it is loaded; what turns out later, as a comparison that cannot be made, is raised at the end.
    A folder that holds these very results is left as it is, and they are shown again.
    """
    asked = {name: value for name, value in locals().items() if name in _DECIDING}
    folders = Folders(estimates, references, mixtures, skip_missing)
    words = Speech(hypotheses, asr, language, texts, kaldi_export)
    means = Means(limit, device, workers, threads, say, checked(channels))
    wanted = jobs.measures(metric, protocol, unprocessed, folders)
    jobs.check_subject(folders, model, data, split)
    jobs.check_comparisons(wanted, stats, by, versus, compare)
    speech.check(words, metric, folders)
    _check_page(wanted, report, report_by)
    with Ending():
        if speech.words_alone(words, metric, protocol, folders):
            job = jobs.words_job(model, data, split, words, means)
        elif folders.named:
            job = jobs.files_job(folders, wanted, means)
        else:
            job = jobs.model_job(model, data, split, wanted, means)
        from usepcli.engine.scoring import results
        from usepcli.engine.scoring import versus as earlier

        read = [*job.files(), *(path for path in (hypotheses, texts) if path), *map(earlier.table, versus)]
        place = results.Place(out or job.out, results.strict_options(asked), read, job.facts)
        if (record := place.again(overwrite)) is not None:
            return _recalled(place, record, say, show)
        speech.refuse(job, kaldi_export, limit, overwrite)
        others = [earlier.read(one) for one in versus]
        facts, meant = job.facts, filled.conventions(wanted, job.ordered, channels)
        for other in others:
            earlier.refuse_unlike(facts, meant, other)
        if wanted.protocol:
            filled.announce(wanted.protocol, say)
        with place:
            work = _Asked(job, wanted, folders, words, means, others, asked | {"quiet": quiet, "overwrite": overwrite})
            return _scored(work, place, results.Results(facts, meant), show)


def _recalled(
    place: Place, record: dict[str, Any], say: Callable[[str], None], show: Callable[[Evaluated], None]
) -> Evaluated:
    """Show the very results that were asked for, made before; PartialFailure where some of their items have failed."""
    from usepcli.engine.scoring import results

    done = Evaluated(results.recalled(record), record, place.path, earlier=True)
    show(done)
    say(f"{place.path}: holds these results already; --overwrite makes them again")
    if record.get("failed"):
        raise PartialFailure("; ".join(record["failed"]))
    return done


# What decides about the results; the rest is how they are made and shown.
_DECIDING = (
    "model", "data", "split", "metric", "estimates", "references", "mixtures", "skip_missing", "protocol",
    "unprocessed", "versus", "compare", "stats", "by", "report", "report_by", "mom_pairs", "hypotheses", "asr",
    "language", "texts", "kaldi_export", "channels", "seed", "limit",
)  # fmt: skip


def _scored(asked: _Asked, place: Place, found: Results, show: Callable[[Evaluated], None]) -> Evaluated:
    """Score, write, show, and raise what went wrong on the way."""
    job, wanted, means, options = asked.job, asked.wanted, asked.means, asked.options
    job.open()
    rows: Rows = []
    if wanted.metrics or wanted.protocol:
        rows = filled.add_items(found, job, wanted, means, options["quiet"])
        comparisons = (asked.others, options["stats"], options["by"], options["seed"])
        asked.part(lambda: filled.add_comparisons(found, job, rows, *comparisons))
    lost: Rows = []
    unheard: Rows = []
    if "momi" in wanted.asked:
        pairs, seed = options["mom_pairs"], options["seed"]
        lost = asked.part(lambda: filled.add_moms(found, job, means, pairs, seed, place.path), [])
    if "wer" in wanted.asked:
        unheard += asked.part(lambda: speech.add_words(found, job, asked.words, asked.folders, means), [])
    if export := options["kaldi_export"]:
        exported = (asked.words, asked.folders, means, export, options["overwrite"])
        unheard += asked.part(lambda: speech.export(found, job, *exported), [])
    if asked.faults and not found.tables:
        raise asked.faults[0]
    failed = filled.failures(rows, lost, unheard, place.path)
    record = place.record(found) | ({"failed": failed} if failed else {})
    if options["compare"]:
        asked.part(lambda: filled.add_published(found, record, options["compare"]))
    place.save(found, record, not asked.faults)
    done = Evaluated(found, record, place.path)
    show(done)
    if options["report"]:
        asked.part(lambda: _page(done, job, asked.folders, wanted, rows, options["report_by"], means))
    if asked.faults:  # the scores are written and shown all the same
        place.note(record, False)
        raise asked.faults[0]
    if failed:
        raise PartialFailure("; ".join(failed))
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
