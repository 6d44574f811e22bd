"""Tables of mixtures (manifest.csv) and of single utterances (pool.csv), with the root of their paths.

What a model may be asked for stands beside the sounds: `queries`, one for each source and joined by ';' as they are,
`caption`, the whole mixture in words, and `phrases` of the caption, joined by ';', each with '|' and its weight unless
that is 1. `text` is what was said, `label` what kind of item it is, `condition` closed or open: known talkers or not.
`activity` names an RTTM file that says who speaks when, from the beginning of the mixture's file (data/rttm.py).
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar
from weakref import WeakValueDictionary

import numpy as np

from usepcli.audio import tars
from usepcli.data import lazy, sheet
from usepcli.data.columns import Column, Lists, Names, Numbers, Phrases
from usepcli.data.rows import check_last
from usepcli.data.sources import Sources
from usepcli.errors import BadInput, InputNotFound, did_you_mean
from usepcli.files import read_json, write_text

COLUMNS = (
    "id", "split", "mixture", "sources", "noise", "sample_rate", "frames", "n_src", "speakers", "text",
    "label", "origin", "licence",
)  # fmt: skip
POOL_COLUMNS = ("id", "split", "speaker", "path", "sample_rate", "frames", "origin", "licence")
# Columns that a file has only where one of its rows uses them.
WORDS, POOL_WORDS = ("queries", "caption", "phrases", "start", "condition", "activity"), ("query",)
_NONE = ("", (), None)  # an unused one
RECORDS = ("prepare.json", "remix.json")  # what made a folder, by the command
_INTS = frozenset({"sample_rate", "frames", "n_src", "start"})
_LISTS = frozenset({"sources", "speakers"})
_PATHS = frozenset({"path", "mixture", "noise", "activity"})
# What is looked at in every row before the first is used.
_KINDS: dict[str, type[Column]] = {
    **dict.fromkeys(_INTS, Numbers), **dict.fromkeys(_LISTS, Lists), "phrases": Phrases, "split": Names,
}  # fmt: skip


class Phrase(NamedTuple):
    """A part of a caption that names one source, and the weight of what is separated by it in the sum of all."""

    text: str
    weight: float = 1.0


class _Shown:
    """Shows a row as before words came in where it has none: digests of data are taken over this text."""

    def __repr__(self) -> str:
        named = [(item.name, getattr(self, item.name)) for item in fields(self)]  # type: ignore[arg-type]
        shown = [f"{n}={value!r}" for n, value in named if value not in _NONE or n not in (*WORDS, *POOL_WORDS)]
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, repr=False)
class Row(_Shown):
    """One mixture of `frames` samples; paths are relative to the manifest's root, and '' when absent.

    start: the first sample, at `sample_rate`, where the item is a stretch of its files; None for whole files.
    """

    id: str
    split: str = ""
    mixture: str = ""
    sources: tuple[str, ...] = ()
    noise: str = ""
    sample_rate: int = 0
    frames: int = 0
    n_src: int = 0
    speakers: tuple[str, ...] = ()
    text: str = ""
    label: str = ""
    origin: str = ""
    licence: str = ""
    queries: tuple[str, ...] = ()
    caption: str = ""
    phrases: tuple[Phrase, ...] = ()
    start: int | None = None
    condition: str = ""
    activity: str = ""


@dataclass(frozen=True, repr=False)
class PoolRow(_Shown):
    """One utterance of one talker; an empty `speaker` is an unknown talker, none of the known ones.

    `query`: what a model is asked for to get it, '' where nothing is known.
    """

    id: str
    split: str = ""
    speaker: str = ""
    path: str = ""
    sample_rate: int = 0
    frames: int = 0
    origin: str = ""
    licence: str = ""
    query: str = ""


R = TypeVar("R", Row, PoolRow)
# Tables in use, so that one that is named twice, for training and validation, is read and held once.
_HELD: WeakValueDictionary[tuple[type, Path], sheet.Sheet] = WeakValueDictionary()


@dataclass
class _Table(Generic[R]):
    """Rows, the folder that their paths start from, and the CSV file that they came from or go to."""

    rows: Sequence[R]
    root: Path
    path: Path

    FILE: ClassVar[str]
    NEEDED: ClassVar[tuple[str, ...]]
    ROW: ClassVar[Any]
    COLUMNS: ClassVar[tuple[str, ...]]
    WORDS: ClassVar[tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.rows)

    def split(self, name: str) -> Self:
        """Return the rows of one split; the table may come out empty."""
        found, which = lazy.names(self.rows, "split")
        return self.some(np.flatnonzero(which == found.index(name)) if name in found else np.zeros(0, int))

    def splits(self) -> dict[str, int]:
        """Return the number of rows of each split, in order of appearance."""
        found, which = lazy.names(self.rows, "split")
        return dict(zip(found, np.bincount(which, minlength=len(found)).tolist(), strict=True))

    def some(self, places: np.ndarray) -> Self:
        """Return the table of the rows at these places, in their order."""
        return replace(self, rows=lazy.some(self.rows, places))

    @property
    def frames(self) -> np.ndarray:
        """The lengths (rows,) that the table says its items have, in samples of their own rate; 0 where unknown."""
        return lazy.numbers(self.rows, "frames")

    @property
    def rates(self) -> np.ndarray:
        """The sample rates (rows,) that the table says its items have; 0 where unknown."""
        return lazy.numbers(self.rows, "sample_rate")

    def resolve(self, relative: str) -> Path:
        """Return the place on disk of a path in this table."""
        return tars.located(self.root, home(relative), self.path.parent)

    @classmethod
    def read(cls, place: str | os.PathLike[str]) -> Self:
        """Read a CSV file, or the standard one in a folder; InputNotFound, or BadInput for wrong columns or a cut."""
        path = Path(place)
        path = path / cls.FILE if path.is_dir() else path
        if not path.is_file():
            folder = path.parent if path.suffix else path
            raise InputNotFound(f"{path}: no such file or folder; make one with `usep prepare-data SOURCE -o {folder}`")
        record = _record(path)
        rows = cls._rows(path)
        _check_whole(path, rows, (record.get("tables") or {}).get(path.name))
        return cls(rows, _rooted(path, record), path)

    @classmethod
    def _rows(cls, path: Path) -> lazy.Lazy[R]:
        """Return the rows of a file, in every one of which all numbers and lists are what they should be."""
        key = cls, path.resolve()
        if (table := _HELD.get(key)) is None or not table.text.same(path):
            table = sheet.read(path, _KINDS)
            _check_columns(path, table.columns, cls.NEEDED, (*cls.COLUMNS, *cls.WORDS))
            _check_rows(lazy.Lazy(table, partial(_parse, cls.ROW, path, _plan(cls.ROW, table.columns))))
            _HELD[key] = table
        return lazy.Lazy(table, partial(_parse, cls.ROW, path, _plan(cls.ROW, table.columns)))

    @property
    def extent(self) -> dict[str, Any]:
        """What a record beside the table says of it, so that a reader can tell whether rows are missing at its end."""
        return {"rows": len(self.rows), "last": self.rows[-1].id if self.rows else ""}

    def write(self, path: str | os.PathLike[str] = "") -> None:
        """Write the CSV in one step (UTF-8, columns in one order) to `path`, or to where it came from."""
        used: list[str] = [name for name in self.WORDS if any(getattr(row, name) not in _NONE for row in self.rows)]
        columns = (*self.COLUMNS, *used)
        cells = ([_cell(getattr(row, name)) for name in columns] for row in self.rows)
        write_rows(Path(path or self.path), columns, cells)


@dataclass
class Manifest(_Table[Row]):
    """A table of mixtures."""

    FILE, NEEDED, ROW, COLUMNS = "manifest.csv", ("id", "mixture", "sample_rate", "frames"), Row, COLUMNS
    WORDS = WORDS


@dataclass
class Pool(_Table[PoolRow]):
    """A table of single utterances for dynamic mixing; of the paths in `sums` it knows only how long their sum is."""

    sums: frozenset[str] = frozenset()

    FILE, NEEDED, ROW, COLUMNS = "pool.csv", ("id", "path", "sample_rate", "frames"), PoolRow, POOL_COLUMNS
    WORDS = POOL_WORDS

    @classmethod
    def read(cls, place: str | os.PathLike[str]) -> Self:
        """Read a pool; of a manifest.csv that is named as a file, the sources of its mixtures are the utterances.

        So a set of fixed mixtures is mixed afresh from its own training sources, and from nothing that it is validated
        on. Errors as for any table; BadInput for a manifest without sources.
        """
        if Path(place).name != Manifest.FILE:
            return super().read(place)
        listed = Manifest.read(place)
        rows = Sources(listed.rows, _utterances, {"speaker": "speakers", "path": "sources", "query": "queries"})
        if not rows:
            raise BadInput(f"{listed.path}: lists no sources, so none can be mixed afresh; name a pool.csv")
        for row in lazy.some(listed.rows, np.flatnonzero(lazy.given(listed.rows, "start"))):
            if row.sources and row.start is not None:
                raise BadInput(f"{row.id}: a stretch of its files; only the sources of whole files can be mixed afresh")
        bare = lazy.some(listed.rows, np.flatnonzero(~lazy.given(listed.rows, "mixture")))
        return cls(rows, listed.root, listed.path, frozenset(path for row in bare for path in row.sources))


def _utterances(row: Row) -> list[PoolRow]:
    names = row.speakers if len(row.speakers) == len(row.sources) else [""] * len(row.sources)
    queries = row.queries if len(row.queries) == len(row.sources) else [""] * len(row.sources)
    facts = row.sample_rate, row.frames, row.origin, row.licence
    each = enumerate(zip(names, row.sources, queries, strict=True), 1)
    return [PoolRow(f"{row.id}/{k}", row.split, name, path, *facts, query) for k, (name, path, query) in each]


def twice(rows: Iterable[Row]) -> str:
    """Return the first id that two rows have, '' where there is none."""
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            return row.id
        seen.add(row.id)
    return ""


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Replace a CSV file (UTF-8, one header line) in one step; errors as for `write_text`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def home(path: str) -> str:
    """Return a path of a list with ~ written out."""
    return os.path.expanduser(path) if path.startswith("~/") else path


def root_of(path: Path) -> Path:
    """Return the folder that the paths of a table count from; BadInput for a record that cannot be read."""
    return _rooted(path, _record(path))


def _rooted(path: Path, record: dict[str, Any]) -> Path:
    root = str(record.get("root") or "")
    return (path.parent / os.path.expanduser(root)).resolve() if root else path.parent


def _record(path: Path) -> dict[str, Any]:
    """Return what stands beside a table of what made it: the root of its paths, and the rows of each table."""
    for name in RECORDS:
        record = path.parent / name
        if not record.is_file():
            continue
        try:
            found: Any = read_json(record, errors="surrogateescape")
        except ValueError as err:
            raise BadInput(f"{record}: not JSON ({err}); run `usep prepare-data` again") from err
        return found if isinstance(found, dict) else {}
    return {}


def _check_rows(rows: lazy.Lazy[Any]) -> None:
    """BadInput for the first row that is wrong."""
    n_src, n_found = lazy.numbers(rows, "n_src"), lazy.counts(rows, "sources")
    lazy.settle(rows, np.flatnonzero((n_src != n_found) & (n_src != 0)))


def _check_whole(path: Path, rows: lazy.Lazy[Any], written: Any) -> None:
    """BadInput where rows are missing at the end of a table, by its own looks or by the record of what was written."""
    table = rows.sheet
    where, last = f"{path}:{table.lines[-1] if len(rows) else 1}", rows[-1].id if len(rows) else ""
    if not table.ended:
        counts = lazy.counts(rows, "sources").tolist() if "mixture" in table.columns else []
        splits = [row.split for row in rows] if table.columns[-1:] == ["split"] else []
        check_last(where, counts, splits, table.ended)
    if not isinstance(written, dict):
        return
    short = len(rows) < int(written.get("rows") or 0) and last != written.get("last")
    if short or not table.ended:
        raise BadInput(
            f"{where}: {len(rows)} rows, the last is '{last}'; usep wrote {written.get('rows')}, the last was "
            f"'{written.get('last')}'{'' if table.ended else ' and its line had an end'}; the table is cut short: make "
            "it again, or if you took rows out yourself, give it another name and name it"
        )


def _check_columns(path: Path, found: Sequence[str], needed: Iterable[str], known: Iterable[str]) -> None:
    missing = [name for name in needed if name not in found]
    if missing:
        near = did_you_mean(missing[0], [name for name in found if name not in set(known)] or [""])
        raise BadInput(f"{path}: no column '{missing[0]}'{near}; expected columns: {','.join(known)}")


def _plan(kind: type[R], columns: Sequence[str]) -> list[tuple[str, int]]:
    """Return the fields of a row, and in which column of a table each stands; -1 for none."""
    return [(field.name, columns.index(field.name) if field.name in columns else -1) for field in fields(kind)]


def _parse(kind: type[R], path: Path, plan: Sequence[tuple[str, int]], cells: list[str], line: int) -> R:
    values: list[Any] = []
    for name, place in plan:
        text = cells[place] if place >= 0 else ""
        if name in _INTS:
            values.append(_whole(text, path, line, name))
        elif name in _PATHS:
            values.append(home(text))
        elif name in _LISTS:
            values.append(read_list(text, f"{path}:{line}: {name}") if text else ())
        elif name == "queries":
            values.append(read_queries(text))
        elif name == "phrases":
            values.append(read_phrases(text, f"{path}:{line}") if text else ())
        else:
            values.append(text)
    found = kind(*values)
    if isinstance(found, Row) and found.sources and found.n_src and len(found.sources) != found.n_src:
        raise BadInput(
            f"{path}:{line}: {len(found.sources)} sources where n_src says {found.n_src}; complete or correct the row"
        )
    return found


def _whole(text: str, path: Path, line: int, name: str) -> int | None:
    if name == "start" and not text.strip():
        return None
    try:
        return int(np.int64(int(text or 0)))  # it holds no larger ones, and a sound has no more samples
    except (ValueError, OverflowError) as err:
        raise BadInput(f"{path}:{line}: {name} is '{text}', a whole number was expected") from err


def read_list(text: str, where: str) -> tuple[str, ...]:
    """Return the names that a cell joins by ';'; BadInput for an empty one among them."""
    parts = tuple(part.strip() for part in text.split(";")) if text.strip() else ()
    if not all(parts):
        raise BadInput(f"{where} '{text}': nothing between or behind ';'; complete the list")
    return parts


def read_queries(text: str) -> tuple[str, ...]:
    """Return the queries that a cell joins by ';', an empty one for a source that has none."""
    return tuple(part.strip() for part in text.split(";")) if text.strip() else ()


def read_phrases(text: str, where: str) -> tuple[Phrase, ...]:
    """Return the phrases that a cell joins by ';', each `words` or `words|weight`; BadInput for other weights."""
    found = []
    for part in text.split(";") if text.strip() else ():
        words, mark, weight = part.partition("|")
        try:
            phrase = Phrase(words.strip(), float(weight) if mark else 1.0)
        except ValueError:
            phrase = Phrase("")
        if not phrase.text or not 0 < phrase.weight < math.inf:
            raise BadInput(f"{where}: phrase '{part}'; words, or words|weight with a weight above 0, were expected")
        found.append(phrase)
    return tuple(found)


def _cell(value: object) -> str:
    if not isinstance(value, tuple):
        return "" if value is None else str(value)
    parts = [part.text if isinstance(part, Phrase) else part for part in value]
    if any(";" in part for part in parts):
        raise BadInput(f"{';'.join(parts)}: a name holds ';', which separates the sources; rename it")
    if any(isinstance(part, Phrase) and "|" in part.text for part in value):
        raise BadInput(f"{';'.join(parts)}: a phrase holds '|', which separates its weight; write it without")
    weights = [f"|{part.weight!r}" if isinstance(part, Phrase) and part.weight != 1 else "" for part in value]
    return ";".join(part + weight for part, weight in zip(parts, weights, strict=True))
