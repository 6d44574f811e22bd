"""Phrases listed in a file, and files known by their sha256."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable
from pathlib import Path

from usepcli.errors import BadInput, InputNotFound

_MOST_BYTES = 1 << 28


def phrases_of(path: str | Path) -> tuple[str, ...]:
    """Return the different phrases of a text file, one in every line, or of a manifest's queries, sorted.

    InputNotFound, or BadInput where there are none.
    """
    where = Path(path).expanduser()
    where = where / "manifest.csv" if where.is_dir() else where
    text = text_of(where)
    found = _of_manifest(where, text) if where.suffix == ".csv" else (line.strip() for line in text.splitlines())
    phrases = tuple(sorted({phrase for phrase in found if phrase}))
    if not phrases:
        raise BadInput(f"{where}: no phrase in it; expected a text file with one in every line, or queries")
    return phrases


def text_of(path: Path) -> str:
    """Return a text file; InputNotFound, or BadInput where it is no UTF-8."""
    if not path.is_file():
        raise InputNotFound(f"{path}: no such file")
    try:
        return path.read_text("utf-8-sig")
    except (OSError, ValueError) as fault:
        raise BadInput(f"{path}: cannot be read as text ({fault})") from fault


def _of_manifest(path: Path, text: str) -> Iterable[str]:
    rows = csv.DictReader(text.splitlines())
    names = rows.fieldnames or []
    column = next((name for name in ("queries", "query", "label") if name in names), None)
    if column is None:
        raise BadInput(f"{path}: columns {', '.join(names)[:80]}; expected queries, query or label among them")
    for row in rows:
        cell = (row[column] or "").strip()
        # A manifest joins queries, and labels, of its sources by ';', as they are.
        yield from (part.strip() for part in ([cell] if column == "query" else cell.split(";")))


def sha256_of(paths: Iterable[Path]) -> str:
    """Return the sha256 of files' names and bytes, in the order of their names; BadInput where one cannot be read."""
    sha = hashlib.sha256()
    for path in sorted(paths):
        sha.update(path.name.encode())
        try:
            with open(path, "rb") as file:
                while block := file.read(1 << 22):
                    sha.update(block)
        except OSError as fault:
            raise BadInput(f"{path}: cannot be read ({fault.strerror})") from fault
    return sha.hexdigest()
