"""Separating many files: one record each, a bad one never stops the others."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from usepcli import files, guard
from usepcli.audio import io, metadata
from usepcli.audio.formats import LOSSY
from usepcli.engine.separation import outputs
from usepcli.engine.separation.activity import ACTIVE_DB, Meter
from usepcli.engine.separation.jobs import Job
from usepcli.engine.separation.record import Identity, Record, Track
from usepcli.engine.separation.stored import Stored
from usepcli.errors import IOFault, UsageError, UsepError, choices
from usepcli.separator.how import How, Null, Trace
from usepcli.weights import cards

if TYPE_CHECKING:
    from usepcli.separator.separator import Separator, Watch

__all__ = ["Record", "Track", "Wish", "separate_file", "separate_files"]

SOURCES = ("all", "auto")


@dataclass(frozen=True)
class Wish:
    """What to do with every file: `sources` "auto" leaves near-silent outputs out, `clip` as in write_all.

    `replace` tells which existing outputs may be overwritten; `settings` is the hash that goes into the tables, and
    `method` that of all but the choice of sources; `queries` are what a model by query was asked for, by whose names
    the job then calls its sources; `always`: one that is judged absent is not silenced.
    """

    how: How = field(default_factory=How)
    sources: str = "all"
    clip: str = "gain"
    settings: str = ""
    method: str = ""
    queries: tuple[str, ...] = ()
    always: bool = False
    replace: Callable[[Path], bool] = lambda _: False

    def __post_init__(self) -> None:
        if self.sources not in SOURCES:
            raise UsageError(choices("choice of --sources", self.sources, SOURCES))
        if self.clip not in outputs.CLIPS:
            raise UsageError(choices("treatment of clipping", self.clip, outputs.CLIPS))


class _Listener:
    """Hands on the sources to be written, and measures all of them on the way."""

    def __init__(self, separator: Separator, job: Job, wish: Wish, info: io.Info, watch: Watch | None) -> None:
        self.separator, self.job, self.wish, self.watch = separator, job, wish, watch
        names = separator.names(wish.how)
        self.names = job.names or names
        # Of a model by query all outputs are written, under names of their own.
        self.places = [*range(len(names))] if wish.queries else [names.index(name) for name in self.names]
        self.rate, self.n_src, self.subtype = info.rate, len(names), info.subtype
        self.channels = separator.channels_out(info.channels, wish.how)
        self.trace, self.meter = Trace(), self._meter()
        self.kept: list[bool] = []
        self.absent: tuple[int, ...] = ()  # queries that are silenced
        self.settled = not wish.queries or wish.always or wish.how.rest == "share"

    def _meter(self) -> Meter:
        return Meter(self.rate, self.n_src, self.channels, cards.silent_db(self.separator.card) or ACTIVE_DB)

    def produce(self) -> Iterator[np.ndarray]:
        """Yield the pieces (N', C, t) of the sources that the job names; may be asked again from the start.

        Anew where the end shows that what was given out is not what is to be written: a query is absent.
        """
        self.trace, self.meter = Trace(), self._meter()
        for piece in self.separator.file(self.job.source, self.wish.how, self.trace, self.watch, self.absent):
            self.meter.push(piece)
            yield piece if len(self.places) == self.n_src else piece[self.places]
        if not self.settled:
            self.settled, self.absent = True, self.separator.absent(self.trace)
            if self.absent:
                raise outputs.Anew

    def wanted(self) -> list[bool]:
        """Return which of the outputs stay."""
        self.meter.finish()
        silent = self.meter.silent(self.places)
        self.kept = [not (self.wish.sources == "auto" and quiet) for quiet in silent]
        return self.kept

    def null(self, done: outputs.Written) -> Null:
        """Return the null test of the files: that of the sources, gain and rounding; nan where some are not written."""
        if not all(self.kept) or len(self.places) < self.n_src:
            return Null(math.nan, math.nan, math.nan)
        found, gain = self.trace.null, done.gain
        peak, power = found.peak * gain, found.power * gain**2
        if done.step:
            whole = gain == 1 and self.wish.how.channels != "mix" and outputs.on_grid(self.subtype, done.step)
            if whole and max(found.peak, done.sum_peak) < done.step / 2:
                peak = power = 0.0  # input and sum of files are both codes, and less than half a code apart
            else:
                peak, power = peak + done.sum_peak, power + done.sum_power
        return Null(peak, power, found.input_power * gain**2, found.count)

    def tracks(self, paths: Iterable[Path], stored: Stored) -> tuple[Track, ...]:
        """Return what was measured on each output, and when its source sounds."""
        meter = self.meter
        presence = self.separator.presence(self.trace)
        silent = meter.silent(self.places)
        levels, lufs, activity, (_, curves) = stored.levels_db(), stored.lufs(), meter.activity(), meter.curves()
        found = []
        for k, (place, path) in enumerate(zip(self.places, paths, strict=True)):
            facts: dict[str, Any] = {"sha256": "", "bytes": 0}
            if self.kept[k]:
                facts = {"sha256": files.sha256(path), "bytes": os.stat(path).st_size}
            found.append(
                Track(
                    source=self.names[k],
                    path=path,
                    written=self.kept[k],
                    peak=float(stored.peaks[k]),
                    level_db=levels[k],
                    lufs=lufs[k],
                    activity=activity[place],
                    active=not silent[k],
                    curve=tuple(curves[place]),
                    query="".join(self.wish.queries[place : place + 1]),
                    presence=presence[place] if place < len(presence) else math.nan,
                    silenced=place in self.absent,
                    **facts,
                )
            )
        return tuple(found)


def separate_file(separator: Separator, job: Job, wish: Wish | None = None, watch: Watch | None = None) -> Record:
    """Separate one file into the outputs that the job names: all of them or, on a fault, none.

    Sources that would leave the range of an integer format are all turned down by one common gain, and what a query
    names and the whole does not hold is silent. Both are known only at the end of the file, so the file then goes
    through the model a second time; nothing else is kept in memory or on the disk.
    """
    begin, wish = time.monotonic(), wish or Wish()
    info = io.info(job.source, wish.how.track)
    heard = _Listener(separator, job, wish, info, watch)
    subtype = job.subtype or outputs.default_subtype(info, job.outputs[0].suffix)
    placed = [path for path in job.outputs if not os.path.lexists(path)]
    try:
        done = outputs.write_all(
            job.outputs,
            info.rate,
            heard.channels,
            subtype,
            heard.produce,
            overwrite=all(wish.replace(path) for path in job.outputs if os.path.lexists(path)),
            frames=info.frames,
            clip=wish.clip,
            wanted=heard.wanted,
            tags=metadata.of(job.source),
        )
        tracks = heard.tracks(job.outputs, done.stored)
        for track in tracks:
            if not track.written:  # what an earlier run wrote there belongs to no result of this one
                track.path.unlink(missing_ok=True)
        identity = Identity.of(job.source)
    except OSError as fault:
        _take_back(placed)
        if not guard.stops(fault):  # a sector of this recording, say, and not of the disk that all are written to
            raise
        raise IOFault(f"{io.show(job.file)}: {fault.strerror or fault}; nothing of it was kept") from fault
    except BaseException:
        _take_back(placed)
        raise
    null = heard.null(done)
    seconds = done.frames / info.rate
    return Record(
        file=job.file,
        source=job.source,
        relative=job.relative,
        tracks=tracks,
        frames=done.frames,
        rate=info.rate,
        channels=heard.channels,
        subtype=LOSSY.get(job.outputs[0].suffix.lower(), subtype),
        gain_db=round(done.gain_db, 6),
        missing_s=max(io.missing_s(job.source, wish.how.track), round((info.frames - done.frames) / info.rate, 3)),
        null_db=null.db,
        null_peak_db=null.peak_db,
        rtf=(time.monotonic() - begin) / seconds,
        seams=tuple(heard.trace.seams),
        step_s=heard.meter.curves()[0],
        identity=identity,
        settings=wish.settings,
        method=wish.method,
        lost=done.lost,
    )


def _take_back(paths: Iterable[Path]) -> None:
    for path in paths:
        if os.path.lexists(path):  # False, too, for a name that is too long to be asked for
            path.unlink(missing_ok=True)


def separate_files(
    separator: Separator,
    jobs: Iterable[Job],
    wish: Wish | None = None,
    *,
    overwrite: bool = False,
    watch: Watch | None = None,
    failed: Callable[[Job, UsepError], None],
) -> Iterator[Record]:
    """Yield a record per file; a file that fails is reported to `failed` and left out.

    IOFault (a full disk) ends everything: the next file would meet it too.
    """
    wish = wish or Wish(replace=lambda _: overwrite)
    for job in jobs:
        try:
            record = separate_file(separator, job, wish, watch)
        except Exception as error:
            failed(job, guard.fault(error, job.file))
        else:
            yield record
