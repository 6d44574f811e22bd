"""What an audit has looked at so far, noted beside check.csv, so that it can be stopped and shared out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field, fields
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

from usepcli.audio import raws, tars
from usepcli.data.audit import Finding, Item, Result
from usepcli.engine.folder import Lock
from usepcli.engine.journal import Journal, Part
from usepcli.engine.shards import Shard, State
from usepcli.errors import OutputError, UsepError
from usepcli.files import show

_NAME = "check"


@dataclass
class Table:
    """The items of one list, and the different talkers (speaker, split) that it names."""

    items: Sequence[Item]
    talkers: list[tuple[str, str]] = field(default_factory=list)


class Noted:
    """Inside its `with` block: what is known of the items of tables, a part for each table.

    What was noted of an item counts as long as its files have their sizes and times.  path: of check.csv, None where
    nothing is written.  OutputError where another run is at work there, or where shares of another check have left
    their parts; an unfinished check of other settings is begun anew, and said.
    """

    def __init__(
        self,
        source: Path,
        path: Path | None,
        tables: Sequence[Table],
        share: Shard | None,
        merge: bool,
        overwrite: bool,
        say: Callable[[str], None],
    ) -> None:
        self.tables, self.overwrite, self.say = tables, overwrite, say
        self.parts = [Part() for _ in tables]
        self._journal: Journal | None = None
        if path is not None:
            self._lock = Lock(path.parent, f".{_NAME}", share.suffix if share else "")
            self._journal = Journal(path.parent, _NAME, _key(source, tables), {}, share, merge)

    def __enter__(self) -> Noted:
        if self._journal is None:
            return self
        self._lock.take()
        try:
            self._begin(self._journal)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _begin(self, journal: Journal) -> None:
        if other := journal.foreign():
            alone = not journal.share and not journal.merge and set(journal.files()) == {other[0]} == {journal.path}
            if not alone and not self.overwrite:
                raise OutputError(
                    f"{show(other[0])}: part of a check of other files, or with another --rate or --limit; finish that "
                    "one with --merge, choose another -o, or take it away with --overwrite and without --shard"
                )
            self.say(f"{show(other[0])}: of a check of other files or settings; begun anew")
            journal.discard()
        journal.open()
        self.parts = [journal.part(str(k)) for k in range(len(self.tables))]
        for table, part in zip(self.tables, self.parts, strict=True):
            for n in [n for n, value in part.done.items() if value["stamp"] != stamp(table.items[n])]:
                del part.done[n]
        if (there := sum(len(part.done) for part in self.parts)) and not (journal.share or journal.merge):
            self.say(f"{there} items were checked before, and their files are as they were")

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._journal is not None:
            self._journal.close()
            self._lock.release()

    def discard(self) -> None:
        """Take the notes away: the check is at its end."""
        if self._journal is not None:
            self._journal.discard()

    def state(self) -> State:
        """Return how much of the check is there."""
        assert self._journal is not None
        return self._journal.state("items")

    @property
    def did(self) -> int:
        """The number of items that this run looked at."""
        return sum(part.did for part in self.parts)


def as_value(result: Result) -> dict[str, Any]:
    """Return what was found in an item as plain values, with the stamp of its files."""
    return {
        "stamp": stamp(result.item), "findings": [list(astuple(one)) for one in result.findings],
        "digests": result.digests, "sum": result.sum_snr_db, "rates": result.rates,
    }  # fmt: skip


def as_result(item: Item, value: dict[str, Any]) -> Result:
    """Return what `as_value` was given."""
    found = [Finding(*one) for one in value["findings"]]
    return Result(item, found, value["digests"], value["sum"], value["rates"])


def stamp(item: Item) -> str:
    """Return what tells the files of an item from later ones under their names: sizes and times."""
    told = []
    for name in (item.whole, *item.sources, item.noise):
        try:
            told.append(str(tuple(raws.facts(tars.located(item.root, name)))) if name else "")
        except (OSError, UsepError):
            told.append("none")
    return _digest("\n".join(told))[:16]


def _key(source: Path, tables: Sequence[Table]) -> str:
    names = [one.name for one in fields(Item) if one.name != "root"]
    rows = (repr([getattr(item, name) for name in names]) for table in tables for item in chain(table.items, _END))
    found = hashlib.sha256(str(source.resolve()).encode("utf-8", "surrogateescape"))
    for row in rows:
        found.update(f"\n{row}".encode("utf-8", "surrogateescape"))
    return found.hexdigest()


_END = [Item("", "", "", 0, 0, Path())]  # stands between two tables


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
