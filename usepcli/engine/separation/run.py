"""Separating files, folders and lists: find them, tell what is done, separate the rest, keep tables, make pages.

Whatever can be told without the model is told before it is loaded: a wrong word, a missing file, an output in the way.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from usepcli import guard
from usepcli.audio import raws
from usepcli.audio.spool import spooled
from usepcli.engine import shards
from usepcli.engine.separation import asking, batch, jobs
from usepcli.engine.separation import inputs as sounds
from usepcli.engine.separation.batch import Triage
from usepcli.engine.separation.ending import Ending
from usepcli.engine.separation.inputs import Found
from usepcli.engine.separation.jobs import Job
from usepcli.engine.separation.ledger import Ledger
from usepcli.engine.separation.maker import Late, Maker
from usepcli.engine.separation.notes import Notes, purpose
from usepcli.engine.separation.pace import Pace, Watched
from usepcli.engine.separation.pages import Pages
from usepcli.engine.separation.record import Record
from usepcli.engine.separation.separate_files import Wish
from usepcli.engine.separation.shards import planned, state
from usepcli.errors import BadInput, PartialFailure, UsageError, UsepError, choices
from usepcli.files import show
from usepcli.separator import engines, words
from usepcli.separator.how import How, names_of
from usepcli.stops import Ended, name_of
from usepcli.weights import ensembles

if TYPE_CHECKING:
    from usepcli.report.progress import Progress
    from usepcli.separator.separator import Separator

_RESTS = ("share", "leave")


@dataclass
class Done:
    """What a call came to: a record per file, or, of a dry run, what it would do (file, outputs, done) and not."""

    records: list[Record] = field(default_factory=list)
    planned: list[dict[str, Any]] = field(default_factory=list)
    failure: UsepError | None = None


def separate(
    inputs: Sequence[str | Path],
    out: Path,
    *,
    files_from: str = "",
    null: bool = False,
    model: str | Separator | None = None,
    channels: str = "linked",
    queries: Sequence[words.Query] = (),
    like: Sequence[Path] = (),
    without: Sequence[str] = (),
    caption: str | None = None,
    always: bool = False,
    rest: str = "",
    residual: bool = False,
    sources: str = "all",
    keep: str = "",
    two_stems: str = "",
    name: str = "{stem}_{i}",
    form: str = "wav",
    subtype: str = "",
    clip: str = "gain",
    report: bool = False,
    figure: str = "",
    labels: str = "",
    chunk_s: float = 0.0,
    overlap: float = 0.0,
    shifts: int = 1,
    speeds: int = 1,
    track: int = 0,
    device: str = "auto",
    threads: int = 0,
    engine: str = engines.TORCH,
    overwrite: bool = False,
    resume: bool = True,
    shard: str = "",
    merge: bool = False,
    fail_fast: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    done: Callable[[Record], None] = lambda record: None,
    say: Callable[[str], None] = lambda line: None,
) -> Done:
    """Separate sound files, folders and patterns into the folder `out`; the options are those of `usep separate`.

    `model` is one in reach, or one that is loaded and counts with its device, engine and so on; None: a usual one.
    `done` is told of every file at once, `say` what a user should know; quiet leaves the notes and not the warnings.
    PartialFailure if some files failed, the file's own fault if it was the only one.
    """
    asked = words.asked(queries, like, without, caption)
    asking.refuse(asked, rest, residual, keep or two_stems, always)
    residual, rest = residual or bool(asked and not rest), rest or "share"
    if rest not in _RESTS:  # How knows one more, by which --residual is done
        raise UsageError(f"--rest: {choices('treatment of the rest', rest, _RESTS)}; --residual writes it as a file")
    form, subtype, figure = form.lower().lstrip("."), subtype.upper(), figure.lower().lstrip(".")
    pages = Pages(out, report, figure, overwrite, labels.lower())
    how = How(channels, "source" if residual else rest, overlap, shifts, speeds, track, two_stems)
    wish = Wish(how, sources, clip, queries=asked.labels, always=always)
    share = shards.asked(shard, merge)
    jobs.check_template(name)
    typed = [str(text) for text in inputs]
    texts = sounds.texts(typed, files_from, null, bool(share))
    with ExitStack() as stack:
        ending = stack.enter_context(Ending(told=True))
        stdin, faults = _standard_input(texts, dry_run, stack)
        found = sounds.find(texts, out, stdin, alone=texts == typed and len(texts) == 1, share=share)
        found.faults |= faults
        tell = (lambda line: None) if quiet else say
        maker = Maker.of(model or asked.usual_model, device, threads, chunk_s, asked.queries, engine, tell)
        known = names_of(maker.sources, wish.how)  # UsageError for queries that the model does not take
        names = asked.names(residual) if asked else jobs.choose(known, keep)
        laid = partial(jobs.lay_out_some, found.sources, out, names, name=name, form=form, subtype=subtype)
        plan, everyone = planned(found.sources, share, laid, pages.wanted)
        pages.begin(everyone, len(found.sources) + found.unseen)
        facts = batch.settings(maker.ref, maker.chunk_s, wish, names, name, form, subtype, asked, maker.engine)
        wish = batch.marked(wish, facts)
        if caption is not None and not quiet:
            say(f"--caption: asks for {'; '.join(words.phrases_of(caption))}")
        run = _Run(
            maker, texts, found, everyone, plan, facts, wish, pages, Ledger(out, share), merge, resume, overwrite,
            fail_fast, quiet, ending, done, say,
        )  # fmt: skip
        try:
            return run.listing() if dry_run else run.go()
        except (KeyboardInterrupt, Ended) as stop:
            say(run.stopped(name_of(stop.number) if isinstance(stop, Ended) else "Ctrl-C"))
            raise


def _standard_input(texts: list[str], dry_run: bool, stack: ExitStack) -> tuple[Path | None, dict[str, UsepError]]:
    """Return where standard input was copied to, if it is an input; what is no sound is a fault among others."""
    if "-" not in texts:
        return None, {}
    try:
        return Path("stdin") if dry_run else stack.enter_context(spooled(sys.stdin.buffer)), {}
    except BadInput as fault:
        if len(texts) == 1:
            raise
        texts.remove("-")
        return None, {"-": fault}


@dataclass
class _Run:
    """One call: the model, the settings, and what came of it so far."""

    maker: Maker
    texts: list[str]
    found: Found
    everyone: list[Job]
    plan: list[Job]
    settings: dict[str, Any]
    wish: Wish
    pages: Pages
    ledger: Ledger
    merge: bool
    resume: bool
    overwrite: bool
    fail_fast: bool
    quiet: bool
    ending: Ending
    done: Callable[[Record], None]
    say: Callable[[str], None]
    faults: list[UsepError] = field(default_factory=list)
    in_the_way: int = 0
    told: bool = False
    pace: Pace = field(default_factory=lambda: Pace([]))
    records: list[Record] = field(default_factory=list)

    @property
    def several(self) -> bool:
        """Whether there is more than one input, so that a fault of one is no fault of all."""
        return len(self.plan) + len(self.found.faults) > 1

    def go(self) -> Done:
        """Separate what is not done, and raise what went wrong."""
        self._tell_inputs()
        self.ledger.expect(self.everyone)
        if self.merge:
            self._refuse_gaps()
        elif self.wish.queries or not self.ledger.out.exists():
            self.ledger.read()
            if any(raws.is_member(job.source) or os.path.exists(job.source) for job in self._triage().todo):
                _ = self.maker.separator  # a model that cannot be loaded, or asked, leaves nothing behind
        with self.ledger:
            self._separate(self._merged(self._triage()) if self.merge else self._triage())
            self._tell_share()
        if fault := self._failure():
            raise fault
        return Done(records=self.records)

    def _refuse_gaps(self) -> None:
        """BadInput where files of a --merge were done by no share, nor failed in one."""
        self.ledger.read()
        failed = self.ledger.failed()
        left = [job for job in self._triage().todo if self.ledger.file(job.file) not in failed]
        state(self.plan, left, self.ledger.out).refuse_gaps(self.ledger.out)

    def _merged(self, found: Triage) -> Triage:
        """Return what a --merge finds with nothing left to do: what failed in a share is told, not tried again."""
        failed = self.ledger.failed()
        lost = [(job, BadInput(failed[self.ledger.file(job.file)])) for job in found.todo]
        return replace(found, todo=[], refused=[*found.refused, *lost])

    def stopped(self, by: str) -> str:
        """Return in one line what a run that was stopped leaves."""
        kept, out = len(self.records), show(self.ledger.out)
        what = f"{kept} of {len(self.plan)} files are done and kept in {out}" if kept else f"no file is done in {out}"
        return f"usep: stopped by {by}: {what}, nothing is half written; the same command goes on"

    def _tell_share(self) -> None:
        """Say at the end of a share where its tables are and how those of all shares come together."""
        share = self.ledger.shard
        if share and not self.quiet:
            if not self.plan:
                self.say(f"shard {share}: nothing to do, none of the {len(self.found.sources)} files is its own")
                return
            there = len(shards.parts(self.ledger.out, "outputs", ".csv"))
            self.say(
                f"shard {share}: {len(self.records)} of its {len(self.plan)} files are done, in "
                f"{self.ledger.out / f'outputs{share.suffix}.csv'}; tables of {there} shards are there; when all have "
                f"ended, the same command without --shard, or with --merge, makes outputs.csv"
            )

    def _failure(self) -> UsepError | None:
        """Return what went wrong: of a single input its own fault."""
        if not self.faults or not self.several:
            return self.faults[0] if self.faults else None
        total = len(self.plan) + len(self.found.faults)
        more = f", with --overwrite also the {self.in_the_way} whose outputs exist" if self.in_the_way else ""
        return PartialFailure(
            f"{len(self.faults)} of {total} files failed (errors.csv); the others are done, and the same command tries "
            f"the failed ones again{more}"
        )

    def listing(self) -> Done:
        """Return what would be done, and write nothing."""
        self._tell_inputs()
        self.ledger.expect(self.everyone)
        self.ledger.read()
        triage = self._triage()
        done = {record.file for record in triage.done}
        refused = dict(triage.refused)
        for file, fault in self._known_faults(triage):
            self._failed(file, fault)
        planned = [
            {"file": job.file, "outputs": [str(path) for path in job.outputs], "done": job.file in done}
            for job in self.plan
            if job not in refused
        ]
        return Done(planned=planned, failure=self._failure())

    def _tell_inputs(self) -> None:
        """Say what was left out, and why, before any work."""
        found = self.found
        for line in found.unread:
            self.say(f"{line}; what it names cannot be told from recordings")
        if found.own and not self.quiet:
            self.say(found.skipped())
        if found.again and not self.quiet:
            self.say(f"{found.sources[0].path}: an output of an earlier run ({found.again}), separated again")

    def _triage(self) -> Triage:
        found = batch.triage(
            self.ledger, self.plan, self.wish.settings, self.found.sources, everyone=self.everyone, resume=self.resume,
            overwrite=self.overwrite, method=self.wish.method,
        )  # fmt: skip
        if fault := found.nothing():
            raise fault
        return found

    def _known_faults(self, found: Triage) -> list[tuple[str, UsepError]]:
        """Return the inputs that cannot be done, as is known before the work."""
        self.in_the_way = sum(isinstance(fault, jobs.InTheWay) for _, fault in found.refused)
        return [*self.found.faults.items(), *((job.file, fault) for job, fault in found.refused)]

    def _separate(self, found: Triage) -> None:
        said = Notes(self.say, self.wish.how, self.quiet)
        said.skipped(len(found.done), len(self.plan))
        bare = [record for record in found.done if self.pages.lacks(record)]
        self.pages.check(found.todo, bare)
        self.ledger.settle_folders(self.texts, self.found.faults)
        known = self._known_faults(found)
        self.ledger.fail(known[:1] if self.fail_fast else known)
        for file, fault in known:
            self._failed(file, fault)
        self.ledger.settle(record.file for record in found.done)
        for record in found.done:
            self._result(record)
        for record in self.ledger.joined(bare):  # the sound is there: pages alone take no model
            self._show(record)
            self.ending.check()
        self._rest(found, said)
        if self.pages.report and not self.pages.alone and not self.ledger.shard:
            self._index()

    def _rest(self, found: Triage, said: Notes) -> None:
        separator = cast("Separator", Late(self.maker))
        wish = replace(self.wish, replace=lambda path: self.overwrite or path in found.ours)
        self.pace = Pace(found.todo)
        run = batch.run(
            separator, self.pace, self.ledger, wish, watch=self._watch,
            failed=lambda job, fault: self._failed(job.file, fault),
        )  # fmt: skip
        for record in run:
            said.file(record, separator.rate)
            self._show(record)
            self._result(record)
            self.ending.check()

    def _result(self, record: Record) -> None:
        self.records.append(record)
        self.done(record)  # at once: a batch may run for days

    def _failed(self, file: str, fault: UsepError) -> None:
        if self.fail_fast:
            raise fault
        self.faults.append(fault)
        if self.several:
            self.say(f"usep: error: {fault}")

    def _watch(self, blocks: Iterable[Any], total: int, name: str) -> Watched:
        from usepcli.report.progress import progress

        bar = progress(blocks, total, desc=self.pace.title + name, unit="block", quiet=self.quiet)
        return Watched(bar, self.pace, self.ending.check, self._tell_model)

    def _tell_model(self, bar: Progress) -> None:
        if not (self.told or self.quiet):
            self.told = True
            for line in ensembles.purpose(self.maker.ref, purpose):
                (bar.say if bar.shown else self.say)(line)

    def _show(self, record: Record) -> None:
        """Make the page and the picture; one that fails is a fault of its file, whose sources stay."""
        try:
            self.pages.check_one(record)
            if self.pages.report:
                self._page(record)
            if self.pages.figure:
                self._figure(record)
            if self.pages.labels:
                self._labels(record)
        except Exception as error:
            fault = guard.fault(error, record.file)
            self.ledger.fail([(record.file, fault)])
            self._failed(record.file, fault)

    def _page(self, record: Record) -> None:
        from usepcli.engine.separation import report_files

        path = report_files.write_report(
            record, self.settings, self.ledger.out, card=self.maker.card, how=self.wish.how, alone=self.pages.alone,
            overwrite=self.overwrite, watch=self._watch,
        )  # fmt: skip
        if not self.quiet:
            self.say(f"{record.file}: {path}")

    def _figure(self, record: Record) -> None:
        from usepcli.engine.separation import report_files

        path = report_files.figure_path(record, self.ledger.out, self.pages.figure)
        report_files.write_figure(record, path, self.wish.how, self.overwrite, self._watch)
        if not self.quiet:
            self.say(f"{record.file}: {path}")

    def _labels(self, record: Record) -> None:
        from usepcli.engine.separation import labels

        path = labels.path_of(record, self.ledger.out, self.pages.labels)
        labels.write(record, path, self.pages.labels, self.overwrite)
        if not self.quiet:
            self.say(f"{record.file}: {path}")

    def _index(self) -> None:
        from usepcli.engine.separation import report_files

        path = report_files.write_index(
            self.ledger.joined(self.records), self.ledger.out, self.settings, failures=self.ledger.failures(),
            overwrite=self.overwrite,
        )  # fmt: skip
        if not self.quiet:
            self.say(f"report: {path}")
