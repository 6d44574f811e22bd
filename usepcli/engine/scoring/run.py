"""Scoring a model on a test set, or files that any program separated: what `usep evaluate` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usepcli import guard
from usepcli.engine import shards
from usepcli.engine.journal import ABOUT
from usepcli.engine.scoring import assigning, compared_figure, conditions, filled, jobs, judging, speech
from usepcli.engine.scoring import bounds as limits
from usepcli.engine.scoring.jobs import Folders, Job, Means, Measures, Rows, Speech, checked
from usepcli.engine.separation.ending import Ending
from usepcli.errors import BadInput, PartialFailure, UsageError, UsepError, choices

if TYPE_CHECKING:
    from usepcli.engine.scoring.results import Place, Results
    from usepcli.engine.scoring.versus import Evaluation


DEVICE = f"{ABOUT}device"


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation came to: its tables, what evaluate.json holds, and the folder of both; earlier: made before.

    Of an earlier one only the tables that are shown are in `found`.  Of a share there are none: `record` says how much
    of the whole is there.
    """

    found: Results
    record: dict[str, Any]
    out: Path
    earlier: bool = False
    share: bool = False


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
    oracle: Sequence[str] = (),
    stft: str = "",
    bounds: bool = False,
    consistency: Sequence[str] = (),
    assign: str = "",
    judge: str = "",
    judge_path: Path | None = None,
    versus: Sequence[Path] = (),
    compare: str = "",
    only: Sequence[str] = (),
    figure: Path | None = None,
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
    shard: str = "",
    merge: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    say: Callable[[str], None] = lambda line: None,
    show: Callable[[Evaluated], None] = lambda done: None,
) -> Evaluated:
    """Score what `usep evaluate` scores, by the options of that command, and write its tables into a folder.

    `show` is given the results as soon as they are written, before the page is made.  What can be wrong without the
    model is told before it is loaded; what turns out later, as a comparison that cannot be made, is raised at the end.
    A folder that holds these very results is left as it is, and they are shown again.  Every item is noted there as
    soon as it is scored: what is noted is scored no more, by whichever run, and a share's run ends with that.
    """
    given = dict(locals())
    asked = {name: value for name, value in given.items() if name in _DECIDING and (value or name not in _LATER)}
    folders = Folders(estimates, references, mixtures, skip_missing)
    words = Speech(hypotheses, asr, language, texts, kaldi_export)
    means = Means(limit, device, workers, threads, say, checked(channels))
    jobs.check_subject(folders, model, data, split)
    judged = judging.asked(judge, judge_path, given)
    alone = limits.alone(bounds, model, data, oracle, folders, say)
    sets = [name for name in metric if name in jobs.OF_SETS]
    how = None if judged else assigning.asked(assign, stft, sets, given)
    own = "" if assign == assigning.FRAME and not (oracle or alone) else stft
    wanted = judged or replace(
        jobs.measures(metric, protocol, unprocessed, folders, oracle, own, alone, consistency), assign=how
    )
    if wanted.subject:
        limits.check(wanted, kaldi_export is not None)
    compared_figure.check(figure, compare, only, overwrite)
    if figure is not None:
        show = _drawing(figure, only, show)
    conditions.check(wanted, stats, by, versus, compare)
    speech.check(words, metric, folders)
    _check_page(wanted, report, report_by)
    share = shards.asked(shard, merge, overwrite)
    with Ending():
        if speech.words_alone(words, metric, protocol, folders):
            job = jobs.words_job(model, data, split, words, means)
            if share or merge:
                raise UsageError("--hypotheses alone takes no time that could be shared: leave --shard and --merge out")
        elif judged:
            job = judging.job(data, split, judged, means)
        elif wanted.subject:
            job = limits.job(data, split, wanted, means)
        elif folders.named:
            job = jobs.files_job(folders, wanted, means)
        else:
            job = jobs.model_job(model, data, split, wanted, means)
        conditions.check_queries(by, job.manifest)
        from usepcli.engine.scoring import results
        from usepcli.engine.scoring import versus as earlier

        read = [*job.files(), *(path for path in (hypotheses, texts) if path), *map(earlier.table, versus)]
        place = results.Place(out or job.out, results.strict_options(asked), read, job.facts, share, merge)
        if (record := place.again(overwrite)) is not None:
            return _recalled(place, record, say, show)
        speech.refuse(job, kaldi_export, limit, overwrite or place.exporting())
        others = [earlier.read(one) for one in versus]
        facts = job.facts
        if judged:
            meant = judging.conventions(facts["judge"]["phrases"])
        else:
            meant = filled.conventions(wanted, job.ordered, channels, job.consistency)
        for other in others:
            earlier.refuse_unlike(facts, meant, other)
        if wanted.protocol:
            filled.announce(wanted.protocol, say)
        if wanted.assign:
            say(f"assignment: {wanted.assign.kind}: {meant['assignment']}")
        with place:
            work = _Asked(job, wanted, folders, words, means, others, asked | {"quiet": quiet, "overwrite": overwrite})
            try:
                return _scored(work, place, results.Results(facts, meant), show)
            except (KeyboardInterrupt, SystemExit):
                if kept := len(place.journal.part("items").done):
                    say(f"{kept} items are scored and kept in {place.path}; the same command goes on with the rest")
                raise


def _drawing(figure: Path, only: Sequence[str], show: Callable[[Evaluated], None]) -> Callable[[Evaluated], None]:
    """Return what shows results and draws them among published ones; a share's are shown alone."""

    def drawn(done: Evaluated) -> None:
        show(done)
        if not done.share and done.record.get("compare"):  # what cannot be compared is told, not drawn
            compared_figure.draw(figure, done.record, only)

    return drawn


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
    "unprocessed", "oracle", "stft", "bounds", "consistency", "assign", "judge", "judge_path", "versus", "compare",
    "only", "stats", "by", "report", "report_by", "mom_pairs", "hypotheses", "asr", "language", "texts", "kaldi_export",
    "channels", "seed", "limit",
)  # fmt: skip


# Where nothing is asked of these, results are those of a time that did not know them.
_LATER = ("oracle", "stft", "bounds", "consistency", "assign", "judge", "judge_path", "only")


def _scored(asked: _Asked, place: Place, found: Results, show: Callable[[Evaluated], None]) -> Evaluated:
    """Score, write, show, and raise what went wrong on the way."""
    options, journal = asked.options, place.journal
    if (there := len(journal.part("items").done)) and not (place.share or journal.merge):
        asked.means.say(f"{there} items were scored before, and stay")
    asked.job.opened = lambda device: journal.also(DEVICE, device)
    every, moms, odds = _done(asked, place)
    if place.share:
        return _shared(asked, place, found, show)
    if journal.merge:
        journal.state("items").refuse_gaps(place.path)
    if devices := journal.part(DEVICE).values():
        found.facts["settings"]["device"] = ", ".join(sorted(devices))
    rows, failed = _filled(asked, place, found, every, moms, odds)
    record = place.record(found) | ({"failed": failed} if failed else {})
    if options["compare"]:
        asked.part(lambda: filled.add_published(found, record, options["compare"], options.get("only", ())))
    place.save(found, record, not asked.faults and not options["report"])
    done = Evaluated(found, record, place.path)
    show(done)
    if options["report"]:
        asked.part(lambda: _page(done, asked, rows))
        place.note(record, not asked.faults)
    if asked.faults:  # the scores are written and shown all the same
        place.note(record, False)
        raise asked.faults[0]
    if failed:
        raise PartialFailure("; ".join(failed))
    return done


def _done(asked: _Asked, place: Place) -> tuple[Rows, Rows | None, Rows | None]:
    """Score what is ours and not done; return the rows of all items, sums and queries there, None where none can be."""
    job, wanted, means, options = asked.job, asked.wanted, asked.means, asked.options
    every: Rows = []
    moms: Rows | None = None
    if wanted.metrics or wanted.protocol:
        try:
            every = filled.score_items(job, place.journal.part("items"), options["quiet"])
        except BadInput:
            if place.journal.part("items").complete:  # not one item can be scored: nothing to go on with
                place.journal.discard()
            raise
    if "momi" in wanted.asked:
        part, pairs, seed = place.journal.part("momi"), options["mom_pairs"], options["seed"]
        moms = asked.part(lambda: filled.score_moms(job, means, part, pairs, seed))
    if "wer" in wanted.asked:
        asked.part(lambda: speech.hear(job, asked.words, asked.folders, means, place.journal))
    odds: Rows | None = None
    if "presence" in wanted.asked:
        part = place.journal.part("presence")
        odds = asked.part(lambda: filled.score_presence(job, means, part, options["seed"], options["quiet"]))
    return every, moms, odds


def _filled(
    asked: _Asked, place: Place, found: Results, every: Rows, moms: Rows | None, odds: Rows | None
) -> tuple[Rows, list[str]]:
    """Fill in the tables; return the rows of the separated signals, and what could not be scored, in words."""
    job, wanted, means, options = asked.job, asked.wanted, asked.means, asked.options
    rows: Rows = []
    if wanted.metrics or wanted.protocol:
        rows = filled.add_items(found, every, wanted, means)
        comparisons = (asked.others, options["stats"], options["by"], options["seed"])
        asked.part(lambda: filled.add_comparisons(found, job, rows, *comparisons))
    lost: Rows = []
    unheard: Rows = []
    unasked: Rows = []
    if odds is not None:
        unasked = asked.part(lambda: filled.add_presence(found, odds, options["seed"]), [])
    if moms is not None:
        lost = asked.part(lambda: filled.add_moms(found, moms, means, options["seed"], place.path), [])
    if "wer" in wanted.asked and (asked.words.hypotheses or place.journal.part("wer").done):
        unheard += asked.part(
            lambda: speech.add_words(found, job, asked.words, asked.folders, means, place.journal), []
        )
    if export := options["kaldi_export"]:
        exported = (asked.words, asked.folders, means, export, options["overwrite"], place.journal.part("kaldi"))
        unheard += asked.part(lambda: speech.export(found, job, *exported), [])
    if asked.faults and not found.tables:
        raise asked.faults[0]
    return rows, filled.failures(rows, lost, unheard, unasked=unasked)


def _shared(asked: _Asked, place: Place, found: Results, show: Callable[[Evaluated], None]) -> Evaluated:
    """Show what came of a share, and raise what went wrong with its items."""
    if asked.faults:
        raise asked.faults[0]
    share, state = place.share, place.journal.state("items")
    assert share is not None
    asked.means.say(state.told(share, place.journal.did))
    if asked.options["kaldi_export"]:
        asked.means.say("--kaldi-export: written by the run that takes the shards together")
    facts = {"shard": f"{share.index}/{share.count}", "done": place.journal.did, "items": len(state.items)}
    done = Evaluated(found, facts | {"missing": state.left}, place.path, share=True)
    show(done)
    part = place.journal.part("items")
    mine = [row for n in share.of(range(part.total)) for row in part.done[n]]
    if failed := filled.failures(mine, [], [], place.journal.path.name):
        raise PartialFailure(failed[0])
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


def _page(done: Evaluated, asked: _Asked, rows: Rows) -> None:
    """Write report.html into the folder of the results."""
    from usepcli.engine import tables
    from usepcli.engine.scoring import evaluate_report, listen, results, versus

    asked.job.open()
    scored, scores = versus.columns(rows, done.found.conventions)
    heard = listen.system(asked.job, asked.folders, asked.means, summed=asked.wanted.protocol is not None)
    if how := asked.wanted.assign:
        read = heard.read
        heard = replace(heard, read=lambda item: how.posed(read(item)))
    by, scorer = asked.options["report_by"], asked.wanted.scorer(asked.means.channels)
    place, lost = evaluate_report.write(done.out, done.found, done.record, scored, scores, heard, by, scorer.beside)
    tables.write_csv(done.out / results.HOLES, lost)
    asked.means.say(f"page: {place}")
