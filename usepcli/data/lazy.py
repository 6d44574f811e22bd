"""Rows of a table that are made when they are asked for, and what can be asked of all of them at once.

`rows` below are a Known or any other sequence of rows; both give the same answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, overload

import numpy as np

from usepcli.data.columns import Column, Given, Lists, Names, Numbers
from usepcli.data.sheet import Sheet

T = TypeVar("T")
Parse = Callable[[list[str], int], T]


class Known(Sequence[T]):
    """Rows that answer what is asked of all of them without being made; see the functions of these names."""

    def some(self, places: np.ndarray) -> Known[T]:
        """Return the rows at these places, in their order."""
        raise NotImplementedError

    def numbers(self, name: str) -> np.ndarray:
        """Return a column of whole numbers (rows,), 0 where the table has none."""
        raise NotImplementedError

    def counts(self, name: str) -> np.ndarray:
        """Return of how many parts each cell (rows,) of a column of lists is."""
        raise NotImplementedError

    def given(self, name: str) -> np.ndarray:
        """Return whether each row (rows,) says anything in a column of text."""
        raise NotImplementedError

    def named(self, name: str) -> tuple[list[str], np.ndarray]:
        """Return texts of a column, all that occur among them, and which of them each row (rows,) has."""
        raise NotImplementedError


class Lazy(Known[T]):
    """Rows of a sheet, all or some of them, each made anew when it is asked for."""

    def __init__(self, sheet: Sheet, parse: Parse[T], which: np.ndarray | None = None) -> None:
        """parse: makes a row of its cells and its line.  which: the numbers of the rows, in their order."""
        self.sheet, self.parse = sheet, parse
        self.which = np.arange(len(sheet), dtype=np.int32) if which is None else which

    def __len__(self) -> int:
        return len(self.which)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Lazy[T]: ...
    def __getitem__(self, index: int | slice) -> T | Lazy[T]:
        if isinstance(index, slice):
            return self.some(np.arange(len(self))[index])
        i = int(self.which[index])
        return self.parse(self.sheet.cells(i), int(self.sheet.lines[i]))

    def __iter__(self) -> Iterator[T]:
        lines = self.sheet.lines[self.which].tolist()
        for cells, line in zip(self.sheet.several(self.which), lines, strict=True):
            yield self.parse(cells, line)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def some(self, places: np.ndarray) -> Lazy[T]:
        """Return the rows at these places."""
        return Lazy(self.sheet, self.parse, self.which[places])

    def numbers(self, name: str) -> np.ndarray:
        """Return a column of whole numbers (rows,)."""
        return _values(self, name, Numbers)

    def counts(self, name: str) -> np.ndarray:
        """Return how many parts the cells (rows,) of a column of lists have."""
        return _values(self, name, Lists)

    def given(self, name: str) -> np.ndarray:
        """Return whether each row (rows,) says anything in a column of text."""
        return _values(self, name, Given).astype(bool)

    def named(self, name: str) -> tuple[list[str], np.ndarray]:
        """Return the texts of a column in the whole sheet, and which of them each row (rows,) has."""
        which, column = _values(self, name, Names), self.sheet.known.get((name, Names))
        return (column.names if isinstance(column, Names) else [""]), which


def some(rows: Sequence[T], places: np.ndarray) -> Sequence[T]:
    """Return the rows at these places, in their order."""
    return rows.some(places) if isinstance(rows, Known) else [rows[int(i)] for i in places]


def numbers(rows: Sequence[Any], name: str) -> np.ndarray:
    """Return a column of whole numbers (rows,), 0 where the table has none."""
    if isinstance(rows, Known):
        return rows.numbers(name)
    return np.array([getattr(row, name) for row in rows], np.int64)


def counts(rows: Sequence[Any], name: str) -> np.ndarray:
    """Return of how many parts each cell (rows,) of a column of lists is."""
    if isinstance(rows, Known):
        return rows.counts(name)
    return np.array([len(getattr(row, name)) for row in rows], np.int64)


def hollow(rows: Sequence[Any], name: str) -> np.ndarray:
    """Return the places of rows whose cell in a column of lists may have an empty part; the row itself tells."""
    if not isinstance(rows, Lazy):
        return np.arange(len(rows))
    _values(rows, name, Lists)
    column: Any = rows.sheet.known.get((name, Lists))
    return np.flatnonzero(np.isin(rows.which, column.doubtful)) if column is not None else np.zeros(0, np.int64)


def given(rows: Sequence[Any], name: str) -> np.ndarray:
    """Return whether each row (rows,) says anything in a column of text."""
    if isinstance(rows, Known):
        return rows.given(name)
    return np.array([bool(getattr(row, name)) for row in rows], bool)


def names(rows: Sequence[Any], name: str) -> tuple[list[str], np.ndarray]:
    """Return the different texts in a column, in order of appearance, and which of them each row (rows,) has."""
    if not len(rows):  # of a million others nothing need be known for that
        return [], np.zeros(0, np.int64)
    if isinstance(rows, Known):
        every, which = rows.named(name)
    else:
        known: dict[str, int] = {}
        which = np.array([known.setdefault(getattr(row, name), len(known)) for row in rows], np.int64)
        every = list(known)
    present, first, place = np.unique(which, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return [every[present[i]] for i in order], np.argsort(order)[place.reshape(-1)]


def learn(rows: Sequence[Any], kinds: Mapping[str, type[Column]]) -> None:
    """Look at all rows once for several columns, of which each alone would take one look."""
    if isinstance(rows, Lazy) and rows.sheet.learn(kinds):
        settle(Lazy(rows.sheet, rows.parse))


def settle(rows: Lazy[Any], also: np.ndarray | None = None) -> None:
    """Look at the rows that bytes alone leave in doubt, and `also` at some others, in order; errors as for `parse`.

    rows: all of a sheet.
    """
    known: Any = rows.sheet.known
    fresh = {key: column for key, column in known.items() if not column.settled}
    parts = [column.doubtful for column in fresh.values()]
    places = np.unique(np.concatenate([np.zeros(0, np.int64), *parts, *([] if also is None else [also])]))
    found: dict[Any, list[int]] = {key: [] for key in fresh if issubclass(key[1], (Numbers, Lists))}
    for i in places.tolist():
        row = rows[i]
        for (name, kind), values in found.items():
            value = getattr(row, name)
            values.append(len(value) if issubclass(kind, Lists) else value or 0)
    for key, column in fresh.items():
        if found.get(key):
            column.put(places, found[key])
        column.settled = True


def _values(rows: Lazy[Any], name: str, kind: type[Any]) -> np.ndarray:
    learn(rows, {name: kind})
    column: Any = rows.sheet.known.get((name, kind))
    return np.zeros(len(rows), np.int64) if column is None else column.values[rows.which].astype(np.int64)
