"""Separating files, folders and lists: find them, tell what is done, separate the rest, keep tables, make pages.

Whatever can be told without the model is told before it is loaded: a wrong word, a missing file, an output in the way.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from usepcli import device as devices
from usepcli import guard
from usepcli.audio.io import check_codecs, show
from usepcli.audio.spool import spooled
from usepcli.engine.separation import batch, jobs, shards
from usepcli.engine.separation.batch import Triage
from usepcli.engine.separation.ending import Ending
from usepcli.engine.separation.jobs import Job, Source
from usepcli.engine.separation.ledger import Ledger, made
from usepcli.engine.separation.notes import Notes
from usepcli.engine.separation.record import Record
from usepcli.engine.separation.separate_files import Wish
from usepcli.errors import InputNotFound, OutputError, PartialFailure, UsageError, UsepError
from usepcli.separator.how import How, check_chunk, default_chunk_s, names_of
from usepcli.weights import cards, reach

if TYPE_CHECKING:
    from usepcli.separator.separator import Separator


@dataclass
class Done:
    """What a call came to: a record per file, or, of a dry run, what it would do: file, outputs, done."""

    records: list[Record] = field(default_factory=list)
    planned: list[dict[str, Any]] = field(default_factory=list)


def separate(
    inputs: Sequence[str | Path],
    out: Path,
    *,
    files_from: str = "",
    null: bool = False,
    model: str = "default",
    channels: str = "linked",
    rest: str = "share",
    residual: bool = False,
    sources: str = "all",
    keep: str = "",
    name: str = "{stem}_{i}",
    form: str = "wav",
    subtype: str = "",
    clip: str = "gain",
    report: bool = False,
    figure: str = "",
    chunk_s: float = 0.0,
    device: str = "auto",
    threads: int = 0,
    overwrite: bool = False,
    resume: bool = True,
    shard: str = "",
    fail_fast: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    done: Callable[[Record], None] = lambda record: None,
    say: Callable[[str], None] = lambda line: None,
) -> Done:
    """Separate sound files, folders and patterns into the folder `out`; the options are those of `usep separate`.

    `done` is told of every file at once, `say` what a user should know; quiet leaves the notes and not the warnings.
    PartialFailure if some files failed, the file's own fault if it was the only one.
    """
    if residual and rest == "leave":
        raise UsageError("--residual: writes the rest that --rest leave leaves out; give one of them")
    form, subtype, figure = form.lower().lstrip("."), subtype.upper(), figure.lower().lstrip(".")
    pages = _Pages(out, report, figure, overwrite)
    wish = Wish(How(channels, "source" if residual else rest), sources, clip)
    share = shards.parse(shard)
    jobs.check_template(name)
    texts = _inputs([str(text) for text in inputs], files_from, null, bool(shard))
    with ExitStack() as stack:
        ending = stack.enter_context(Ending())
        stdin = None
        if "-" in texts:
            stdin = Path("stdin") if dry_run else stack.enter_context(spooled(sys.stdin.buffer))
        found = jobs.find_sources(texts, out, stdin, made(out))
        for source in found:
            check_codecs(source.path)
        maker = _Maker(model, device, threads, chunk_s)
        names = jobs.choose(names_of(maker.n_src, wish.how), keep)
        plan = jobs.lay_out(found, out, names, name=name, form=form, subtype=subtype)
        pages.begin(plan)
        facts = batch.settings(model, maker.chunk_s, wish, names, name, form, subtype)
        wish = replace(wish, settings=batch.fingerprint(facts))
        run = _Run(
            maker, found, share.of(plan) if share else plan, facts, wish, pages, Ledger(out, share),
            resume, overwrite, fail_fast, quiet, ending, done, say,
        )  # fmt: skip
        return run.listing() if dry_run else run.go()


def _inputs(inputs: Sequence[str], files_from: str, null: bool, shared: bool) -> list[str]:
    """Return all inputs, those of --files-from behind the others; UsageError for what does not go together."""
    texts = list(inputs)
    if null and not files_from:
        raise UsageError("-0: says how --files-from LIST is read; name a list, or leave -0 out")
    once = UsageError("-: standard input can be read once; name it once, as sound or as --files-from -")
    if "-" in texts and files_from == "-":
        raise once  # before it is read
    if files_from == "-":
        texts += jobs.read_list(sys.stdin.buffer.read(), null)
    elif files_from:
        try:
            texts += jobs.read_list(Path(files_from).read_bytes(), null)
        except OSError as fault:
            raise InputNotFound(f"{files_from}: cannot be read: {fault.strerror}; name a list of paths") from fault
    if texts.count("-") > 1 or ("-" in texts and files_from == "-"):
        raise once
    if "-" in texts and shared:
        raise UsageError("--shard: shares files by name, and standard input has none; leave one of them out")
    if not texts:
        where = f"{files_from or 'standard input'}: no path in this list" if files_from else "no input"
        raise UsageError(f"{where}; name sound files, folders, quoted patterns, or - for standard input")
    return texts


class _Maker:
    """The model by what its card says of it; it is loaded when something is to be separated."""

    def __init__(self, ref: str, device: str, threads: int, chunk_s: float) -> None:
        devices.check(device)
        if chunk_s:
            check_chunk(chunk_s)
        self.ref, self.device, self.threads, self._chunk_s = ref, device, threads, chunk_s
        self.card = cards.read_card(reach.find_model(ref))[0]

    @property
    def n_src(self) -> int:
        """The number of outputs; UsageError for a model that separates what it is asked for."""
        if not self.card.n_src and self.separator.by_query:
            raise UsageError(
                f"--model {self.ref}: separates what it is asked for in words; from Python: "
                "Separator.load(...).ask(['rain', 'a dog']), or fix the words with usep export --query"
            )
        return self.card.n_src or self.separator.n_src

    @cached_property
    def chunk_s(self) -> float:
        """Seconds of a chunk: the same whether the model is loaded or not, since outputs are told apart by it."""
        cost = cards.cost(self.card)
        if self._chunk_s:
            return self._chunk_s
        if cost is None or not self.card.sample_rate:
            return self.separator.chunk_s
        return default_chunk_s(self.card.segment_s, (cost.receptive_field_samples or 0) / self.card.sample_rate)

    @cached_property
    def separator(self) -> Separator:
        """The loaded model."""
        from usepcli.separator.separator import Separator

        # Where the chunk was settled by the card it holds, whatever the model would say.
        return Separator.load(self.ref, self.device, self.threads, self.__dict__.get("chunk_s", self._chunk_s))


class _Late:
    """Stands for the separator until it is asked for something: a file that is not there takes no model."""

    def __init__(self, maker: _Maker) -> None:
        self._maker = maker

    def __getattr__(self, name: str) -> Any:
        return getattr(self._maker.separator, name)


class _Pages:
    """The pages and pictures of recordings, as far as they are wanted."""

    def __init__(self, out: Path, report: bool, figure: str, overwrite: bool) -> None:
        self.out, self.report, self.figure, self.overwrite = out, report, figure, overwrite
        self.alone = True
        if figure:
            from usepcli.engine.separation.report_files import check_figures

            check_figures(figure)

    def begin(self, plan: Sequence[Job]) -> None:
        """Take note of what is to be separated; OutputError where two recordings would have one page."""
        self.alone = len(plan) == 1
        taken: dict[str, Job] = {}
        for job in plan:
            for path in self.of(job):
                other = taken.setdefault(str(path).casefold(), job)
                if other is not job:
                    raise OutputError(
                        f"{show(path)}: would be made for both {show(other.file)} and {show(job.file)}; rename one, or "
                        "leave --report and --figure out"
                    )

    def of(self, one: Record | Job) -> list[Path]:
        """Return where the page and the picture of a recording go."""
        if not (self.report or self.figure):
            return []
        from usepcli.engine.separation import report_files

        page = [report_files.report_path(one, self.out, self.alone)] if self.report else []
        return [*page, *([report_files.figure_path(one, self.out, self.figure)] if self.figure else [])]

    def check(self, several: Sequence[Job | Record]) -> None:
        """Raise OutputError before any work where something else stands under the name of a page."""
        if not (self.report or self.figure):
            return
        from usepcli.engine.separation import report_files

        index = [self.out / "report.html"] if self.report else []
        for path in [*index, *(path for one in several for path in self.of(one))]:
            report_files.check_replaceable(path, self.overwrite)


@dataclass
class _Run:
    """One call: the model, the settings, and what came of it so far."""

    maker: _Maker
    sources: list[Source]
    plan: list[Job]
    settings: dict[str, Any]
    wish: Wish
    pages: _Pages
    ledger: Ledger
    resume: bool
    overwrite: bool
    fail_fast: bool
    quiet: bool
    ending: Ending
    done: Callable[[Record], None]
    say: Callable[[str], None]
    faults: list[UsepError] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    def go(self) -> Done:
        """Separate what is not done, and raise what went wrong."""
        if not self.ledger.out.exists() and any(job.source.exists() for job in self.plan):
            _ = self.maker.separator  # a model that cannot be loaded leaves no folder behind
        with self.ledger:
            self._separate(self._triage())
        if self.faults and len(self.plan) == 1:
            raise self.faults[0]
        if self.faults:
            failed = f"{len(self.faults)} of {len(self.plan)} files failed (errors.csv)"
            raise PartialFailure(f"{failed}; the others are done, and the same command tries the failed ones again")
        return Done(records=self.records)

    def listing(self) -> Done:
        """Return what would be done, and write nothing."""
        self.ledger.read()
        done = {record.file for record in self._triage().done}
        return Done(
            planned=[
                {"file": job.file, "outputs": [str(path) for path in job.outputs], "done": job.file in done}
                for job in self.plan
            ]
        )

    def _triage(self) -> Triage:
        return batch.triage(
            self.ledger, self.plan, self.wish.settings, self.sources, resume=self.resume, overwrite=self.overwrite
        )

    def _separate(self, found: Triage) -> None:
        said = Notes(self.say, self.wish.how.rest, self.quiet)
        said.skipped(len(found.done), len(self.plan))
        bare = [record for record in found.done if not all(path.is_file() for path in self.pages.of(record))]
        self.pages.check([*found.todo, *bare])
        for record in found.done:
            self.ledger.settle(record.file)
            self._result(record)
        for record in self.ledger.joined(bare):  # the sound is there: pages alone take no model
            self._show(record)
            self.ending.check()
        self._rest(found, said)
        if self.pages.report and not self.pages.alone and not self.ledger.shard:
            self._index()

    def _rest(self, found: Triage, said: Notes) -> None:
        separator = cast("Separator", _Late(self.maker))
        wish = replace(self.wish, replace=lambda path: self.overwrite or path in found.ours)
        for record in batch.run(separator, found.todo, self.ledger, wish, watch=self._watch, failed=self._failed):
            said.file(record, separator.rate)
            self._show(record)
            self._result(record)
            self.ending.check()

    def _result(self, record: Record) -> None:
        self.records.append(record)
        self.done(record)  # at once: a batch may run for days

    def _failed(self, job: Job, fault: UsepError) -> None:
        if self.fail_fast:
            raise fault
        self.faults.append(fault)
        if len(self.plan) > 1:
            self.say(f"usep: error: {fault}")

    def _watch(self, blocks: Iterable[Any], total: int, name: str) -> Iterator[Any]:
        from usepcli.report.progress import progress

        for block in progress(blocks, total, desc=name, unit="block", quiet=self.quiet):
            self.ending.check()
            yield block

    def _show(self, record: Record) -> None:
        """Make the page and the picture; one that fails is a fault of its file, whose sources stay."""
        try:
            if self.pages.report:
                self._page(record)
            if self.pages.figure:
                self._figure(record)
        except Exception as error:
            fault = guard.fault(error, record.file)
            if self.fail_fast:
                raise fault from error
            self.faults.append(fault)
            if len(self.plan) > 1:
                self.say(f"usep: error: {fault}")

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

    def _index(self) -> None:
        from usepcli.engine.separation import report_files

        path = report_files.write_index(
            self.ledger.joined(self.records), self.ledger.out, self.settings, failures=self.ledger.failures(),
            overwrite=self.overwrite,
        )  # fmt: skip
        if not self.quiet:
            self.say(f"report: {path}")
