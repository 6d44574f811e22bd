"""The tables of a batch: outputs.csv, seams.csv and errors.csv in the output folder, and what they say is done.

Rows are added when a file's outputs are in place, so a kill costs the current file only. Shares of a batch write
tables of their own, `outputs-2-of-8.csv`; a later run of the whole folder merges them. Paths below the output
folder are written relative to it, others as given; bytes that are no UTF-8 stand in the tables as they are.
"""

from __future__ import annotations

import glob
import json
import math
import os
from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from usepcli import files
from usepcli.audio import io, raws, written
from usepcli.engine import tables
from usepcli.engine.folder import Lock
from usepcli.engine.separation.failures import ERRORS, Failures
from usepcli.engine.separation.jobs import Job
from usepcli.engine.separation.joins import SEAMS, Joins, by_file, seam_of
from usepcli.engine.separation.record import Identity, Pacing, Record, Track
from usepcli.engine.shards import Shard
from usepcli.engine.tables import Cells
from usepcli.errors import BadInput, InputNotFound, UsepError
from usepcli.files import write_text

OUTPUTS = (
    "file", "output", "source", "sha256", "bytes", "seconds", "frames", "rate", "channels", "subtype", "gain_db",
    "peak", "level_db", "lufs", "activity", "active", "null_db", "null_peak_db", "missing_s", "left_out", "settings",
    "file_bytes", "file_mtime_ns", "file_sha256",
)  # fmt: skip
# Then those of outputs that were asked for in words, and of such as were separated live.
_COLUMNS = (*OUTPUTS, "query", "presence", "silenced", *Pacing._fields)


class Ledger:
    """Inside a `with` block it has read the tables of an output folder, holds the folder's lock, and adds to them.

    Outside, as for --dry-run, `read` only looks. OutputError where another run holds the folder or the share.
    """

    def __init__(self, out: Path, shard: Shard | None = None) -> None:
        self.out, self.shard = out, shard
        self.suffix = shard.suffix if shard else ""
        self.lock = Lock(out, ".usep", self.suffix, ", or share the work with --shard")
        self.stopped: set[Path] = set()  # outputs that a killed run may have left without a row
        self._rows: dict[str, Cells] = {}
        self._columns: tuple[str, ...] = OUTPUTS  # of this run's own table
        self._mine: set[str] = set()  # outputs with a row in this run's own table
        self._doubled = False  # that table holds older rows of some outputs beside their last ones
        self._order: dict[str, int] = {}  # of files, in which merged tables list them
        self._wanted: set[str] = set()  # the outputs that a share asks after in the tables of others
        self._joins, self._failures = Joins(self._path("seams")), Failures(self._path("errors"))
        self._start = os.path.join(os.path.abspath(out), "")

    def expect(self, jobs: Sequence[Job]) -> None:
        """Take note of the jobs that tables are asked about, in the order in which these list files."""
        self._order = {self.file(job.file): n for n, job in enumerate(jobs)}
        self._wanted = {self.text(path) for job in jobs for path in job.outputs} if self.shard else set()

    def __enter__(self) -> Ledger:
        self.lock.take()
        try:
            self.read()
            self._merge()
            self._clean()
        except BaseException:
            self.lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._doubled:
                self._save_outputs()
            self._joins.flush()
            self._failures.flush()
        except UsepError:
            if kind is None:
                raise
        finally:
            self.lock.release()

    def _save_outputs(self) -> None:
        rows = self._ordered(row for name, row in self._rows.items() if name in self._mine)
        tables.save(self._path("outputs"), rows, self._columns)
        self._doubled = False

    def _ordered(self, rows: Iterable[Cells]) -> list[Cells]:
        return sorted(rows, key=lambda row: self._order.get(row["file"], len(self._order)))

    def _path(self, name: str) -> Path:
        return self.out / f"{name}{self.suffix}.csv"

    def _shares(self, name: str) -> list[Path]:
        """Return the tables of shares, the one written last at the end."""
        found = self.out.glob(f"{name}-[0-9]*-of-[0-9]*.csv")
        return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))

    def read(self) -> None:
        """Read all tables of the folder again; BadInput for a table of another kind under one of their names."""
        own = tables.load(self._path("outputs"), OUTPUTS)
        keep = (lambda row: row["output"] in self._wanted) if self.shard else None
        others = [self.out / "outputs.csv", *self._shares("outputs")]
        self._rows = {row["output"]: row for path in others for row in tables.load(path, OUTPUTS, keep=keep)}
        self._rows |= {row["output"]: row for row in own} if self.shard else {}
        self._mine = {row["output"] for row in own}
        self._columns = _columns(own)
        self._doubled = len(own) > len(self._mine)
        self._joins.read()
        self._failures.read()

    def _merge(self) -> None:
        """Take the tables of shares into the common ones, unless this run is a share itself."""
        if self.shard or not any(self._shares(name) for name in ("outputs", "seams", "errors")):
            return
        self._mine = set(self._rows)
        self._columns = _columns(self._rows.values())
        self._save_outputs()
        self._doubled = True  # what comes now has its place among them, too
        seams: dict[str, list[Cells]] = {}
        for path in [self._path("seams"), *self._shares("seams")]:
            seams |= by_file(tables.load(path, SEAMS))
        self._joins.replace(self._ordered(row for rows in seams.values() for row in rows))
        errors = dict(self._failures.rows)
        for path in self._shares("errors"):
            errors |= {row["file"]: row for row in tables.load(path, ERRORS)}
        done = {row["file"] for row in self._rows.values()}
        self._failures.replace({file: row for file, row in errors.items() if file not in done})
        for path in [path for name in ("outputs", "seams", "errors") for path in self._shares(name)]:
            path.unlink()

    def _clean(self) -> None:
        """Remove what a killed run left half written, and remember the outputs that it may have completed."""
        found = [self._note] if self.shard else [self._note, *self.out.glob(".usep-*-of-*.pending")]
        for note in found:
            if note.is_file():
                self.stopped |= {self.out / name for name in _noted(note)}
        for path in self.stopped:
            for debris in files.debris(path):
                debris.unlink(missing_ok=True)
        self.stopped = {path for path in self.stopped if self.text(path) not in self._rows and path.is_file()}
        for note in found[1:]:
            note.unlink()
        self._remember(self.stopped)

    @property
    def _note(self) -> Path:
        return self.out / f".usep{self.suffix}.pending"

    def _remember(self, paths: Iterable[Path]) -> None:
        names = sorted(self.text(path) for path in paths)
        if names:
            write_text(self._note, json.dumps(names))
        else:
            self._note.unlink(missing_ok=True)

    def text(self, path: str | os.PathLike[str]) -> str:
        """Return a path as the tables have it: relative to the output folder where it lies below, else as given."""
        given = os.fspath(path)
        place = os.path.abspath(given)
        if place.startswith(self._start):
            return place[len(self._start) :]
        return os.curdir if os.path.join(place, "") == self._start else given

    def file(self, file: str) -> str:
        """Return how tables call an input."""
        return file if file == "-" else self.text(file)

    def done(self, job: Job, settings: str) -> Record | None:
        """Return the record of a file that is done: same settings, same input, every output there with its size."""
        rows = [self._rows[self.text(path)] for path in job.outputs if self._fits(path, settings)]
        if not rows or not {*job.names} <= {row["source"] for row in rows} | {*rows[0]["left_out"].split()}:
            return None
        with suppress(ValueError, OverflowError):  # of rows that no run wrote: the file is made again
            return self._record(job, rows) if self._same_input(job, rows[0]) else None
        return None

    def ours(self, job: Job, settings: str) -> set[Path]:
        """Return the outputs of an unfinished file that may be made again: they are this run's, or a killed one's."""
        mine = {path for path in job.outputs if self._fits(path, settings)}
        if mine and not self._same_input(job, self._rows[self.text(next(iter(mine)))]):
            mine = set()
        return mine | {path for path in job.outputs if path in self.stopped}

    def why(self, path: Path, settings: str) -> str:
        """Return what the tables know about an output that stands in the way, to be put into a message."""
        row = self._rows.get(self.text(path))
        if row is None:
            return ""
        if row["settings"] != settings:
            return ", made with other settings"
        if not self._fits(path, settings):
            return ", changed since it was written"
        return f", made from an earlier {io.show(row['file'])}"

    def _fits(self, path: Path, settings: str) -> bool:
        row = self._rows.get(self.text(path))
        if row is None or row["settings"] != settings:
            return False
        try:
            return os.stat(path).st_size == int(row["bytes"])
        except (OSError, ValueError):
            return False

    def _same_input(self, job: Job, row: Cells) -> bool:
        """Whether the input is what it was: by name, size and time, and where these leave a doubt by its bytes."""
        try:
            held = raws.facts(job.source)
            if str(held.size) != row["file_bytes"]:
                return False
            known = row["file"] == self.file(job.file) and row["file"] != "-"
            if known and str(held.mtime_ns) == row["file_mtime_ns"] != "0":
                return True
            return raws.sha256(job.source) == row["file_sha256"]
        except (OSError, BadInput, InputNotFound):
            return False

    def begin(self, job: Job) -> None:
        """Note which outputs are about to appear, for the case that the process is killed; not those that exist."""
        self._remember({*self.stopped, *(path for path in job.outputs if not os.path.lexists(path))})

    def end(self, job: Job) -> None:
        """Strike the note out: the outputs have rows, or are gone."""
        self.stopped -= set(job.outputs)
        self._remember(self.stopped)

    def add(self, record: Record) -> None:
        """Write a file's rows; those that it had go when the run ends, if not before. IOFault on a full disk."""
        rows = {row["output"]: row for row in self._output_rows(record)}
        planned = {self.text(track.path) for track in record.tracks}
        file = self.file(record.file)
        self._joins.put(file, record)
        columns = _columns([dict.fromkeys(self._columns, ""), *rows.values()])
        wider, self._columns = columns != self._columns, columns
        gone, known = (planned - set(rows)) & self._mine, set(rows) & self._mine
        for name in gone:
            del self._rows[name]
        self._rows |= rows
        self._mine -= gone
        self._mine |= set(rows)
        if gone or (wider and len(self._mine) > len(rows)):
            self._save_outputs()
        else:  # the last row of an output counts; rewriting the table for every file would take longer than the model
            tables.append(self._path("outputs"), rows.values(), self._columns)
            self._doubled = self._doubled or bool(known)
        self.settle([record.file])

    def fail(self, faults: Iterable[tuple[str, UsepError]]) -> None:
        """Name inputs that failed in errors.csv."""
        self._failures.add((self.file(file), fault) for file, fault in faults)

    def settle(self, names: Iterable[str]) -> None:
        """Take files that are done out of errors.csv."""
        if self._failures.rows:
            self._failures.settle(map(self.file, names))

    def settle_folders(self, inputs: Iterable[str], faults: Container[str]) -> None:
        """Take the folders and patterns of this run that have come right out of errors.csv; files settle one by one."""
        several = [
            file
            for file in self._failures.rows
            if file not in faults and (os.path.isdir(file) or (glob.has_magic(file) and not os.path.lexists(file)))
        ]
        names = [self.file(name) for name in inputs] if several else []
        self._failures.settle(
            file for file in several if any(file == name or file.startswith(name + os.sep) for name in names)
        )

    def failed(self) -> dict[str, str]:
        """Return the errors of the files that failed in any run or share, by the name that tables give a file."""
        several = [self._path("errors"), *self._shares("errors")]
        return {row["file"]: row["error"] for path in several for row in tables.load(path, ERRORS)}

    def failures(self) -> list[tuple[str, str]]:
        """Return (file, error) of what errors.csv names."""
        return [(row["file"], row["error"]) for row in self._failures.rows.values()]

    def joined(self, records: Sequence[Record]) -> list[Record]:
        """Return the records, those of an earlier run with the joins that seams.csv has for them."""
        if not any(record.resumed for record in records):
            return list(records)
        known: dict[str, list[Cells]] = {}
        for path in [self.out / "seams.csv", *self._shares("seams"), self._path("seams")]:
            known |= by_file(tables.load(path, SEAMS))
        try:
            seams = {record.file: tuple(map(seam_of, known.get(self.file(record.file), ()))) for record in records}
        except (ValueError, OverflowError) as fault:
            raise BadInput(f"seams.csv: a row that no run wrote ({str(fault)[:60]}); move it away") from fault
        return [replace(record, seams=seams[record.file]) if record.resumed else record for record in records]

    def _output_rows(self, record: Record) -> Iterable[Cells]:
        same = {
            "file": self.file(record.file),
            "seconds": f"{record.duration_s:.6f}",
            "frames": str(record.frames),
            "rate": str(record.rate),
            "channels": str(record.channels),
            "subtype": record.subtype,
            "gain_db": f"{record.gain_db:.9g}",
            "null_db": f"{record.null_db:.1f}",
            "null_peak_db": f"{record.null_peak_db:.1f}",
            "missing_s": f"{record.missing_s:g}",
            "left_out": " ".join(record.left_out),
            "settings": record.settings,
            "file_bytes": str(record.identity.bytes),
            "file_mtime_ns": str(record.identity.mtime_ns),
            "file_sha256": record.identity.sha256,
            **(_paced(record.pacing) if record.pacing else {}),
        }
        for track in record.written:
            yield same | {
                "output": self.text(track.path),
                "source": track.source,
                "sha256": track.sha256,
                "bytes": str(track.bytes),
                "peak": f"{track.peak:.6f}",
                "level_db": f"{track.level_db:.1f}",
                "lufs": f"{track.lufs:.1f}",
                "activity": f"{track.activity:.4f}",
                "active": "true" if track.active else "false",
                **(_asked(track) if track.query else {}),
            }

    def _record(self, job: Job, rows: list[Cells]) -> Record:
        by_name = {row["source"]: row for row in rows}
        first = rows[0]
        return Record(
            file=job.file,
            source=job.source,
            relative=job.relative,
            tracks=tuple(_track(name, p, by_name.get(name)) for name, p in zip(job.names, job.outputs, strict=True)),
            frames=int(first["frames"]),
            rate=int(first["rate"]),
            channels=int(first["channels"]),
            subtype=first["subtype"],
            gain_db=float(first["gain_db"]),
            missing_s=float(first["missing_s"]),
            null_db=float(first["null_db"]),
            null_peak_db=float(first["null_peak_db"]),
            rtf=math.nan,
            seams=(),
            step_s=math.nan,
            identity=Identity(int(first["file_bytes"]), int(first["file_mtime_ns"]), first["file_sha256"]),
            settings=first["settings"],
            resumed=True,
        )


def _track(name: str, path: Path, row: Cells | None) -> Track:
    if row is None:
        nan = math.nan
        return Track(name, path, False, "", 0, nan, nan, nan, 0.0, False)
    return Track(
        source=name,
        path=path,
        written=True,
        sha256=row["sha256"],
        bytes=int(row["bytes"]),
        peak=float(row["peak"]),
        level_db=float(row["level_db"]),
        lufs=float(row["lufs"]),
        activity=float(row["activity"]),
        active=row["active"] == "true",
        query=row.get("query", ""),
        presence=float(row.get("presence", "") or math.nan),
        silenced=row.get("silenced") == "true",
    )


def _asked(track: Track) -> dict[str, str]:
    odds = "" if math.isnan(track.presence) else f"{track.presence:.4f}"
    return {"query": track.query, "presence": odds, "silenced": "true" if track.silenced else "false"}


def _paced(pacing: Pacing) -> dict[str, str]:
    return {name: f"{value:.6g}" for name, value in pacing._asdict().items()}


def _columns(rows: Iterable[Cells]) -> tuple[str, ...]:
    known = {name for row in rows for name in row}
    return tuple(name for name in _COLUMNS if name in OUTPUTS or name in known)


def _noted(note: Path) -> list[str]:
    try:
        return written.noted(note)
    except ValueError as fault:
        raise BadInput(f"{files.show(note)}: damaged ({fault}); remove it: it names what a killed run left") from fault
