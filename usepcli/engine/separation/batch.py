"""A batch of files: what its settings are, which files are done, and the run over the others with its tables."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usepcli import guard
from usepcli.audio import io
from usepcli.engine.separation.jobs import FileId, Job, identity, refuse_existing, refuse_outputs, refuse_rival, rivals
from usepcli.engine.separation.ledger import Ledger
from usepcli.engine.separation.record import Record
from usepcli.engine.separation.separate_files import Wish, separate_files
from usepcli.engine.separation.source import Source
from usepcli.errors import UsepError
from usepcli.separator import engines
from usepcli.separator.how import How
from usepcli.separator.words import NOTHING, Asked
from usepcli.weights import ensembles

if TYPE_CHECKING:
    from usepcli.separator.separator import Separator, Watch

ALGORITHM = 1  # goes up when the same settings give other samples


def settings(
    model: str | Path, chunk_s: float, wish: Wish, names: Sequence[str], name: str, form: str, subtype: str,
    asked: Asked = NOTHING, engine: str = engines.TORCH,
) -> dict[str, Any]:  # fmt: skip
    """Return all that changes what is written: not the device, not the number of threads."""
    _, card, weights = ensembles.find(model)
    usual = How()  # what was not asked for does not tell outputs from earlier ones
    more = {name: getattr(wish.how, name) for name in ("overlap", "shifts", "speeds", "track", "two_stems")}
    more = {name: value for name, value in more.items() if value != getattr(usual, name)}
    return {
        "model": card.name,
        "weights": weights,
        "channels": wish.how.channels,
        "rest": wish.how.rest,
        "chunk_s": chunk_s,
        "sources": wish.sources,
        "keep": list(names),
        "clip": wish.clip,
        "name": name,
        "format": form,
        "subtype": subtype,
        "algorithm": ALGORITHM,
        **more,
        **asked.settings(),
        **({"always": True} if wish.always else {}),
        **({"engine": engine} if engine != engines.TORCH else {}),
    }


def fingerprint(facts: dict[str, Any]) -> str:
    """Return a short hash of settings: runs with the same one write the same samples."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def marked(wish: Wish, facts: dict[str, Any]) -> Wish:
    """Return a wish with the hashes of its settings: of all, and of all but which sources are written."""
    method = {name: value for name, value in facts.items() if name not in ("keep", "sources")}
    return replace(wish, settings=fingerprint(facts), method=fingerprint(method))


@dataclass
class Triage:
    """The records of what is done, the jobs that are left, and which existing outputs these may replace.

    `refused` are jobs that may not be done, each with the reason: they stop no other.
    """

    done: list[Record] = field(default_factory=list)
    todo: list[Job] = field(default_factory=list)
    ours: set[Path] = field(default_factory=set)
    refused: list[tuple[Job, UsepError]] = field(default_factory=list)

    def nothing(self) -> UsepError | None:
        """Return why nothing at all can be done, None where something can or is."""
        if not self.refused or self.done or self.todo:
            return None
        first, count = self.refused[0][1], len(self.refused)
        return first if count == 1 else type(first)(f"{first} (none of the {count} files can be done)")


class _Inputs:
    """What tells the inputs from all other files; the disk is asked about them when an output is there already."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources, self._known = sources, set[FileId]()

    def __contains__(self, one: object) -> bool:
        if not self._known:
            self._known = {identity(source.text) for source in self._sources}
        return one in self._known


def triage(
    ledger: Ledger, jobs: Sequence[Job], key: str, sources: Sequence[Source], *, everyone: Sequence[Job] = (),
    resume: bool = True, overwrite: bool = False, method: str = "",
) -> Triage:  # fmt: skip
    """Tell what is done from what is left, and what may not be done: an output of it is in the way, or another's.

    `everyone` are the jobs of all shares, among which one output may be wanted twice, in the order of their files.
    """
    found, wanted = Triage(), rivals(everyone or jobs)
    inputs = _Inputs(sources)
    has = functools.cache(lambda job: resume and ledger.done(job, key) is not None)
    for job in jobs:
        try:
            record = ledger.done(job, key) if resume else None
            if record is not None:
                found.done.append(record)
                continue
            ours = ledger.ours(job, key) if resume else set()
            io.check_codecs(job.source)
            refuse_rival(job, wanted, has)
            refuse_outputs(job, overwrite, inputs, ours, lambda path: ledger.why(path, key))
            for path in ledger.ended(job, method or key):  # it would go
                refuse_existing(path, overwrite, inputs, ledger.why(path, key))
        except Exception as error:
            found.refused.append((job, guard.fault(error, job.file)))
            continue
        found.todo.append(job)
        found.ours |= ours
    return found


def run(
    separator: Separator, jobs: Iterable[Job], ledger: Ledger, wish: Wish, *, watch: Watch | None = None,
    failed: Callable[[Job, UsepError], None],
) -> Iterator[Record]:  # fmt: skip
    """Separate files one after the other, and keep the tables; yield a record per file, report what fails.

    The ledger has to be held (`with ledger`). IOFault, also of the tables, ends the run.
    """

    def broken(job: Job, fault: UsepError) -> None:
        ledger.fail([(job.file, fault)])
        failed(job, fault)

    for job in jobs:
        ledger.begin(job)
        try:
            records = list(separate_files(separator, [job], wish, watch=watch, failed=broken))
        except BaseException:
            ledger.end(job)  # its outputs were taken back
            raise
        records = [ledger.add(record) for record in records]
        ledger.end(job)
        yield from records
