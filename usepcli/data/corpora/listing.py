"""CSV lists beside recordings: which column is the path, the talker, the split, the licence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from usepcli.audio.io import AUDIO_SUFFIXES, show
from usepcli.audio.written import Written
from usepcli.data.corpora.base import Bad, Finder, probe, some, split_word, walk
from usepcli.data.rows import Table, read
from usepcli.errors import BadInput, InputNotFound, did_you_mean

_PATHS = ("path", "file", "filename", "filepath", "audio", "wav")
_LABELS = ("speaker", "speaker_id", "talker", "client_id", "label")
ORIGINS = ("origin", "source_repo", "corpus", "dataset")
_LICENCES = ("licence", "license")


@dataclass(frozen=True)
class Recording:
    """One sound file of a tree, with what a list beside it or its folders say about it."""

    path: str
    rate: int
    frames: int
    label: str = ""
    split: str = ""
    origin: str = ""
    licence: str = ""
    text: str = ""
    role: str = ""
    query: str = ""


def read_table(path: Path) -> Table:
    """Read a CSV with a header line; InputNotFound or BadInput."""
    if not path.is_file():
        raise InputNotFound(f"{show(path)}: no such CSV file")
    if path.suffix.lower() in AUDIO_SUFFIXES:
        raise BadInput(
            f"{show(path)}: a sound file, where a list in CSV or a folder was expected; one recording alone goes with "
            "--corpus folder"
        )
    return read(path)


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read a CSV with a header line: its columns, and one dictionary per line; InputNotFound or BadInput."""
    table = read_table(path)
    return table.columns, table.rows


def column(path: Path, columns: list[str], asked: str, usual: tuple[str, ...]) -> str:
    """Return the column asked for (BadInput if absent), or the first usual one that exists, or ''."""
    if asked:
        if asked not in columns:
            near = did_you_mean(asked, columns)
            raise BadInput(f"{show(path)}: no column '{asked}'{near}; it has: {', '.join(columns)}")
        return asked
    lowered = {name.lower(): name for name in columns}
    return next((lowered[name] for name in usual if name in lowered), "")


def recordings(
    root: Path,
    csv_name: str,
    label_column: str,
    split_column: str,
    depth: int,
    limit: int,
    bad: list[Bad],
    only: Sequence[str] = (),
) -> list[Recording]:
    """List the recordings under root, labelled by a CSV or, without one, by the folder at `depth`.

    csv_name: '' takes root/manifest.csv if it has a path column; 'none' looks at folders alone.
    Splits are named by the CSV or by the top folders (all of them must be split names), else ''.
    only: these files, without a look at the others.
    """
    table = _table(root, csv_name)
    if table is not None:
        rows = _from_csv(root, table, label_column, split_column)
    else:
        # A file that is named is meant.
        rows = _from_folders(list(only) if only else _recorded(root, bad), depth, root.name)
    if not rows and bad:
        raise BadInput(f"{show(root)}: no recordings found: {show(bad[0].path)} {bad[0].reason}")
    if not rows:
        raise BadInput(f"{show(root)}: no recordings found; expected WAV, FLAC, OGG, MP3 or AIFF files in it")
    by_path = {row.path: row for row in rows}
    headers = probe(root, some(list(by_path), limit), bad)
    return [replace(by_path[path], rate=header.rate, frames=header.frames) for path, header in headers.items()]


def _recorded(root: Path, bad: list[Bad]) -> list[str]:
    """Return the sound files below root that `usep separate` did not write; what it wrote is named in `bad`."""
    paths, written = list(walk(root)), Written()
    own = {path: table for path in paths if (table := written.by(root / path))}
    said = "is an output of usep separate ({}), no recording"
    bad.extend(Bad(path, said.format(show(table)), ours=True) for path, table in own.items())
    return [path for path in paths if path not in own]


def _table(root: Path, csv_name: str) -> Path | None:
    if csv_name == "none":
        return None
    if csv_name:
        given = root / csv_name
        return given if given.exists() else Path(csv_name)
    standard = root / "manifest.csv"
    if standard.is_file():
        columns = read_rows(standard)[0]
        if column(standard, columns, "", _PATHS):
            return standard
    return None


def _from_csv(root: Path, table: Path, label_column: str, split_column: str) -> list[Recording]:
    columns, rows = read_rows(table)
    path = column(table, columns, "", _PATHS)
    if not path:
        raise BadInput(
            f"{show(table)}: no path column; one of {', '.join(_PATHS)} was expected, found: {', '.join(columns)}"
        )
    label = column(table, columns, label_column, _LABELS)
    split = "" if split_column == "none" else column(table, columns, split_column, ("split", "subset"))
    origin, licence = column(table, columns, "", ORIGINS), column(table, columns, "", _LICENCES)
    text = column(table, columns, "", ("text", "transcript", "caption"))
    finder = Finder(root)
    return [
        Recording(
            finder.find(row[path]),
            0,
            0,
            row.get(label, ""),
            split_word(row.get(split, "")) or row.get(split, ""),
            row.get(origin, "") or root.name,
            row.get(licence, ""),
            row.get(text, ""),
            row.get("role", ""),
            row.get("query", ""),
        )
        for row in rows
        if row[path]
    ]


def _from_folders(paths: list[str], depth: int, origin: str) -> list[Recording]:
    parts = [PurePath(path).parts for path in paths]
    tops = {part[0] for part in parts if len(part) > 1}
    by_split = bool(tops) and all(split_word(top) for top in tops)
    rows = []
    for path, part in zip(paths, parts, strict=True):
        folders = part[int(by_split and len(part) > 1) : -1]
        at = depth - 1 if depth > 0 else depth
        label = folders[at] if -len(folders) <= at < len(folders) else ""
        rows.append(Recording(path, 0, 0, label, split_word(part[0]) if by_split and len(part) > 1 else "", origin))
    return rows
