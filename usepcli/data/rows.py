"""CSV tables with a header line, read whole or refused.

A disk that filled up or a copy that broke off leaves a table that ends too early: in a row with fewer cells than the
header names, inside a quotation, or without a line end.  What is left of such a row still looks like a row, with one
source less or a name cut short, so it is no row.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from usepcli.errors import BadInput
from usepcli.files import show

AGAIN = "copy or make it again, and where no row is missing, complete this one"


class Table(NamedTuple):
    """Columns, rows as text by column, the line (from 1) in which each ends, and whether the last line has an end."""

    columns: list[str]
    rows: list[dict[str, str]]
    lines: list[int]
    ended: bool


def read(path: Path, own: bool = False, errors: str = "surrogateescape", dialect: Mapping[str, Any] = {}) -> Table:
    """Return a table in UTF-8; BadInput where it is no CSV text or was cut short, OSError where it cannot be read.

    own: a table that usep wrote, whose last line always has an end.  dialect: further arguments of csv.reader.
    """
    text = _text(path, errors)
    columns: list[str] = []
    rows: list[dict[str, str]] = []
    lines: list[int] = []
    line = 0
    for line, cells in _cells(path, text, dialect):
        if not columns:
            columns = cells
            check_header(f"{show(path)}:{line}", columns)
            continue
        _check_width(f"{show(path)}:{line}", cells, columns)
        rows.append(dict(zip(columns, cells, strict=True)))
        lines.append(line)
    ended = not text or text.endswith(("\n", "\r"))
    if own and not ended:
        raise BadInput(f"{show(path)}:{line}: the last line has no end; the table is cut short: {AGAIN}")
    return Table(columns, rows, lines, ended)


def bare(path: Path) -> list[tuple[int, list[str]]]:
    """Return (line, cells) of every row of a table without a header line; errors as for `read`."""
    return list(_cells(path, _text(path), {}))


def _text(path: Path, errors: str = "surrogateescape") -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig", errors)
    except UnicodeDecodeError as fault:
        raise BadInput(f"{show(path)}: not a CSV table in UTF-8: {fault}") from fault
    if "\0" in text:  # a crash leaves them where a file was to grow; UTF-16 has one behind each letter
        raise BadInput(f"{show(path)}: holds NUL bytes; the table is damaged or not in UTF-8: {AGAIN}")
    return text


def _cells(path: Path, text: str, dialect: Mapping[str, Any]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line in which it ends, cells) of every row that says something."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, **dialect)
    try:
        for cells in reader:
            if any(cells):  # a line of separators alone, as spreadsheets leave behind the last one, says nothing
                yield reader.line_num, cells
    except csv.Error as fault:
        what = "a quotation without an end; the table is cut short" if "end of data" in str(fault) else str(fault)
        raise BadInput(f"{show(path)}:{reader.line_num}: {what}: {AGAIN}") from fault


def check_header(where: str, columns: list[str]) -> None:
    """BadInput for columns of equal names, and for another separator than a comma."""
    if len(columns) == 1 and (mark := next((mark for mark in ";\t" if mark in columns[0]), "")):
        name = "a tab" if mark == "\t" else f"'{mark}'"
        raise BadInput(f"{where}: {name} separates the columns, where a comma was expected; save it with commas")
    if twice := next((name for name in columns if name and columns.count(name) > 1), ""):
        raise BadInput(f"{where}: two columns are called '{twice}'; leave one of them, or rename it")


def _check_width(where: str, cells: list[str], columns: list[str]) -> None:
    if len(cells) > len(columns):
        raise BadInput(f"{where}: more cells than columns; quote values that contain a comma")
    if len(cells) < len(columns):
        raise BadInput(
            f"{where}: {len(cells)} cells where the header names {len(columns)} columns; the table is cut short or a "
            f"cell is missing: {AGAIN}"
        )


def check_last(where: str, counts: list[int], splits: list[str], ended: bool) -> None:
    """BadInput where the last row of a table without a last line end lists fewer files, or part of a split's name.

    splits: of all rows where theirs is the last column, else none.
    """
    last, others = splits[-1:], set(splits[:-1])
    if not ended and last and last[0] not in others and any(name.startswith(last[0]) for name in others):
        raise BadInput(
            f"{where}: split '{last[0]}' is no whole name of a split, and its line has no end; the table is cut short: "
            f"{AGAIN}, with a line break at its end"
        )
    if not ended and len(counts) > 1 and counts[-1] < min(counts[:-1]):
        raise BadInput(
            f"{where}: lists {counts[-1]} sources, all rows before it {min(counts[:-1])} or more, and its line has no "
            f"end; the table is cut short: {AGAIN}, with a line break at its end"
        )
