"""CSV logs and results that survive a crash, and the few statistics that stand in them.

Cells: `nan` for a number that could not be computed, empty for one that does not apply, 1 and 0 for
true and false, floats with the shortest digits that read back to the same bits. Bytes of names that are no UTF-8
stand in logs as they are.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from usepcli.data.rows import read as read_table
from usepcli.errors import BadInput, InputNotFound, IOFault
from usepcli.files import show, write_text
from usepcli.report import layout

Line = Mapping[str, Any]  # a row of any table; data.manifest.Row is a mixture
Cells = dict[str, str]  # a row as it was read
Scores = dict[str, Any]  # a row that is being filled


class Summary(NamedTuple):
    """Mean, median and the 95 % interval of the mean over n finite values; nan where n is too small."""

    mean: float
    median: float
    ci95_low: float
    ci95_high: float
    n: int


def cell(value: Any) -> str:
    """Return one value as CSV text."""
    if value is None:
        return ""
    if hasattr(value, "item"):  # numpy and torch scalars print their type otherwise
        value = value.item()
    if isinstance(value, bool):
        return "1" if value else "0"
    return repr(value) if isinstance(value, float) else str(value)


def append_row(path: str | Path, row: Line) -> None:
    """Add one row to a log as `append` does, under new columns where the table does not have them yet."""
    path = Path(path)
    with _adding(path):
        columns = _header(path)
    added = [name for name in row if name not in columns]
    if columns and added:
        write_csv(path, [*load(path), row], [*columns, *added])
    else:
        append(path, [row], columns or added)


def append(path: Path, rows: Iterable[Line], columns: Sequence[str]) -> None:
    """Add rows and force them to the disk, all or none; IOFault on a full disk leaves the table as it was.

    The header is written once. A torn last line (the process was killed while writing) is cut off first.
    """
    lines = [_line([cell(row.get(name)) for name in columns]) for row in rows]
    if not lines:
        return
    with _adding(path):
        head = [] if _header(path) else [_line(columns)]
        with open(path, "ab", buffering=0) as file:
            before = file.tell()
            data = memoryview("".join([*head, *lines]).encode("utf-8", "surrogateescape"))
            try:
                while data:
                    data = data[file.write(data) :]
                os.fsync(file.fileno())
            except OSError:
                os.truncate(path, before)
                raise


@contextmanager
def _adding(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise IOFault(
            f"{show(path)}: cannot add rows: {fault.strerror or fault}; free some space and run again"
        ) from fault


def save(path: Path, rows: Iterable[Line], columns: Sequence[str]) -> None:
    """Replace a log in one step; without rows, remove it."""
    if rows := list(rows):
        write_csv(path, rows, columns)
    else:
        path.unlink(missing_ok=True)


def cut(path: Path, end: int) -> None:
    """Keep the first `end` bytes of a log, and remove one of which nothing is kept; IOFault where that fails."""
    try:
        if not end:
            path.unlink(missing_ok=True)
        elif end < path.stat().st_size:
            with path.open("rb+") as file:
                file.truncate(end)
                os.fsync(file.fileno())
    except OSError as fault:
        raise IOFault(
            f"{show(path)}: cannot be cut: {fault.strerror or fault}; check the folder and run again"
        ) from fault


def write_csv(path: str | Path, rows: Sequence[Line], columns: Sequence[str] = ()) -> None:
    """Write rows at once (new file, fsync, rename), replacing `path`; IOFault leaves the old file alone.

    columns: their order; by default the union of the rows' keys in order of appearance.
    """
    columns = list(columns) or list(dict.fromkeys(name for row in rows for name in row))
    lines = [_line(columns), *(_line([cell(row.get(name)) for name in columns]) for row in rows)]
    write_text(Path(path), "".join(lines))


def load(
    path: Path, columns: Sequence[str] = (), strict: bool = False, keep: Callable[[Cells], bool] | None = None
) -> list[Cells]:
    """Return the whole rows of a log, none if it is absent; BadInput for a table without some of `columns`.

    A row that a kill cut short is left out; strict: only the last can be such a row.  keep: which rows are wanted.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return list(filter(keep, _rows(path, file, columns, strict)))
    except FileNotFoundError:
        return []
    except OSError as fault:
        raise IOFault(f"{show(path)}: cannot be read: {fault.strerror}; check the folder and run again") from fault
    except csv.Error as fault:
        raise BadInput(f"{show(path)}: no CSV table ({fault}); move it away and run again") from fault


def _rows(path: Path, file: TextIO, columns: Sequence[str], strict: bool) -> Iterator[Cells]:
    lines = csv.reader(_ended(file))
    head = next(lines, None)
    if head is None:
        return
    if missing := [name for name in columns if name not in head]:
        raise BadInput(
            f"{show(path)}: found no column '{missing[0]}'; expected a table that usep wrote, move it and run again"
        )
    odd, cells = 0, 0  # the line of a row that is cut, and what is left of it
    for n, line in enumerate(lines, 2):
        if odd and strict:
            raise BadInput(
                f"{show(path)}:{odd}: {cells} cells, {len(head)} were expected; mend the table, or move it away, and "
                "run again"
            )
        if len(line) == len(head):
            yield dict(zip(head, line, strict=True))
        elif not odd:
            odd, cells = n, len(line)


def _ended(file: TextIO) -> Iterator[str]:
    """Yield the lines of a text up to its last line feed: without its last character a row may look whole."""
    held: list[str] = []
    for line in file:
        held.append(line)
        if line.endswith("\n"):
            yield from held
            held.clear()


def read_csv(path: str | Path, own: bool = False) -> list[Cells]:
    """Return the rows of a CSV file as text; InputNotFound when absent, BadInput when it is no CSV text or was cut.

    own: a table that usep wrote (data/rows.py).
    """
    path = Path(path)
    try:
        return read_table(path, own, errors="strict").rows
    except FileNotFoundError as fault:
        raise InputNotFound(f"{path}: no such table") from fault


def _line(cells: Sequence[str]) -> str:
    buffer = io.StringIO()
    # The writer leaves a bare carriage return unquoted, and the reader takes it for the end of a line.
    all_of_them = any("\r" in text for text in cells)
    csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL if all_of_them else csv.QUOTE_MINIMAL).writerow(cells)
    return buffer.getvalue()


def _header(path: Path) -> list[str]:
    """Return the columns of an existing log ([] for none) after cutting off a torn last line."""
    if not path.exists() or path.stat().st_size == 0:
        return []
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
        file.seek(0)
        return next(csv.reader([file.readline().decode("utf-8", "surrogateescape")]), [])


# Columns of sentences, which may go on below where a table is too wide for the screen.
PROSE = ("reason", "condition", "where", "note")


def render(rows: Sequence[Line], columns: Sequence[str] = (), digits: int = 2) -> str:
    """Return a text table: names left, numbers right with `digits` decimals, `-` for what is missing."""
    columns = list(columns) or list(dict.fromkeys(name for row in rows for name in row))
    body = [[_shown(row.get(name), digits) for name in columns] for row in rows]
    right = [bool(rows) and all(_is_number(row.get(name)) for row in rows) for name in columns]
    return "\n".join(layout.table([columns, *body], right, wrap=[columns.index(n) for n in PROSE if n in columns]))


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _shown(value: Any, digits: int) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def number(cell: Any) -> float:
    """Return a cell of a table as a number, nan for an empty one; 0 is a number."""
    return math.nan if cell in ("", None) else float(cell)


def summarise(values: Iterable[float], groups: Iterable[str] | None = None) -> Summary:
    """Return mean, median and a 95 % Student t interval of the mean over the finite values.

    groups: one key per value.  The sources of one mixture are not independent of each other, so the variance
    of the mean comes from the sums of residuals per group (Liang & Zeger 1986, with the factor C/(C-1));
    for groups of one, and for groups of equal size, that is the textbook t interval of the group means.
    """
    from usepcli.report import stats  # with numpy, which tables of text do without

    given = [float(value) for value in values]
    keys = list(groups) if groups is not None else [str(i) for i in range(len(given))]
    pairs = [(v, k) for v, k in zip(given, keys, strict=True) if math.isfinite(v)]
    n = len(pairs)
    if n == 0:
        return Summary(math.nan, math.nan, math.nan, math.nan, 0)
    ordered = sorted(v for v, _ in pairs)
    mean = math.fsum(ordered) / n
    median = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    residual: dict[str, float] = {}
    for value, key in pairs:
        residual[key] = residual.get(key, 0.0) + value - mean
    clusters = len(residual)
    if clusters < 2:
        return Summary(mean, median, math.nan, math.nan, n)
    error = math.sqrt(clusters / (clusters - 1) * math.fsum(r * r for r in residual.values())) / n
    half = stats.t95(clusters - 1) * error
    return Summary(mean, median, mean - half, mean + half, n)
