"""The audit of a prepared folder, a manifest or any tree of recordings: `usep prepare-data --check`."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, field, fields
from functools import partial
from pathlib import Path, PurePath
from typing import Any, overload

import numpy as np

from usepcli.audio.io import show
from usepcli.data import lazy
from usepcli.data.audit import ERROR, Finding, Item, Result, audit_item
from usepcli.data.audit_sets import audit_set, known_voices
from usepcli.data.corpora.base import CLOSED, split_of, split_word, walk
from usepcli.data.corpora.listing import column, read_rows
from usepcli.data.manifest import Manifest, Pool, PoolRow, Row, read_list, write_rows
from usepcli.engine import shards
from usepcli.engine.parallel import run_tasks
from usepcli.engine.preparing.checked import Noted, Table, as_result, as_value
from usepcli.errors import BadInput, InputNotFound, UsageError
from usepcli.report.progress import progress

CHECK_FILE = "check.csv"
_SHOWN = 10
_SPHERE = frozenset({".wv1", ".wv2"})  # WSJ as delivered: compressed NIST files, to be converted first


@dataclass
class Report:
    """All findings, the number of items and files looked at, and where check.csv is (None: not written)."""

    source: Path
    findings: list[Finding] = field(default_factory=list)
    items: int = 0
    files: int = 0
    sums: list[float] = field(default_factory=list)
    path: Path | None = None
    share: str = ""  # what came of a share, for a person

    @property
    def errors(self) -> int:
        """The number of findings that would spoil a training."""
        return sum(finding.level == ERROR for finding in self.findings)

    def table(self) -> list[dict[str, Any]]:
        """Return one row per level and kind of fault with its count, errors first; "ok" if all is well."""
        counts = Counter((finding.level, finding.kind) for finding in self.findings)
        rows = [
            {"level": level, "kind": kind, "count": count, "example": self._example(level, kind)}
            for (level, kind), count in sorted(counts.items(), key=lambda pair: (pair[0][0] != ERROR, -pair[1]))
        ]
        return rows or [{"level": "ok", "kind": "no faults", "count": 0, "example": ""}]

    def _example(self, level: str, kind: str) -> str:
        first = next(f for f in self.findings if (f.level, f.kind) == (level, kind))
        return show(": ".join(part for part in (first.path, first.detail) if part))

    def sum_report(self) -> dict[str, float | int]:
        """Return how well sources add up: mixtures compared, exact ones, SNR in dB (99 = exact)."""
        if not self.sums:
            return {}
        values = np.minimum(np.asarray(self.sums), 99.0)
        return {
            "compared": len(values),
            "exact": int(np.isinf(self.sums).sum()),
            "median_snr_db": round(float(np.median(values)), 1),
            "lowest_snr_db": round(float(values.min()), 1),
        }

    def notes(self) -> list[str]:
        """Return lines for a person: what was looked at, sums, and where the details are."""
        if self.share:
            return [f"{self.share}; {self.errors} errors, {len(self.findings) - self.errors} warnings in its own files"]
        lines = [
            f"{self.items} items, {self.files} files: {self.errors} errors, {len(self.findings) - self.errors} warnings"
        ]
        if self.sums:
            sums = self.sum_report()
            lines.append(
                f"sources against mixtures: {sums['exact']} of {sums['compared']} exact, median "
                f"{sums['median_snr_db']} dB, "
                f"lowest {sums['lowest_snr_db']} dB"
            )
        if self.path:
            return [*lines, f"details: {show(self.path)}"]
        listed = [f"  {f.level} {f.kind}: {show(f.path or f.id)}: {f.detail}" for f in self.findings[:_SHOWN]]
        more = len(self.findings) - _SHOWN
        return [
            *lines,
            *listed,
            *([f"  ... and {more} more; pass -o DIR for all of them"] if more > 0 else []),
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        return {
            "source": show(self.source),
            "items": self.items,
            "files": self.files,
            "errors": self.errors,
            "warnings": len(self.findings) - self.errors,
            "counts": self.table(),
            "sums": self.sum_report(),
            "findings": [asdict(finding) for finding in self.findings],
            "csv": str(self.path) if self.path else "",
        }


def check(
    source: str | Path,
    out: Path | None = None,
    *,
    rate: int = 0,
    limit: int = 0,
    workers: int = 0,
    overwrite: bool = False,
    quiet: bool = False,
    shard: str = "",
    merge: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Audit `source`; check.csv goes into `out`, or into `source` if that is a prepared folder.

    rate: the expected rate in Hz of a tree without a manifest (0: that of most files). limit: look at N items
    only. What was looked at is noted beside check.csv, so that a stopped check goes on where the files are the same;
    shard: look at a share and note that.  merge: look at nothing, BadInput where items are missing.
    InputNotFound or BadInput if there is nothing to audit; findings are returned, not raised.
    """
    source = Path(source)
    share = shards.asked(shard, merge, overwrite)
    report = Report(source, path=_place(source, out))
    if report.path is None and (share or merge):
        raise UsageError("--shard and --merge of --check need a folder for what was found: give -o DIR")
    tables = [_limited(table, limit) for table in _tables(source, rate)]
    with Noted(source, report.path, tables, share, merge, overwrite, say) as noted:
        for table, part in zip(tables, noted.parts, strict=True):
            left = part.left(len(table.items))
            results = run_tasks(audit_item, [table.items[n] for n in left], workers)
            for n, result in zip(left, progress(results, len(left), "check", "item", quiet or not left), strict=True):
                part.add(n, as_value(result))
        if merge:
            noted.state().refuse_gaps(report.path.parent if report.path else source)
        _report(report, tables, noted, share is None)
        if share:
            report.share, report.path = noted.state().told(share, noted.did), None
    return report


def _report(report: Report, tables: list[Table], noted: Noted, whole: bool) -> None:
    """Put together what was found in the items, and between them where all are there; write check.csv."""
    for table, part in zip(tables, noted.parts, strict=True):
        mine = [n for n in sorted(part.done) if not part.share or part.share.has(n)]
        report.items += len(mine)
        _collect(report, [as_result(table.items[n], part.done[n]) for n in mine], table, whole)
    if not whole:
        return
    if len(tables) == 2:  # a prepared folder: its mixtures, and the pool of fresh ones
        for speaker, (ours, theirs) in known_voices(tables[1].talkers, tables[0].talkers).items():
            detail = f"talker '{speaker}' of the pool's {ours} speaks in the {theirs} mixtures"
            report.findings.append(Finding(ERROR, "talker", ours, speaker, Pool.FILE, detail))
    if report.path:
        write_rows(report.path, [column.name for column in fields(Finding)], map(astuple, report.findings))
    noted.discard()


class _Items(Sequence[Item]):
    """The items of a table, each made of its row when it is asked for."""

    def __init__(self, rows: Sequence[Any], make: Callable[[Any], Item]) -> None:
        self.rows, self.make = rows, make

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> _Items: ...
    def __getitem__(self, index: int | slice) -> Item | _Items:
        if isinstance(index, slice):
            return _Items(self.rows[index], self.make)
        return self.make(self.rows[index])

    def __iter__(self) -> Iterator[Item]:
        return map(self.make, self.rows)


def _limited(table: Table, limit: int) -> Table:
    if not limit or limit >= len(table.items):
        return table
    keep = np.unique(np.linspace(0, len(table.items) - 1, limit).round().astype(int))
    return Table([table.items[i] for i in keep.tolist()], table.talkers)


def _collect(report: Report, results: list[Result], table: Table, whole: bool) -> None:
    for result in results:
        report.findings += result.findings
        item = result.item
        report.files += bool(item.whole) + len(item.sources) + bool(item.noise)
        if result.sum_snr_db is not None:
            report.sums.append(result.sum_snr_db)
    if whole:
        report.findings += audit_set(results, table.talkers)


def _place(source: Path, out: Path | None) -> Path | None:
    if out is not None:
        return out / CHECK_FILE
    return source / CHECK_FILE if (source / "prepare.json").is_file() else None


def _tables(source: Path, rate: int) -> list[Table]:
    """Return what there is to audit: manifest and pool of a folder, one list, or every file of a tree."""
    if source.is_dir() and not (source / Manifest.FILE).is_file() and not (source / Pool.FILE).is_file():
        return [_tree(source, rate)]
    if not source.exists():
        raise InputNotFound(f"{show(source)}: no such file or folder")
    lists = [source / name for name in (Manifest.FILE, Pool.FILE)] if source.is_dir() else [source]
    tables = [_list(path, rate) for path in lists if path.is_file()]
    if not any(table.items for table in tables):
        raise BadInput(f"{show(source)}: its tables are empty; there is nothing to check")
    return tables


def _list(path: Path, rate: int) -> Table:
    columns = _header(path)
    if {"id", "mixture", "sample_rate", "frames"} <= set(columns):
        rows = Manifest.read(path)
        conditions, which = lazy.names(rows.rows, "condition")
        # Talkers of the closed condition are those of the training by intent.
        apart = np.flatnonzero(which != conditions.index(CLOSED)) if CLOSED in conditions else None
        pairs = _talkers(rows.rows if apart is None else lazy.some(rows.rows, apart), "speakers")
        return Table(
            _Items(rows.rows, partial(_item, rows.root)),
            [(name, split) for names, split in pairs for name in read_list(names, f"{path}: speakers")],
        )
    if {"id", "path", "sample_rate", "frames"} <= set(columns):
        pool = Pool.read(path)
        talkers = [pair for pair in _talkers(pool.rows, "speaker") if pair[1] != CLOSED]
        return Table(_Items(pool.rows, partial(_utterance, pool.root)), talkers)
    return _foreign(path, rate)


def _header(path: Path) -> list[str]:
    """Return the names in the first line of a table, whatever else it holds; [] where that is no line of a CSV."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file, suppress(csv.Error):
        return next(csv.reader(file), [])
    return []


def _talkers(rows: Sequence[Any], name: str) -> list[tuple[str, str]]:
    """Return the different pairs of a cell in a column and the split of its row, in order of appearance."""
    cells, cell = lazy.names(rows, name)
    splits, split = lazy.names(rows, "split")
    _, first = np.unique(cell * max(1, len(splits)) + split, return_index=True)
    return [(cells[cell[i]], splits[split[i]]) for i in np.sort(first).tolist()]


def _utterance(root: Path, row: PoolRow) -> Item:
    return Item(row.id, row.split, row.path, row.sample_rate, row.frames, root)


def _item(root: Path, row: Row) -> Item:
    files = row.mixture, row.sample_rate, row.frames, root, row.sources, row.noise
    return Item(row.id, row.split, *files, row.queries, row.start, row.activity)


def _foreign(path: Path, rate: int) -> Table:
    """Read any other list of recordings that has a path column."""
    columns, rows = read_rows(path)
    name = column(path, columns, "", ("path", "file", "filename", "mixture", "mix"))
    if not name:
        raise BadInput(f"{show(path)}: no column path or mixture; it has: {', '.join(columns)}")
    split = column(path, columns, "", ("split", "subset"))
    speaker = column(path, columns, "", ("speaker", "speaker_id", "talker"))
    items, talkers = [], []
    for row in rows:
        where = split_word(row.get(split, "")) or row.get(split, "")
        items.append(Item(row[name], where, row[name], rate, 0, path.parent))
        talkers.append((row.get(speaker, ""), where))
    return Table(items, talkers)


def _tree(root: Path, rate: int) -> Table:
    paths = [
        *walk(root),
        *(str(p.relative_to(root)) for p in sorted(root.rglob("*")) if p.suffix.lower() in _SPHERE),
    ]
    if not paths:
        raise BadInput(f"{show(root)}: no recordings found; expected WAV, FLAC, OGG, MP3 or AIFF files in it")
    return Table([Item(path, split_of(path), path, rate, 0, root) for path in map(str, map(PurePath, paths))])
