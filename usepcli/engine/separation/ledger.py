"""The tables of a batch: outputs.csv, seams.csv and errors.csv in the output folder, and what they say is done.

Rows are added when a file's outputs are in place, so a kill costs the current file only. Shares of a batch write
tables of their own, `outputs-2-of-8.csv`; a later run of the whole folder merges them. Paths below the output
folder are written relative to it, others as given; bytes that are no UTF-8 stand in the tables as they are.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from usepcli import files
from usepcli.audio import io, raws, written
from usepcli.engine import tables
from usepcli.engine.folder import Lock
from usepcli.engine.separation import rows
from usepcli.engine.separation.failures import ERRORS, Failures
from usepcli.engine.separation.jobs import Job, identity
from usepcli.engine.separation.joins import SEAMS, Joins, by_file, seam_of
from usepcli.engine.separation.record import Record
from usepcli.engine.separation.rows import OUTPUTS, columns_of
from usepcli.engine.shards import Shard
from usepcli.engine.tables import Cells
from usepcli.errors import BadInput, InputNotFound, UsepError
from usepcli.files import write_text


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
        self._results: dict[tuple[str, ...], list[str]] | None = None  # outputs of each, once that is asked for
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
        mine = self._ordered(row for name, row in self._rows.items() if name in self._mine)
        tables.save(self._path("outputs"), mine, self._columns)
        self._doubled = False

    def _ordered(self, several: Iterable[Cells]) -> list[Cells]:
        return sorted(several, key=lambda row: self._order.get(row["file"], len(self._order)))

    def _path(self, name: str) -> Path:
        return self.out / f"{name}{self.suffix}.csv"

    def _shares(self, name: str) -> list[Path]:
        """Return the tables of shares, the one written last at the end."""
        found = self.out.glob(f"{name}-[0-9]*-of-[0-9]*.csv")
        return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))

    def read(self) -> None:
        """Read all tables of the folder again; BadInput for a table of another kind under one of their names."""
        own = tables.load(self._path("outputs"), OUTPUTS)
        keep = (lambda row: row["output"] in self._wanted or row["file"] in self._order) if self.shard else None
        others = [self.out / "outputs.csv", *self._shares("outputs")]
        found = (row for path in others for row in tables.load(path, OUTPUTS, keep=keep))
        self._rows, self._results = rows.together([*found, *(own if self.shard else ())]), None
        self._mine = {row["output"] for row in own} & self._rows.keys()
        self._columns = columns_of(own)
        self._doubled = len(own) > len(self._mine)
        self._joins.read()
        self._failures.read()

    def _merge(self) -> None:
        """Take the tables of shares into the common ones, unless this run is a share itself."""
        if self.shard or not any(self._shares(name) for name in ("outputs", "seams", "errors")):
            return
        self._mine = set(self._rows)
        self._columns = columns_of(self._rows.values())
        self._save_outputs()
        self._doubled = True  # what comes now has its place among them, too
        seams: dict[str, list[Cells]] = {}
        for path in [self._path("seams"), *self._shares("seams")]:
            seams |= by_file(tables.load(path, SEAMS))
        done = {row["file"] for row in self._rows.values()}
        self._joins.replace(self._ordered(row for file, several in seams.items() if file in done for row in several))
        errors = dict(self._failures.rows)
        for path in self._shares("errors"):
            errors |= {row["file"]: row for row in tables.load(path, ERRORS)}
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
        made = [self._rows[self.text(path)] for path in job.outputs if self._fits(path, settings)]
        if not made or not {*job.names} <= {row["source"] for row in made} | {*made[0]["left_out"].split()}:
            return None
        with suppress(ValueError, OverflowError):  # of rows that no run wrote: the file is made again
            return rows.record_of(job, made) if self._same_input(job, made[0]) else None
        return None

    def ours(self, job: Job, settings: str) -> set[Path]:
        """Return the outputs of an unfinished file that may be made again: they are this run's, or a killed one's."""
        mine = {path for path in job.outputs if self._fits(path, settings)}
        if mine and not self._same_input(job, self._rows[self.text(next(iter(mine)))]):
            mine = set()
        return mine | {path for path in job.outputs if path in self.stopped}

    def ended(self, job: Job, method: str) -> list[Path]:
        """Return what is there of earlier results of which a job replaces a part, besides what it replaces."""
        planned = {self.text(path) for path in job.outputs}
        names = self._ended(planned, lambda row: rows.making(row)[0] == method and self._same_input(job, row))
        return [path for path in (self.out / name for name in names) if path.is_file()]

    def _ended(self, planned: set[str], same: Callable[[Cells], bool]) -> list[str]:
        """Return the other outputs of those results of which planned outputs are part, but for what is the same."""
        met = [self._rows[name] for name in planned if name in self._rows]
        if not (ended := {rows.result(row) for row in met if not same(row)}):
            return []
        if self._results is None:
            self._results = {}
            for name, row in self._rows.items():
                self._results.setdefault(rows.result(row), []).append(name)
        known = dict.fromkeys(name for one in sorted(ended) for name in self._results.get(one, ()))
        there = (name for name in known if name in self._rows and name not in planned)
        return [name for name in there if rows.result(self._rows[name]) in ended]

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

    def add(self, record: Record) -> Record:
        """Write a file's rows; those that it had go when the run ends, if not before. IOFault on a full disk.

        With them go the other outputs of what they end; `left` of the record returned names those that stay.
        """
        file = self.file(record.file)
        new = {row["output"]: row for row in rows.rows_of(record, self.text, file)}
        planned = {self.text(track.path) for track in record.tracks}
        made = record.method or record.settings, record.identity.sha256
        ended = self._ended(planned, lambda row: rows.making(row) == made)
        left = [path for name in ended for path in [self.out / name] if not self._removed(path, name, record)]
        touched = {self._rows[name]["file"] for name in (*planned, *ended) if name in self._rows} - {file}
        columns = columns_of([dict.fromkeys(self._columns, ""), *new.values()])
        wider, self._columns = columns != self._columns, columns
        gone, known = (planned - set(new)) & self._mine, {*new, *ended} & self._mine
        for name in {*gone, *ended}:
            del self._rows[name]
        self._rows |= new
        self._mine -= {*gone, *ended}
        self._mine |= set(new)
        if self._results is not None:
            for name, row in new.items():
                self._results.setdefault(rows.result(row), []).append(name)
        self._joins.put(file, record)
        for other in touched:
            if self._joins.has(other) and all(row["file"] != other for row in self._rows.values()):
                self._joins.drop(other)
        if gone or (wider and len(self._mine) > len(new)):
            self._save_outputs()
        else:  # `together` tells which rows count; rewriting the table for every file would take longer than the model
            tables.append(self._path("outputs"), new.values(), self._columns)
            self._doubled = self._doubled or bool(known)
        self.settle([record.file])
        return replace(record, left=tuple(left))

    def _removed(self, path: Path, name: str, record: Record) -> bool:
        """Remove an output that counts no more, if it is as its row has it, and say whether nothing is there now."""
        row, others = self._rows[name], (record.source, *(track.path for track in record.written))
        with suppress(OSError):
            if not os.path.lexists(path):
                return True
            same = path.is_file() and not path.is_symlink() and files.sha256(path) == row["sha256"]
            if same and identity(path) not in map(identity, others):
                path.unlink()
                return True
        return False

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


def _noted(note: Path) -> list[str]:
    try:
        return written.noted(note)
    except ValueError as fault:
        raise BadInput(f"{files.show(note)}: damaged ({fault}); remove it: it names what a killed run left") from fault
