"""The work behind `usep separate`: find the files, tell what is done, separate the rest, say what happened."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from usepcli import guard
from usepcli.cli import _options as options
from usepcli.cli import _separate_notes as notes
from usepcli.errors import InputNotFound, OutputError, PartialFailure, UsageError, UsepError

if TYPE_CHECKING:
    from usepcli.engine.separation.batch import Triage
    from usepcli.engine.separation.ending import Ending
    from usepcli.engine.separation.jobs import Job
    from usepcli.engine.separation.ledger import Ledger
    from usepcli.engine.separation.record import Record
    from usepcli.engine.separation.separate_files import Wish
    from usepcli.separator.separator import Separator


@dataclass(frozen=True)
class Asked:
    """The options of the command line, checked by nobody yet."""

    inputs: list[str]
    out: Path
    files_from: str
    null: bool
    model: str
    channels: str
    rest: str
    residual: bool
    sources: str
    keep: str
    name: str
    form: str
    subtype: str
    clip: str
    report: bool
    figure: str
    chunk_s: float
    device: str
    threads: int
    overwrite: bool
    resume: bool
    shard: str
    fail_fast: bool
    dry_run: bool
    as_json: bool
    quiet: bool

    @property
    def left_over(self) -> str:
        """What happens to the rest, in the words of How."""
        return "source" if self.residual else self.rest


def separate(asked: Asked) -> None:
    """Do what was asked; PartialFailure if some files failed, the file's own fault if it was the only one."""
    from usepcli.audio.spool import spooled
    from usepcli.engine.separation.ending import Ending

    texts = _inputs(asked)
    if asked.figure:
        from usepcli.engine.separation.report_files import check_figures

        check_figures(asked.figure)
    with ExitStack() as stack:
        ending = stack.enter_context(Ending())
        stdin = None
        if "-" in texts:
            stdin = Path("stdin") if asked.dry_run else stack.enter_context(spooled(sys.stdin.buffer))
        _Run(asked, texts, stdin, ending).go()


def _inputs(asked: Asked) -> list[str]:
    """Return all inputs, those of --files-from behind the others; UsageError for what does not go together."""
    from usepcli.engine.separation.jobs import read_list

    texts = list(asked.inputs)
    if asked.residual and asked.rest == "leave":
        raise UsageError("--residual: writes the rest that --rest leave leaves out; give one of them")
    if asked.null and not asked.files_from:
        raise UsageError("-0: says how --files-from LIST is read; name a list, or leave -0 out")
    once = UsageError("-: standard input can be read once; name it once, as sound or as --files-from -")
    if "-" in texts and asked.files_from == "-":
        raise once  # before it is read
    if asked.files_from == "-":
        texts += read_list(sys.stdin.buffer.read(), asked.null)
    elif asked.files_from:
        try:
            texts += read_list(Path(asked.files_from).read_bytes(), asked.null)
        except OSError as fault:
            raise InputNotFound(
                f"{asked.files_from}: cannot be read: {fault.strerror}; name a list of paths"
            ) from fault
    if texts.count("-") > 1 or ("-" in texts and asked.files_from == "-"):
        raise once
    if "-" in texts and asked.shard:
        raise UsageError("--shard: shares files by name, and standard input has none; leave one of them out")
    if not texts:
        where = f"{asked.files_from or 'standard input'}: no path in this list" if asked.files_from else "no input"
        raise UsageError(f"{where}; name sound files, folders, quoted patterns, or - for standard input")
    return texts


class _Run:
    """One call of the command: the model, the settings, and what came of it so far."""

    def __init__(self, asked: Asked, texts: list[str], stdin: Path | None, ending: Ending) -> None:
        from usepcli.audio.io import check_codecs
        from usepcli.engine.separation import jobs, shards
        from usepcli.engine.separation.ledger import made
        from usepcli.engine.separation.separate_files import Wish
        from usepcli.separator.separator import How

        self.asked, self.ending = asked, ending
        self.shard = shards.parse(asked.shard)
        wish = Wish(How(asked.channels, asked.left_over), asked.sources, asked.clip)
        self.sources = jobs.find_sources(texts, asked.out, stdin, made(asked.out))
        for source in self.sources:
            check_codecs(source.path)
        self.separator = self._load()
        self.names = jobs.choose(self.separator.names(wish.how), asked.keep)
        plan = jobs.lay_out(
            self.sources, asked.out, self.names, name=asked.name, form=asked.form, subtype=asked.subtype
        )
        self.alone = len(plan) == 1
        self._refuse_one_page_for_two(plan)
        self.plan = self.shard.of(plan) if self.shard else plan
        self.settings, self.wish = self._settled(wish)
        self.faults: list[UsepError] = []
        self.records: list[Record] = []

    def _refuse_one_page_for_two(self, plan: Sequence[Job]) -> None:
        from usepcli.audio.io import show

        taken: dict[str, Job] = {}
        for job in plan:
            for path in self._pages(job):
                other = taken.setdefault(str(path).casefold(), job)
                if other is not job:
                    raise OutputError(
                        f"{show(path)}: would be made for both {show(other.file)} and {show(job.file)}; rename one, or "
                        "leave --report and --figure out"
                    )

    def _load(self) -> Separator:
        from usepcli.separator.separator import Separator

        return Separator.load(self.asked.model, self.asked.device, self.asked.threads, self.asked.chunk_s)

    def _settled(self, wish: Wish) -> tuple[dict[str, Any], Wish]:
        from usepcli.engine.separation import batch

        asked = self.asked
        facts = batch.settings(asked.model, self.separator, wish, self.names, asked.name, asked.form, asked.subtype)
        return facts, replace(wish, settings=batch.fingerprint(facts))

    def go(self) -> None:
        """Separate what is not done, print the results, and raise what went wrong."""
        from usepcli.engine.separation.ledger import Ledger

        asked, ledger = self.asked, Ledger(self.asked.out, self.shard)
        if asked.dry_run:
            ledger.read()
            self._listing(self._triage(ledger))
            return
        try:
            with ledger:
                self._separate(ledger, self._triage(ledger))
        finally:
            if not asked.as_json:
                notes.table(self.records)
        if self.faults and len(self.plan) == 1:
            raise self.faults[0]
        if self.faults:
            failed = f"{len(self.faults)} of {len(self.plan)} files failed (errors.csv)"
            raise PartialFailure(f"{failed}; the others are done, and the same command tries the failed ones again")

    def _triage(self, ledger: Ledger) -> Triage:
        from usepcli.engine.separation import batch

        return batch.triage(
            ledger, self.plan, self.wish.settings, self.sources, resume=self.asked.resume,
            overwrite=self.asked.overwrite,
        )  # fmt: skip

    def _pages(self, of: Record | Job) -> list[Path]:
        """Return where the page and the picture of a recording go, as far as they are wanted."""
        asked = self.asked
        if not (asked.report or asked.figure):
            return []
        from usepcli.engine.separation import report_files

        page = [report_files.report_path(of, asked.out, self.alone)] if asked.report else []
        return [*page, *([report_files.figure_path(of, asked.out, asked.figure)] if asked.figure else [])]

    def _listing(self, found: Triage) -> None:
        done = {record.file for record in found.done}
        rows = [
            {"file": job.file, "outputs": [str(path) for path in job.outputs], "done": job.file in done}
            for job in self.plan
        ]
        options.listing(rows, self.asked.as_json)

    def _separate(self, ledger: Ledger, found: Triage) -> None:
        from usepcli.engine.separation import batch

        said = notes.Notes(self.separator, self.asked.left_over, self.asked.quiet)
        said.skipped(len(found.done), len(self.plan))
        bare = [record for record in found.done if not all(path.is_file() for path in self._pages(record))]
        if self.asked.report or self.asked.figure:
            self._check_pages([*found.todo, *bare])
        for record in found.done:
            ledger.settle(record.file)
            self._result(record)
        for record in ledger.joined(bare):  # the sound is there: pages alone take no model
            self._show(record)
            self.ending.check()
        wish = replace(self.wish, replace=lambda path: self.asked.overwrite or path in found.ours)
        for record in batch.run(self.separator, found.todo, ledger, wish, watch=self._watch, failed=self._failed):
            said.file(record)
            self._show(record)
            self._result(record)
            self.ending.check()
        if self.asked.report and not self.alone and not self.shard:
            self._index(ledger)

    def _result(self, record: Record) -> None:
        self.records.append(record)
        if self.asked.as_json:  # at once: a batch may run for days
            typer.echo(json.dumps(record.facts(), ensure_ascii=False))

    def _failed(self, job: Job, fault: UsepError) -> None:
        if self.asked.fail_fast:
            raise fault
        self.faults.append(fault)
        if len(self.plan) > 1:
            notes.say(f"usep: error: {fault}")

    def _watch(self, blocks: Iterable[Any], total: int, name: str) -> Iterator[Any]:
        from usepcli.report.progress import progress

        for block in progress(blocks, total, desc=name, unit="block", quiet=self.asked.quiet):
            self.ending.check()
            yield block

    def _check_pages(self, jobs: Sequence[Job | Record]) -> None:
        """Raise OutputError before any work where something else stands under the name of a page."""
        from usepcli.engine.separation import report_files

        index = [self.asked.out / "report.html"] if self.asked.report else []
        for path in [*index, *(path for job in jobs for path in self._pages(job))]:
            report_files.check_replaceable(path, self.asked.overwrite)

    def _show(self, record: Record) -> None:
        """Make the page and the picture; one that fails is a fault of its file, whose sources stay."""
        try:
            if self.asked.report:
                self._page(record)
            if self.asked.figure:
                self._figure(record)
        except Exception as error:
            fault = guard.fault(error, record.file)
            if self.asked.fail_fast:
                raise fault from error
            self.faults.append(fault)
            if len(self.plan) > 1:
                notes.say(f"usep: error: {fault}")

    def _page(self, record: Record) -> None:
        from usepcli.engine.separation import report_files

        path = report_files.write_report(
            record, self.settings, self.asked.out, card=self.separator.card, how=self.wish.how, alone=self.alone,
            overwrite=self.asked.overwrite, watch=self._watch,
        )  # fmt: skip
        if not self.asked.quiet:
            notes.say(f"{record.file}: {path}")

    def _figure(self, record: Record) -> None:
        from usepcli.engine.separation import report_files

        asked = self.asked
        path = report_files.figure_path(record, asked.out, asked.figure)
        report_files.write_figure(record, path, self.wish.how, asked.overwrite, self._watch)
        if not asked.quiet:
            notes.say(f"{record.file}: {path}")

    def _index(self, ledger: Ledger) -> None:
        from usepcli.engine.separation import report_files

        path = report_files.write_index(
            ledger.joined(self.records), self.asked.out, self.settings, failures=ledger.failures(),
            overwrite=self.asked.overwrite,
        )  # fmt: skip
        if not self.asked.quiet:
            notes.say(f"report: {path}")
