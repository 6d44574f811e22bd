"""A CSV table kept as its bytes: where its rows stand, and numbers of all of them, without an object for each.

A million rows as Python objects take two gigabytes and half a minute; as text they take what the file takes. The bytes
are looked at once, in blocks, with numpy: separators outside quotations end the cells, line ends the rows. A row is
taken apart when it is asked for.

Only plain text is looked at that way: every quotation begins behind a separator and ends before one, lines end in LF or
CRLF, every row has as many cells as the header. All else goes through the csv module (data/rows.py), which knows what
it means or what to say of it, and is then written plainly.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from usepcli.data import rows
from usepcli.data.columns import Column
from usepcli.data.text import Text
from usepcli.files import show

BLOCK = 4 << 20  # bytes that are looked at together
_COMMA, _LINE, _QUOTE, _LIST, _RETURN = np.frombuffer(b',\n";\r', np.uint8)
_BOM = b"\xef\xbb\xbf"


class _Odd(Exception):
    """Text that is not plain."""


class _Found(NamedTuple):
    """The rows of a block: where they and their cells (M, C) begin and end, in which line each ends, all semicolons."""

    used: int  # bytes
    n_lines: int
    ends: np.ndarray
    begins: np.ndarray
    lines: np.ndarray
    lists: np.ndarray


class Sheet:
    """The rows of a table as bytes: row i is [begins[i], ends[i]) of `text`, and ends in line `lines[i]` of the file.

    known: what columns have found out about all rows, by name and kind.  ended: whether the last line has an end.
    """

    def __init__(
        self, text: Text, columns: list[str], begin: int, line: int, kinds: Mapping[str, type[Column]]
    ) -> None:
        """begin, line: where the rows begin, behind the header, and how many lines it takes."""
        self.text, self.columns, self._begin = text, columns, begin
        self.ended = not text.size or text.part(text.size - 1, text.size) in (b"\n", b"\r")
        places: list[np.ndarray] = []
        self.known = self._gather(kinds, places, line)
        found = np.concatenate([np.zeros((3, 0), np.int64), *places], axis=1)
        self.begins, self.ends = found[:2].astype(np.uint32 if text.size < 1 << 32 else np.int64)
        self.lines = found[2].astype(np.uint32)

    def __len__(self) -> int:
        return len(self.begins)

    def cells(self, i: int) -> list[str]:
        """Return the cells of row i."""
        return _split(self.text.part(int(self.begins[i]), int(self.ends[i])))

    def several(self, which: np.ndarray) -> Iterator[list[str]]:
        """Yield the cells of some rows, in their order."""
        for begin, end in zip(self.begins[which].tolist(), self.ends[which].tolist(), strict=True):
            yield _split(self.text.part(begin, end))

    def learn(self, kinds: Mapping[str, type[Column]]) -> bool:
        """Look at the text again for what more columns know of all rows; return whether any is new."""
        here = {name: kind for name, kind in kinds.items() if name in self.columns}
        if missing := {name: kind for name, kind in here.items() if (name, kind) not in self.known}:
            self.known |= self._gather(missing, [], 0)
        return bool(missing)

    def _gather(
        self, kinds: Mapping[str, type[Column]], places: list[np.ndarray], line: int
    ) -> dict[tuple[str, type[Column]], Column]:
        known = {(name, kind): kind() for name, kind in kinds.items() if name in self.columns}
        for begin, block, rows_in in _blocks(self.text, self._begin, len(self.columns)):
            places.append(np.stack([rows_in.begins[:, 0] + begin, rows_in.ends[:, -1] + begin, rows_in.lines + line]))
            line += rows_in.n_lines
            for (name, _), column in known.items():
                place = self.columns.index(name)
                column.take(block, *_bare(block, rows_in.begins[:, place], rows_in.ends[:, place]), rows_in.lists)
        return known


def read(path: Path, kinds: Mapping[str, type[Column]]) -> Sheet:
    """Return a table in UTF-8; kinds: what is to be known of columns, where it has them.  Errors as for `rows.read`."""
    text = Text(path)
    try:
        sheet = Sheet(text, *_header(text), kinds)
        if (sheet.ends - sheet.begins).max(initial=0) <= csv.field_size_limit():
            text.sum()
            return sheet
    except _Odd:
        pass
    table = rows.read(path)
    plain = io.StringIO()
    writer = csv.writer(plain, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(table.columns)
    writer.writerows(row.values() for row in table.rows)
    text = Text.of(plain.getvalue().encode("utf-8", "surrogateescape"))
    head = io.StringIO()
    csv.writer(head, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(table.columns)
    sheet = Sheet(text, table.columns, len(head.getvalue().encode("utf-8", "surrogateescape")), 1, kinds)
    sheet.lines, sheet.ended = np.array(table.lines, np.int64), table.ended
    return sheet


def _header(text: Text) -> tuple[list[str], int, int]:
    """Return the columns, and behind how many bytes and lines the rows begin."""
    head = text.part(0, BLOCK)
    begin, line = len(_BOM) if head.startswith(_BOM) else 0, 0
    while begin < len(head):
        end = head.find(b"\n", begin)
        if end < 0 and text.size > len(head):
            raise _Odd
        end = len(head) if end < 0 else end
        here = head[begin:end].removesuffix(b"\r")
        begin, line = min(end + 1, len(head)), line + 1
        if b'"' in here or b"\r" in here or b"\0" in here or head[end - 1 :] == b"\r":
            raise _Odd
        if any(cells := _split(here)):
            rows.check_header(f"{show(str(text.path))}:{line}", cells)
            return cells, begin, line
    return [], begin, line


def _split(row: bytes) -> list[str]:
    text = row.decode("utf-8", "surrogateescape")
    return next(csv.reader([text], strict=True)) if '"' in text else text.split(",")


def _bare(block: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where cells begin and end without the quotation marks around them."""
    quoted = (begins < ends) & (block[np.minimum(begins, len(block) - 1)] == _QUOTE)
    return begins + quoted, ends - quoted


def _blocks(text: Text, begin: int, width: int) -> Iterator[tuple[int, np.ndarray, _Found]]:
    """Yield where each block begins, its bytes, and its whole rows of `width` cells."""
    size = BLOCK
    while begin < text.size:
        block = np.frombuffer(text.part(begin, begin + size), np.uint8)
        found = _look(block, begin + size >= text.size, width, text.path is None)
        if found is None:  # one row that is longer
            size *= 2
            continue
        yield begin, block, found
        begin, size = begin + found.used, BLOCK


def _look(block: np.ndarray, last: bool, width: int, ours: bool) -> _Found | None:
    marks, kinds = _marks(block)
    quotes = kinds == _QUOTE
    inside = (np.cumsum(quotes, dtype=np.uint8) & 1).astype(bool)
    if last and inside[-1:].any():
        raise _Odd
    if last and block[-1] != _LINE:  # as if the last line had an end
        marks, kinds = np.append(marks, len(block)), np.append(kinds, _LINE)
        quotes, inside = np.append(quotes, False), np.append(inside, False)
    is_line = kinds == _LINE
    ends = np.flatnonzero(is_line & ~inside)
    if not len(ends):
        return None
    cut = ends[-1] + 1
    marks, kinds, quotes, inside, is_line = marks[:cut], kinds[:cut], quotes[:cut], inside[:cut], is_line[:cut]
    if not ours:
        _check_lines(block[: marks[-1]])
    _check_quotes(block, marks[quotes])
    separators = (is_line | (kinds == _COMMA)) & ~inside
    breaks = marks[is_line]
    begins, cells, at = _cells(block, marks[separators], is_line[separators], marks[quotes], width)
    lines = np.searchsorted(breaks, at) + 1
    return _Found(int(marks[-1]) + 1, len(breaks), cells, begins, lines, marks[kinds == _LIST])


def _marks(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where commas, line ends, quotation marks and semicolons stand, and which of them each is."""
    found = block == _COMMA
    for kind in (_LINE, _QUOTE, _LIST):
        found |= block == kind
    marks = np.flatnonzero(found)
    return marks, block[marks]


def _check_lines(block: np.ndarray) -> None:
    """Raise _Odd for NUL, and where carriage returns do not stand before line feeds; the block goes up to one."""
    returns = np.flatnonzero(block == _RETURN)
    behind = np.append(block, np.uint8(_LINE))[returns + 1] if len(returns) else returns
    if not block.all() or (behind != _LINE).any():
        raise _Odd


def _check_quotes(block: np.ndarray, quotes: np.ndarray) -> None:
    """Raise _Odd unless quotations begin and end beside separators; two marks in one are one mark."""
    opens, closes = quotes[::2], quotes[1::2]
    before, behind = block[np.maximum(opens - 1, 0)], block[np.minimum(closes + 1, len(block) - 1)]
    begun = (opens == 0) | (before == _COMMA) | (before == _LINE)
    closed = (closes + 1 == len(block)) | np.isin(behind, [_COMMA, _LINE, _RETURN])
    doubled = opens[1:] == closes[:-1] + 1
    begun[1:] |= doubled
    closed[:-1] |= doubled
    if not (begun.all() and closed.all()):
        raise _Odd


def _cells(
    block: np.ndarray, separators: np.ndarray, is_line: np.ndarray, quotes: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where the cells (M, width) of the rows that say anything begin and end, and where each row's line ends."""
    last = np.flatnonzero(is_line)
    counts, at = np.diff(last, prepend=-1), separators[last]
    begins = np.concatenate(([0], separators[:-1] + 1))
    first = begins[last - counts + 1]
    ends = at - ((at > first) & (block[np.maximum(at - 1, 0)] == _RETURN))
    empty = ends - first == counts - 1  # nothing but separators
    if ((counts != width) & ~empty).any():
        raise _Odd
    kept = np.repeat(~empty, counts)
    cells = separators[kept].reshape(-1, width)
    cells[:, -1] = ends[~empty]
    begins, at = begins[kept].reshape(-1, width), at[~empty]
    if len(quotes) and len(at):
        inner = np.stack(_bare(block, begins.reshape(-1), cells.reshape(-1))).reshape(2, -1, width)
        said = (inner[1] > inner[0]).any(axis=1)  # not empty quotations alone
        begins, cells, at = begins[said], cells[said], at[said]
    return begins, cells, at
