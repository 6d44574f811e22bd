"""Tables of mixtures (manifest.csv) and of single utterances (pool.csv), with the root of their paths."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from usepcli.errors import BadInput, InputNotFound, did_you_mean
from usepcli.files import write_text

COLUMNS = (
    "id", "split", "mixture", "sources", "noise", "sample_rate", "frames", "n_src", "speakers", "text",
    "label", "origin", "licence",
)  # fmt: skip
POOL_COLUMNS = ("id", "split", "speaker", "path", "sample_rate", "frames", "origin", "licence")
_INTS = frozenset({"sample_rate", "frames", "n_src"})
_LISTS = frozenset({"sources", "speakers"})


@dataclass(frozen=True)
class Row:
    """One mixture of `frames` samples; paths are relative to the manifest's root, and '' when absent."""

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


@dataclass(frozen=True)
class PoolRow:
    """One utterance of one talker; an empty `speaker` is an unknown talker, none of the known ones."""

    id: str
    split: str = ""
    speaker: str = ""
    path: str = ""
    sample_rate: int = 0
    frames: int = 0
    origin: str = ""
    licence: str = ""


R = TypeVar("R", Row, PoolRow)


@dataclass
class _Table(Generic[R]):
    """Rows, the folder that their paths start from, and the CSV file that they came from or go to."""

    rows: list[R]
    root: Path
    path: Path

    FILE: ClassVar[str]
    NEEDED: ClassVar[tuple[str, ...]]
    ROW: ClassVar[Any]
    COLUMNS: ClassVar[tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.rows)

    def split(self, name: str) -> Self:
        """Return the rows of one split; the table may come out empty."""
        return replace(self, rows=[row for row in self.rows if row.split == name])

    def splits(self) -> dict[str, int]:
        """Return the number of rows of each split, in order of appearance."""
        counts: dict[str, int] = {}
        for row in self.rows:
            counts[row.split] = counts.get(row.split, 0) + 1
        return counts

    def resolve(self, relative: str) -> Path:
        """Return the place on disk of a path in this table."""
        return self.root / relative

    @classmethod
    def read(cls, place: str | os.PathLike[str]) -> Self:
        """Read a CSV file, or the standard one in a folder; InputNotFound, or BadInput for wrong columns."""
        path = Path(place)
        path = path / cls.FILE if path.is_dir() else path
        if not path.is_file():
            folder = path.parent if path.suffix else path
            raise InputNotFound(f"{path}: no such file or folder; make one with `usep prepare-data SOURCE -o {folder}`")
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file)
            _check_columns(path, reader.fieldnames or (), cls.NEEDED, cls.COLUMNS)
            rows = [_parse(cls.ROW, record, path, reader.line_num) for record in reader]
        return cls(rows, _root(path), path)

    def write(self, path: str | os.PathLike[str] = "") -> None:
        """Write the CSV in one step (UTF-8, columns in one order) to `path`, or to where it came from."""
        cells = ([_cell(getattr(row, name)) for name in self.COLUMNS] for row in self.rows)
        write_rows(Path(path or self.path), self.COLUMNS, cells)


@dataclass
class Manifest(_Table[Row]):
    """A table of mixtures."""

    FILE, NEEDED, ROW, COLUMNS = "manifest.csv", ("id", "mixture", "sample_rate", "frames"), Row, COLUMNS


@dataclass
class Pool(_Table[PoolRow]):
    """A table of single utterances for dynamic mixing."""

    FILE, NEEDED, ROW, COLUMNS = "pool.csv", ("id", "path", "sample_rate", "frames"), PoolRow, POOL_COLUMNS


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Replace a CSV file (UTF-8, one header line) in one step; errors as for `write_text`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _root(path: Path) -> Path:
    """Return the recorded root of a table's paths (prepare.json beside it), else the table's own folder."""
    record = path.parent / "prepare.json"
    if not record.is_file():
        return path.parent
    try:
        value: Any = json.loads(record.read_text(encoding="utf-8", errors="surrogateescape"))
    except ValueError as err:
        raise BadInput(f"{record}: not JSON ({err}); run `usep prepare-data` again") from err
    root = value.get("root", "") if isinstance(value, dict) else ""
    return (path.parent / root).resolve() if root else path.parent


def _check_columns(path: Path, found: Sequence[str], needed: Iterable[str], known: Iterable[str]) -> None:
    missing = [name for name in needed if name not in found]
    if missing:
        near = did_you_mean(missing[0], [name for name in found if name not in set(known)] or [""])
        raise BadInput(f"{path}: no column '{missing[0]}'{near}; expected columns: {','.join(known)}")


def _parse(kind: type[R], record: dict[str | None, Any], path: Path, line: int) -> R:
    values: dict[str, Any] = {}
    for field in fields(kind):
        text = record.get(field.name) or ""
        if field.name in _INTS:
            try:
                values[field.name] = int(text or 0)
            except ValueError as err:
                raise BadInput(f"{path}:{line}: {field.name} is '{text}', a whole number was expected") from err
        elif field.name in _LISTS:
            values[field.name] = tuple(part for part in text.split(";") if part)
        else:
            values[field.name] = text
    if None in record:
        raise BadInput(f"{path}:{line}: more cells than columns; quote values that contain a comma")
    return kind(**values)


def _cell(value: object) -> str:
    if not isinstance(value, tuple):
        return str(value)
    if any(";" in part for part in value):
        raise BadInput(f"{';'.join(value)}: a name holds ';', which separates the sources; rename the file")
    return ";".join(value)
