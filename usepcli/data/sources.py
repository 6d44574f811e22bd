"""The sources of the mixtures of a table as rows of their own, made when they are asked for.

A mixture of K sources stands for K rows; what can be asked of all of them at once (data/lazy.py) is taken from the
columns of the mixtures, of which lists are taken apart once for each different cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, overload

import numpy as np

from usepcli.data import lazy

T = TypeVar("T")


class Sources(lazy.Known[T]):
    """Sources of rows of mixtures; `make(row)` gives those of one. `lists`: the columns that join theirs."""

    def __init__(
        self,
        rows: Sequence[Any],
        make: Callable[[Any], list[T]],
        lists: dict[str, str],
        which: np.ndarray | None = None,
    ) -> None:
        """which: the numbers of the sources among those of all rows, in their order; None for all."""
        self.rows, self.make, self.lists = rows, make, lists
        self._counts = lazy.counts(rows, "sources")
        self._ends = np.cumsum(self._counts)
        total = int(self._ends[-1]) if len(self._ends) else 0
        self.which = np.arange(total, dtype=np.int32) if which is None else which
        # The mixture of each source, and its place there.
        self._row = np.searchsorted(self._ends, self.which, side="right")
        self._place = self.which - (self._ends - self._counts)[self._row] if total else self.which

    def __len__(self) -> int:
        return len(self.which)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sources[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sources[T]:
        if isinstance(index, slice):
            return self.some(np.arange(len(self))[index])
        return self.make(self.rows[int(self._row[index])])[int(self._place[index])]

    def __iter__(self) -> Iterator[T]:
        last, made = -1, list[T]()
        for row, place in zip(self._row.tolist(), self._place.tolist(), strict=True):
            if row != last:
                last, made = row, self.make(self.rows[row])
            yield made[place]

    def some(self, places: np.ndarray) -> Sources[T]:
        """Return the sources at these places."""
        return Sources(self.rows, self.make, self.lists, self.which[places])

    def numbers(self, name: str) -> np.ndarray:
        """Return a column of whole numbers (sources,): that of their mixtures."""
        return lazy.numbers(self.rows, name)[self._row]

    def counts(self, name: str) -> np.ndarray:
        """Return how many parts the cells (sources,) of a column of lists have: those of their mixtures."""
        return lazy.counts(self.rows, name)[self._row]

    def given(self, name: str) -> np.ndarray:
        """Return whether each source (sources,) says anything in a column of text."""
        every, which = self.named(name)
        return np.array([bool(text) for text in every], bool)[which] if len(self) else np.zeros(0, bool)

    def named(self, name: str) -> tuple[list[str], np.ndarray]:
        """Return texts of a column, and which of them each source (sources,) has."""
        if name not in self.lists:
            every, which = lazy.names(self.rows, name)
            return every, which[self._row]
        cells, cell = lazy.names(self.rows, self.lists[name])
        known: dict[str, int] = {"": 0}
        parts = [[known.setdefault(part.strip(), len(known)) for part in text.split(";")] for text in cells]
        begins = np.cumsum([0, *(len(one) for one in parts)])
        flat = np.array([n for one in parts for n in one] or [0], np.int64)
        mine = cell[self._row]
        # A list of another length than the mixture has sources says nothing of any.
        fits = np.diff(begins)[mine] == self._counts[self._row]
        return list(known), np.where(fits, flat[np.where(fits, begins[mine] + self._place, 0)], 0)
