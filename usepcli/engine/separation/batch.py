"""A batch of files: what its settings are, which files are done, and the run over the others with its tables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usepcli.engine.separation.jobs import Job, Source, refuse_outputs
from usepcli.engine.separation.ledger import Ledger
from usepcli.engine.separation.record import Record
from usepcli.engine.separation.separate_files import Wish, separate_files
from usepcli.errors import UsepError
from usepcli.weights import cards, reach

if TYPE_CHECKING:
    from usepcli.separator.separator import Separator, Watch

ALGORITHM = 1  # goes up when the same settings give other samples


def settings(
    model: str | Path, chunk_s: float, wish: Wish, names: Sequence[str], name: str, form: str, subtype: str
) -> dict[str, Any]:
    """Return all that changes what is written: not the device, not the number of threads."""
    card, weights = cards.read_card(reach.find_model(model))
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
    }


def fingerprint(facts: dict[str, Any]) -> str:
    """Return a short hash of settings: runs with the same one write the same samples."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass
class Triage:
    """The records of what is done, the jobs that are left, and which existing outputs these may replace."""

    done: list[Record] = field(default_factory=list)
    todo: list[Job] = field(default_factory=list)
    ours: set[Path] = field(default_factory=set)


def triage(
    ledger: Ledger, jobs: Sequence[Job], key: str, sources: Sequence[Source], *, resume: bool = True,
    overwrite: bool = False,
) -> Triage:  # fmt: skip
    """Tell what is done from what is left; OutputError where an output of the latter exists and is not ours."""
    found = Triage()
    for job in jobs:
        record = ledger.done(job, key) if resume else None
        if record is not None:
            found.done.append(record)
            continue
        found.todo.append(job)
        if resume:
            found.ours |= ledger.ours(job, key)
    refuse_outputs(
        found.todo, overwrite, [source.path for source in sources], found.ours, lambda path: ledger.why(path, key)
    )
    return found


def run(
    separator: Separator, jobs: Sequence[Job], ledger: Ledger, wish: Wish, *, watch: Watch | None = None,
    failed: Callable[[Job, UsepError], None],
) -> Iterator[Record]:  # fmt: skip
    """Separate files one after the other, and keep the tables; yield a record per file, report what fails.

    The ledger has to be held (`with ledger`). IOFault, also of the tables, ends the run.
    """

    def broken(job: Job, fault: UsepError) -> None:
        ledger.fail(job, fault)
        failed(job, fault)

    for job in jobs:
        ledger.begin(job)
        try:
            records = list(separate_files(separator, [job], wish, watch=watch, failed=broken))
        except BaseException:
            ledger.end(job)  # its outputs were taken back
            raise
        for record in records:
            ledger.add(record)
        ledger.end(job)
        yield from records
