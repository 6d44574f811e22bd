"""errors.csv: which inputs of a batch failed, and why.

A failure is added at the table's end, the last row of a file counts. Rows of files that have come right since go when
there are many of them, and at the end of the run: to write the table anew for each would take longer than the model.
After a kill it may name files that are done; the next run, which finds them done, takes them out.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from usepcli.engine import tables
from usepcli.engine.tables import Cells
from usepcli.errors import UsepError

ERRORS = ("file", "code", "error")
_SHARE = 8  # one row in so many may be out of date


class Failures:
    """The inputs that failed, by the names that tables give them; `flush` brings the table up to date."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Cells] = {}
        self._stale = 0  # rows of the table that count no more

    def read(self) -> None:
        """Read the table again."""
        found = tables.load(self.path, ERRORS)
        self.rows = {row["file"]: row for row in found}
        self._stale = len(found) - len(self.rows)

    def add(self, faults: Iterable[tuple[str, UsepError]]) -> None:
        """Add rows; IOFault on a full disk."""
        rows = [{"file": file, "code": str(fault.code), "error": str(fault)} for file, fault in faults]
        before = len(self.rows)
        self.rows |= {row["file"]: row for row in rows}
        self._stale += before + len(rows) - len(self.rows)
        tables.append(self.path, rows, ERRORS)
        self._tidy()

    def settle(self, files: Iterable[str]) -> None:
        """Take out what is no failure any more."""
        for file in files:
            self._stale += self.rows.pop(file, None) is not None
        self._tidy()

    def replace(self, rows: dict[str, Cells]) -> None:
        """Write other rows instead."""
        self.rows, self._stale = rows, 1
        self.flush()

    def flush(self) -> None:
        """Write the table anew where it holds rows that count no more, without any left remove it."""
        if self._stale:
            tables.save(self.path, self.rows.values(), ERRORS)
            self._stale = 0

    def _tidy(self) -> None:
        if self._stale * _SHARE > len(self.rows):
            self.flush()
