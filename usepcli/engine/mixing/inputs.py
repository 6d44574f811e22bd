"""What `usep remix` mixes: named stems from files, from a folder, or from the outputs.csv of `usep separate`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from usepcli.audio import io
from usepcli.data import rows as tables
from usepcli.engine.separation import rows as ledger
from usepcli.engine.separation import shards
from usepcli.errors import BadInput, InputNotFound, UsageError, did_you_mean

LEDGER = "outputs.csv"
_COLUMNS = ("file", "output", "source", "gain_db")


@dataclass(frozen=True)
class Stems:
    """Sound files by source name; `scale` undoes the gain that all of them were written with.

    `ledger` names the outputs.csv beside the files of a folder, if there is one: its gains were not undone.
    `left_out` names the near-silent sources that `usep separate` did not write, `lacking` the shares of a batch whose
    tables are not there yet.
    """

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    scale: float = 1.0
    ledger: str = ""
    left_out: str = ""
    lacking: str = ""


def find_stems(inputs: Sequence[Path], recording: str = "") -> Stems:
    """Return the stems that files, one folder, or one outputs.csv stand for.

    `recording` is the input whose sources are taken from an outputs.csv of several. With an outputs.csv, there or not
    yet, go the tables that shares of the batch left beside it; some of these may be named, too. InputNotFound or
    BadInput where there are none, UsageError for mixed kinds.
    """
    if inputs and all(path.suffix.lower() == ".csv" for path in inputs):
        if len(inputs) > 1 and len({path.parent for path in inputs}) > 1:
            raise UsageError(f"{io.show(inputs[1])}: tables of several folders; name those of one")
        return _listed(inputs, recording)
    if recording:
        raise UsageError(f"--file {recording}: belongs to an {LEDGER}, of which it takes one recording; leave it out")
    if len(inputs) == 1 and inputs[0].is_dir():
        return _folder(inputs[0])
    for path in inputs:
        if path.is_dir() or path.suffix.lower() == ".csv":
            raise UsageError(f"{io.show(path)}: a folder or an {LEDGER} stands alone; name it without other inputs")
    return Stems(tuple(inputs), tuple(io.show(path.stem) for path in inputs))


def natural(name: str) -> list[tuple[int, int, str]]:
    """Return a sorting key under which "stem 2" comes before "stem 10"."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part.casefold()) for part in parts]


def check_stems(stems: Sequence[Path]) -> io.Info:
    """Return the first stem's info with the longest stem's length; BadInput unless rates and channels agree."""
    first = io.info(stems[0])
    for stem in stems[1:]:
        other = io.info(stem)
        if (other.rate, other.channels) != (first.rate, first.channels):
            raise BadInput(
                f"{io.show(stem)}: {other.rate} Hz, {other.channels} channels; the first stem "
                f"{io.show(stems[0])} has {first.rate} Hz, {first.channels}; stems must agree"
            )
        first = replace(first, frames=max(first.frames, other.frames))
    return first


def _folder(folder: Path) -> Stems:
    found = [path for path in folder.iterdir() if path.suffix.lower() in io.AUDIO_SUFFIXES and path.is_file()]
    paths = sorted((path for path in found if not path.name.startswith(".")), key=lambda path: natural(path.name))
    if not paths:
        raise InputNotFound(f"{io.show(folder)}: no sound files there, by their suffixes; name the stems one by one")
    ledger = io.show(folder / LEDGER) if (folder / LEDGER).is_file() or shards.parts(folder) else ""
    return Stems(tuple(paths), tuple(io.show(path.stem) for path in paths), ledger=ledger)


def _listed(named: Sequence[Path], recording: str) -> Stems:
    path, several = named[0], list(named)
    if len(named) == 1 and path.name == LEDGER and (parts := shards.parts(path.parent)):
        several = [*([path] if path.is_file() else []), *parts]
    rows = [row for table in several for row in _rows(table) if row["output"]]
    lacking = "" if several[0].name == LEDGER else shards.lacking(several)
    files = list(dict.fromkeys(row["file"] for row in rows))
    if not files:
        raise BadInput(f"{io.show(path)}: no output is listed; expected one line per file that was written")
    chosen = _choose(path, files, recording, lacking)
    rows = list(ledger.together(row for row in rows if row["file"] == chosen).values())
    _refuse_twice(path, rows)
    _refuse_mixed(path, rows)
    try:
        (gain_db,) = {float(row["gain_db"]) for row in rows}
    except ValueError as fault:
        found = ", ".join(sorted({f"'{row['gain_db']}'" for row in rows}))
        raise BadInput(
            f"{io.show(path)}: gain_db of {io.show(chosen)} is {found}; expected one number of dB for all its sources"
        ) from fault
    names = tuple(io.show(row["source"]) for row in rows)
    return Stems(
        tuple(path.parent / row["output"] for row in rows),
        names,
        10 ** (-gain_db / 20),
        left_out=rows[0].get("left_out", ""),
        lacking=lacking,
    )


def _refuse_twice(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    twice = next((row for k, row in enumerate(rows) if row["source"] in [other["source"] for other in rows[:k]]), None)
    if twice is not None:
        first = next(row for row in rows if row["source"] == twice["source"])
        raise BadInput(
            f"{io.show(path)}: source {io.show(twice['source'])} of {io.show(twice['file'])} is listed twice, as "
            f"{io.show(first['output'])} and {io.show(twice['output'])}; name the files to be mixed instead"
        )


def _refuse_mixed(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Raise BadInput for outputs that are parts of different results, whose sum is neither of them."""
    first = rows[0]
    for row in rows:
        if ledger.making(row) != ledger.making(first):
            same = row.get("file_sha256") == first.get("file_sha256")
            what = "with other settings" if same else f"from another {io.show(row['file'])}"
            raise BadInput(
                f"{io.show(path)}: {io.show(row['output'])} was made {what} than {io.show(first['output'])}, and they "
                f"do not add up; name the files to be mixed, or separate {io.show(row['file'])} into another folder"
            )


def _choose(path: Path, files: Sequence[str], recording: str, lacking: str) -> str:
    """Return the one recording of a list, or the one named by its path, file name or stem."""
    if not recording and len(files) == 1:
        return files[0]
    shown = ", ".join(io.show(file) for file in files[:5]) + (", ..." if len(files) > 5 else "")
    if not recording:
        raise UsageError(f"{io.show(path)}: lists {len(files)} recordings; choose one with --file: {shown}")
    for key in (str, lambda file: Path(file).name, lambda file: Path(file).stem):
        found = [file for file in files if key(file) == recording]
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(f"--file {io.show(recording)}: fits {len(found)} recordings; give the path: {shown}")
    hint = did_you_mean(recording, files)
    more = f"; {lacking}" if lacking else ""
    raise UsageError(f"--file {io.show(recording)}: not in {io.show(path)}{hint}; there are {shown}{more}")


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        table = tables.read(path, own=True)
    except (FileNotFoundError, NotADirectoryError) as fault:
        raise InputNotFound(f"{io.show(path)}: no such file") from fault
    except OSError as fault:
        raise BadInput(f"{io.show(path)}: cannot be read as CSV: {fault}") from fault
    missing = [column for column in _COLUMNS if column not in table.columns]
    if missing:
        raise BadInput(f"{io.show(path)}: no column '{missing[0]}'; expected an {LEDGER} as `usep separate` writes it")
    return table.rows
