"""The columns of a log that grows: numbers of all its rows, read on from where the last reading ended.

A run of weeks logs a million rows and looks at them at each of its validations; what it has read it keeps, as numbers.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from usepcli.errors import BadInput, InputNotFound

_STEP = 1 << 20  # characters that are taken apart together


class Logged:
    """Some columns of a CSV log, as `read` finds them; what is no number is nan."""

    def __init__(self, path: str | Path, names: Sequence[str] = ("step", "loss", "lr")) -> None:
        self.path, self.names = Path(path), names
        self._anew(b"")

    def _anew(self, head: bytes) -> None:
        self._head, self._at, self._line = head, len(head), 1
        self._found: dict[str, list[np.ndarray]] = {}

    def read(self) -> dict[str, np.ndarray]:
        """Return the columns (rows,) that the log has, up to its last whole line; none of a log without a header.

        InputNotFound where there is no log, BadInput where it is no CSV table.
        """
        try:
            with self.path.open("rb") as file:
                head = file.readline()
                if head != self._head or file.seek(0, 2) < self._at:  # written anew
                    self._anew(head if head.endswith(b"\n") else b"")
                columns = next(csv.reader([self._head.decode("utf-8-sig").rstrip("\r\n")]), [])
                places = {name: columns.index(name) for name in self.names if name in columns}
                file.seek(self._at)
                while self._head and (lines := [line for line in file.readlines(_STEP) if line.endswith(b"\n")]):
                    self._take(lines, places, len(columns))
        except FileNotFoundError as fault:
            raise InputNotFound(f"{self.path}: no such table; a training run writes it") from fault
        except (UnicodeDecodeError, csv.Error) as fault:
            raise BadInput(f"{self.path}: not a CSV table in UTF-8: {fault}") from fault
        return {name: self._column(name) for name in places}

    def _take(self, lines: list[bytes], places: dict[str, int], width: int) -> None:
        rows = list(csv.reader([line.decode("utf-8") for line in lines]))
        for number, row in enumerate(rows, self._line + 1):
            if row and len(row) != width:
                raise BadInput(f"{self.path}:{number}: {len(row)} cells, {width} were expected; mend the table")
        for name, place in places.items():
            self._found.setdefault(name, []).append(np.array([_number(row[place]) for row in rows if row]))
        self._at += sum(map(len, lines))
        self._line += len(lines)

    def _column(self, name: str) -> np.ndarray:
        whole = np.concatenate(self._found.get(name, [np.zeros(0)]))
        self._found[name] = [whole]
        return whole


def _number(text: str) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
