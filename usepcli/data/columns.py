"""What is known of a column of all rows of a table, taken from the bytes of its cells block by block.

Where bytes do not settle a cell by themselves, its row stands in `doubtful`: the parser of rows is to look at it.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

_SHORT = 64  # bytes of names that are compared as numbers
_DIGITS = 18  # that an int64 always holds
# Bytes with which a name cannot begin, or that may begin a space in UTF-8.
_SPACES = np.zeros(256, bool)
_SPACES[: ord(" ") + 1] = _SPACES[[ord(";"), 0xC2, 0xE1, 0xE2, 0xE3]] = True


class Column(Protocol):
    """A column that is shown its cells, block by block, in the order of the rows."""

    settled: bool  # whether the rows in doubt have been looked at

    @property
    def doubtful(self) -> np.ndarray:
        """Numbers of rows whose bytes do not settle what the cell holds."""
        ...

    def __init__(self) -> None: ...

    def take(self, text: np.ndarray, begins: np.ndarray, ends: np.ndarray, lists: np.ndarray) -> None:
        """Take in the cells text[begins:ends] of some rows; lists: where all semicolons of this text stand."""
        ...


class _Grown:
    """An array of all rows that grows block by block."""

    def __init__(self) -> None:
        self.settled = False
        self._doubts: list[np.ndarray] = []
        self._parts: list[np.ndarray] = []
        self._size = 0

    @property
    def values(self) -> np.ndarray:
        """The array (rows,), of the smallest kind of number that holds it."""
        if len(self._parts) != 1:
            self._parts = [np.concatenate(self._parts) if self._parts else np.zeros(0, np.uint8)]
        return self._parts[0]

    def put(self, places: np.ndarray, values: list[int]) -> None:
        """Set the values of some rows."""
        wide = self.values.astype(np.int64)
        wide[places] = values
        self._parts = [_small(wide)]

    @property
    def doubtful(self) -> np.ndarray:
        """Numbers of rows whose bytes do not settle what the cell holds."""
        return np.unique(np.concatenate([np.zeros(0, np.int64), *self._doubts]))

    def _add(self, part: np.ndarray, doubtful: np.ndarray) -> None:
        self._parts.append(_small(part))
        self._doubts.append(self._size + np.flatnonzero(doubtful))
        self._size += len(part)


def _small(values: np.ndarray) -> np.ndarray:
    low, high = values.min(initial=0), values.max(initial=0)
    return values.astype(np.result_type(np.min_scalar_type(low), np.min_scalar_type(high)))


class Numbers(_Grown):
    """Whole numbers as int64; an empty cell is 0."""

    def take(self, text: np.ndarray, begins: np.ndarray, ends: np.ndarray, lists: np.ndarray) -> None:
        """Take in the cells of some rows."""
        sizes = ends - begins
        values, doubtful = np.zeros(len(begins), np.int64), sizes > _DIGITS
        for k in range(min(int(sizes.max(initial=0)), _DIGITS)):
            here = sizes > k
            digit = text[np.minimum(begins + k, len(text) - 1)] - np.uint8(ord("0"))
            doubtful |= here & (digit > 9)
            values = np.where(here, values * 10 + digit, values)
        self._add(values, doubtful)


class Given(_Grown):
    """Whether a cell says anything."""

    def take(self, text: np.ndarray, begins: np.ndarray, ends: np.ndarray, lists: np.ndarray) -> None:
        """Take in the cells of some rows."""
        self._add(ends > begins, np.zeros(len(begins), bool))


class Lists(_Grown):
    """How many parts the semicolons of a cell make; 0 for an empty cell."""

    def take(self, text: np.ndarray, begins: np.ndarray, ends: np.ndarray, lists: np.ndarray) -> None:
        """Take in the cells of some rows."""
        given, edge = ends > begins, len(text) - 1
        place = np.searchsorted(begins, lists, side="right") - 1
        within = (place >= 0) & (lists < ends[place]) if len(begins) else np.zeros(len(lists), bool)
        place, lists = place[within], lists[within]
        counts = given + np.bincount(place, minlength=len(begins))
        doubtful = given & _SPACES[text[np.minimum(begins, edge)]]
        hollow = (lists + 1 >= ends[place]) | _SPACES[text[np.minimum(lists + 1, edge)]]
        doubtful[place[hollow]] = True
        self._add(counts, doubtful)


class Phrases(Lists):
    """As lists; one with a weight behind '|' is in doubt."""

    def take(self, text: np.ndarray, begins: np.ndarray, ends: np.ndarray, lists: np.ndarray) -> None:
        """Take in the cells of some rows."""
        super().take(text, begins, ends, lists)
        bars = np.flatnonzero(text == ord("|"))
        weighed = np.searchsorted(bars, begins) < np.searchsorted(bars, ends)
        self._doubts.append(self._size - len(begins) + np.flatnonzero(weighed))


class Names(_Grown):
    """Which of `names`, in order of appearance, each cell holds."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers: dict[bytes, int] = {}

    @property
    def names(self) -> list[str]:
        """The different cells."""
        return [name.replace(b'""', b'"').decode("utf-8", "surrogateescape") for name in self._numbers]

    def take(self, text: np.ndarray, begins: np.ndarray, ends: np.ndarray, lists: np.ndarray) -> None:
        """Take in the cells of some rows."""
        first, which = _alike(text, begins, ends)
        numbers = [self._numbers.setdefault(text[b:e].tobytes(), len(self._numbers)) for b, e in first]
        self._add(np.array(numbers, np.int64)[which], np.zeros(len(begins), bool))


def _alike(text: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Return (begin, end) of cells such that all are there, in order of appearance, and which of them each cell is."""
    sizes = ends - begins
    width = -(-int(sizes.max(initial=0)) // 8) * 8
    every = list(zip(begins.tolist(), ends.tolist(), strict=True))
    if not 0 < width <= _SHORT:
        return every, np.arange(len(begins))
    place = np.arange(width)
    cells = text[np.minimum(begins[:, None] + place, len(text) - 1)] * (place < sizes[:, None])  # (rows, width)
    words = np.ascontiguousarray(cells).view(np.uint64)  # no cell holds NUL, so that zeros are no letters
    factors = np.uint64(0x9E3779B97F4A7C15) * (2 * np.arange(words.shape[1], dtype=np.uint64) + np.uint64(1))
    _, first, which = np.unique((words * factors).sum(axis=1), return_index=True, return_inverse=True)
    which = which.reshape(-1)
    if (words != words[first][which]).any():  # two texts of one sum
        return every, np.arange(len(begins))
    order = np.argsort(first)
    return [every[i] for i in first[order]], np.argsort(order)[which]
