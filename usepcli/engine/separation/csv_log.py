"""Tables that grow while a batch runs and survive its end: names in any bytes, torn last lines, one step at a time."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from usepcli.audio.io import show
from usepcli.errors import BadInput, IOFault
from usepcli.files import write_text

Row = dict[str, str]


def load(path: Path, columns: Sequence[str]) -> list[Row]:
    """Return the whole rows of a table, none if it is absent; BadInput for a table with other columns.

    A row that a kill cut short is left out.
    """
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return []
    except OSError as fault:
        raise IOFault(f"{show(path)}: cannot be read: {fault.strerror}; check the folder and run again") from fault
    try:
        # Without its last character a row may look whole.
        lines = list(csv.reader(io.StringIO(text if text.endswith("\n") else text[: text.rfind("\n") + 1], newline="")))
    except csv.Error as fault:
        raise BadInput(f"{show(path)}: no CSV table ({fault}); move it away and run again") from fault
    if not lines:
        return []
    if missing := [name for name in columns if name not in lines[0]]:
        raise BadInput(
            f"{show(path)}: found no column '{missing[0]}'; expected a table of usep separate, move it and run again"
        )
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:] if len(line) == len(lines[0])]


def save(path: Path, rows: Iterable[Mapping[str, str]], columns: Sequence[str]) -> None:
    """Replace a table in one step; without rows, remove it."""
    text = _lines(rows, columns)
    if text:
        write_text(path, _line(columns) + text)
    else:
        path.unlink(missing_ok=True)


def append(path: Path, rows: Iterable[Mapping[str, str]], columns: Sequence[str]) -> None:
    """Add rows and force them to the disk, all or none; IOFault on a full disk leaves the table as it was."""
    text = _lines(rows, columns)
    if not text:
        return
    try:
        with open(path, "ab", buffering=0) as file:
            before = file.tell()
            data = memoryview(((_line(columns) if not before else "") + text).encode("utf-8", "surrogateescape"))
            try:
                while data:
                    data = data[file.write(data) :]
                os.fsync(file.fileno())
            except OSError:
                os.truncate(path, before)
                raise
    except OSError as fault:
        raise IOFault(f"{show(path)}: cannot add rows: {fault.strerror}; free some space and run again") from fault


def _lines(rows: Iterable[Mapping[str, str]], columns: Sequence[str]) -> str:
    return "".join(_line([row.get(name, "") for name in columns]) for row in rows)


def _line(cells: Sequence[str]) -> str:
    buffer = io.StringIO()
    # The writer leaves a bare carriage return unquoted, and the reader takes it for the end of a line.
    if any("\r" in cell for cell in cells):
        csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(cells)
    else:
        csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()
