"""seams.csv: the joins of long recordings, a row for each.

A file that is separated again gets rows at the table's end, numbered from 1 on; they count instead of those before,
which go at the end of the run.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from usepcli.engine import tables
from usepcli.engine.separation.record import Record
from usepcli.engine.tables import Cells
from usepcli.separator.how import Seam

SEAMS = ("file", "seam", "time_s", "order", "swapped", "lead", "confidence", "quiet")


class Joins:
    """The table of joins that a run adds to; `flush` takes out what counts no more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: set[str] = set()  # those with rows
        self._doubled = False

    def read(self) -> None:
        """Look at the table again."""
        rows = tables.load(self.path, SEAMS)
        found = by_file(rows)
        self._files, self._doubled = set(found), len(rows) > sum(map(len, found.values()))

    def put(self, file: str, record: Record) -> None:
        """Write a file's joins; `file` is how tables call it."""
        rows = [_row(file, k, record) for k in range(len(record.seams))]
        if rows:
            tables.append(self.path, rows, SEAMS)
            self._doubled = self._doubled or file in self._files
            self._files.add(file)
        else:
            self.drop(file)

    def has(self, file: str) -> bool:
        """Whether there are joins of a file."""
        return file in self._files

    def drop(self, file: str) -> None:
        """Take out a file's joins."""
        if file in self._files:
            found = by_file(tables.load(self.path, SEAMS))
            found.pop(file, None)
            self.replace(row for several in found.values() for row in several)

    def replace(self, rows: Iterable[Cells]) -> None:
        """Write other rows instead."""
        rows = list(rows)
        tables.save(self.path, rows, SEAMS)
        self._files, self._doubled = {row["file"] for row in rows}, False

    def flush(self) -> None:
        """Take out the rows that count no more."""
        if self._doubled:
            self.replace(row for rows in by_file(tables.load(self.path, SEAMS)).values() for row in rows)


def by_file(rows: Iterable[Cells]) -> dict[str, list[Cells]]:
    """Return the rows of each file that count, the files in the order of these."""
    found: dict[str, list[Cells]] = {}
    for row in rows:
        if row["seam"] == "1":
            found.pop(row["file"], None)
        found.setdefault(row["file"], []).append(row)
    return found


def seam_of(row: Cells) -> Seam:
    """Return a join as far as the table keeps it."""
    order = tuple(int(k) - 1 for k in row["order"].split())
    # Milliseconds are what the table keeps.
    place, sure = round(float(row["time_s"]) * 1000), float(row["confidence"])
    return Seam(place, order, float(row["lead"]), sure, row["quiet"] == "true", 1000)


def _row(file: str, number: int, record: Record) -> Cells:
    seam = record.seams[number]
    return {
        "file": file,
        "seam": str(number + 1),
        "time_s": f"{seam.time_s:.3f}",
        "order": " ".join(str(k + 1) for k in seam.order),
        "swapped": "true" if seam.swapped else "false",
        "lead": f"{seam.lead:.4f}",
        "confidence": f"{seam.confidence:.3f}",
        "quiet": "true" if seam.quiet else "false",
    }
