"""A prepared set as tar files, as WebDataset writes them: `usep prepare-data --shards SIZE`.

    OUT/manifest.csv                    names members: shards/train-000000.tar/000000.mix.flac
    OUT/shards/SPLIT-NNNNNN.tar         000000.mix.flac 000000.s1.flac ... 000000.json, of about SIZE bytes each
    OUT/index/*.json                    where the members lie, so that no training looks through the tars

Sounds go in as they are, byte for byte. A tar appears under its name when it is whole, and is what its rows say: the
same command goes on behind the last one. Row n has the key n, so a tar tells how far it goes.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from usepcli import guard
from usepcli.audio import raws, tars
from usepcli.audio.io import show
from usepcli.data import rttm
from usepcli.data.corpora.base import Bad
from usepcli.data.manifest import Manifest, Pool, PoolRow, Row
from usepcli.errors import BadInput, ConfigError, InputNotFound
from usepcli.files import whole
from usepcli.report.progress import progress
from usepcli.versions import need

FOLDER = "shards"
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_LEAST = 10_000
_TURNS = "turns"  # folder of the RTTM files of packed recordings
_MOST = 8 << 30  # bytes that the header of a member can state
Table = Manifest | Pool


class _Nothing(Exception):
    """Not one row of a tar could be read."""


def parse_size(text: str) -> int:
    """Return the bytes that a size such as 1GB, 500MB or 1.5GiB means; ConfigError for others."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?\s*", text.upper())
    size = int(float(found[1]) * _UNITS[found[2]]) if found and found[2] in _UNITS else 0
    if not _LEAST <= size < 2**62:
        raise ConfigError(f"--shards {text}: a size of the tars was expected, as 1GB or 500MB; 10KB at least")
    return size


def pack(tables: Sequence[Table], out: Path, size: int, quiet: bool = False) -> tuple[list[Table], list[Bad]]:
    """Write the sounds of tables into tars of about `size` bytes, one row after the other; return tables that name
    the members, and what could not be read, whose rows are left out.

    MissingDependency without the extra `shards`; IOFault on a full disk.
    """
    need("--shards", "shards", "webdataset")
    places: dict[str, str] = {}
    packed: list[Table] = []
    bad: list[Bad] = []
    for table in tables:
        stem = "" if table.path.name == Manifest.FILE else f"{table.path.stem}-"
        rows: dict[int, Any] = {}
        for split in table.splits():
            prefix = f"{FOLDER}/{stem}{re.sub(r'[^A-Za-z0-9_-]', '_', split) or 'all'}"
            numbered: list[tuple[int, Any]] = list(enumerate(table.rows))
            numbered = [(n, row) for n, row in numbered if row.split == split]
            made = _split(table, numbered, out, prefix, size, places, bad)
            done = progress(made, len(numbered), f"tars of {Path(prefix).name}", "row", quiet)
            named = ((n, _with_turns(table, n, row, out, f"{stem}{n:06d}", bad)) for n, row in done)
            rows |= {n: row for n, row in named if row is not None}
        packed.append(replace(table, rows=[rows[n] for n in sorted(rows)], root=out))  # type: ignore[arg-type]
    return packed, bad


def _split(
    table: Table, rows: list[tuple[int, Any]], out: Path, prefix: str, size: int, places: dict[str, str], bad: list[Bad]
) -> Iterator[tuple[int, Any]]:
    """Yield the rows of one split as they are packed."""
    at, number = 0, 0
    while at < len(rows):
        tar = f"{prefix}-{number:06d}{tars.SUFFIX}"
        if (out / tar).exists():
            last = _last_key(out / tar)
            count = sum(n <= last for n, _ in rows[at:])
        else:
            count = _write(table, rows[at:], out / tar, size, places)
        if not (out / tar).exists():  # not one of them could be read
            bad += [Bad(row.id, _why(table, row)) for _, row in rows[at : at + count]]
            at += count
            continue
        found = tars.index(str(out / tar))
        tars.save(found, tars.kept(out, tar))
        for n, row in rows[at : at + count]:
            named = _named(table, row, n, tar, places)
            here = [place for place in _files(named) if place.startswith(f"{tar}/")]
            lacking = [place for place in here if place[len(tar) + 1 :] not in found.places]
            if lacking:
                bad.append(Bad(row.id, _why(table, row)))
                for file in [file for file, place in places.items() if place in lacking]:
                    del places[file]
            else:
                yield n, named
        at, number = at + count, number + 1


def _with_turns(table: Table, n: int, packed: Any, out: Path, name: str, bad: list[Bad]) -> Any:
    """Return a packed row that names a copy of its turns beside the tars, alone in their file; None if unreadable."""
    row = table.rows[n]
    if not (isinstance(row, Row) and row.activity):
        return packed
    place = f"{_TURNS}/{name}{rttm.SUFFIX}"
    try:
        turns = rttm.of_recording(table.resolve(row.activity), PurePath(row.mixture).stem)
    except (BadInput, InputNotFound) as fault:
        bad.append(Bad(row.id, str(fault)))
        return None
    rttm.write(out / place, turns)
    return replace(packed, activity=place)


def _why(table: Table, row: Any) -> str:
    """Return why a row's sounds could not be read."""
    for file in _files(row):
        try:
            with raws.open_raw(table.resolve(file)) as raw:
                raw.read(1)
        except Exception as error:
            return guard.reason(error, table.resolve(file))
    return "a file of it could not be read when the tar was written"


def _last_key(tar: Path) -> int:
    """Return the highest number of a row in a tar of ours; BadInput for another's."""
    keys = [name.split(".")[0] for name in tars.index(str(tar)).places]
    if not keys or not all(key.isdecimal() for key in keys):
        raise BadInput(f"{show(tar)}: was not written by --shards; move it away")
    return max(map(int, keys))


def _write(table: Table, rows: list[tuple[int, Any]], path: Path, size: int, places: dict[str, str]) -> int:
    """Write one tar of as many rows as it takes; return their number, with those that could not be read."""
    from webdataset.writer import TarWriter

    written, count, held = 0, 0, set(places)
    with suppress(_Nothing), whole(path) as hidden, open(hidden, "wb") as stream:
        with TarWriter(stream, encoder=False, mtime=0, user="usep", group="usep", mode=0o644) as tar:
            for n, row in rows:
                if written >= size:
                    break
                count += 1
                try:
                    sample = _sample(table, row, held)
                except Exception as error:
                    guard.fault(error, row.id)  # a full disk ends the run; what is missing is seen in the tar
                    continue
                held |= set(_files(row))
                written += tar.write({"__key__": f"{n:06d}", **sample})
        if not written:
            raise _Nothing
    return count


def _sample(table: Table, row: Any, held: set[str]) -> dict[str, bytes]:
    """Return the members of a row: its sounds that are in no tar yet, and what is known of it."""
    members: dict[str, bytes] = {}
    for part, file in _parts(row).items():
        if file not in held:
            with raws.open_raw(table.resolve(file)) as raw:
                if raws.size(raw) >= _MOST:
                    raise BadInput(f"{show(file)}: longer than the {_MOST >> 30} GiB that a member may have; cut it")
                members[part] = raw.read()
            if not members[part]:
                raise BadInput(f"{show(file)}: the file is empty (0 bytes)")
    return {**members, "json": json.dumps(_said(row), sort_keys=True).encode()}


def _said(row: Any) -> dict[str, Any]:
    """Return what a row says besides its files, without what it leaves open."""
    left_out = {"mixture", "sources", "noise", "path", "n_src", "activity"}
    said = {name: value for name, value in vars(row).items() if name not in left_out}
    return {name: value for name, value in said.items() if value not in ("", (), None, 0) or name == "start"}


def _parts(row: Any) -> dict[str, str]:
    """Return a row's files by the part that each is of its sample, its suffix behind."""
    if isinstance(row, PoolRow):
        files = {"": row.path}
    else:
        files = {"mix": row.mixture, **{f"s{k}": file for k, file in enumerate(row.sources, 1)}, "noise": row.noise}
    return {
        f"{part}{'.' if part else ''}{os.path.splitext(file)[1][1:].lower() or 'audio'}": file
        for part, file in files.items()
        if file
    }


def _files(row: Any) -> list[str]:
    return list(_parts(row).values())


def _named(table: Table, row: Any, n: int, tar: str, places: dict[str, str]) -> Any:
    """Return a row that names members: those of its own sample, and those that an earlier row brought."""
    for part, file in _parts(row).items():
        places.setdefault(file, f"{tar}/{n:06d}.{part}")
    if isinstance(row, PoolRow):
        return replace(row, path=places[row.path])
    assert isinstance(row, Row)
    return replace(
        row,
        mixture=places.get(row.mixture, ""),
        sources=tuple(places[file] for file in row.sources),
        noise=places.get(row.noise, ""),
    )
