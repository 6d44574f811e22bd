"""What is known of a column of all rows of a table, taken from the bytes of its cells block by block.

Where bytes do not settle a cell by themselves, its row stands in `doubtful`: the parser of rows is to look at it.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

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
        """The array (rows,)."""
        if len(self._parts) != 1:
            self._parts = [np.concatenate(self._parts) if self._parts else np.zeros(0, np.int64)]
        return self._parts[0]

    @property
    def doubtful(self) -> np.ndarray:
        """Numbers of rows whose bytes do not settle what the cell holds."""
        return np.unique(np.concatenate([np.zeros(0, np.int64), *self._doubts]))

    def _add(self, part: np.ndarray, doubtful: np.ndarray) -> None:
        self._parts.append(part)
        self._doubts.append(self._size + np.flatnonzero(doubtful))
        self._size += len(part)


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
        whole, known = text.tobytes(), self._numbers
        found = (
            known.setdefault(whole[begin:end], len(known))
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
        )
        self._add(np.fromiter(found, np.int32, len(begins)), np.zeros(len(begins), bool))
