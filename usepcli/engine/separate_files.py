"""Separating many files: one record each, a bad one never stops the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from usepcli.audio import io
from usepcli.engine import outputs
from usepcli.engine.jobs import Job
from usepcli.engine.separate import Separator, Watch
from usepcli.engine.stitch import Seam
from usepcli.errors import IOFault, UsepError


@dataclass(frozen=True)
class Record:
    """What became of one file; `gain_db` is the common gain of all its sources, 0 unless they would have clipped."""

    file: str
    outputs: list[str]
    duration_s: float
    rate: int
    channels: int
    gain_db: float
    rtf: float
    seams: int
    swaps: int


def separate_file(separator: Separator, job: Job, overwrite: bool = False, watch: Watch | None = None) -> Record:
    """Separate one file into the outputs that the job names.

    Sources that would leave the range of an integer format are all turned down by one common gain. This is
    known only at the end of the file, so the file then goes through the model a second time; nothing else
    is kept in memory or on the disk.
    """
    begin, seams = time.monotonic(), list[Seam]()
    info = io.info(job.source)

    def produce() -> Iterator[np.ndarray]:
        seams.clear()
        return separator.file(job.source, seams, watch)

    subtype = job.subtype or outputs.default_subtype(info, job.outputs[0].suffix)
    done = outputs.write_all(job.outputs, info.rate, info.channels, subtype, produce, overwrite=overwrite)
    seconds = done.frames / info.rate
    return Record(
        io.show(job.source), [io.show(path) for path in job.outputs], seconds, info.rate, info.channels,
        round(done.gain_db, 3), (time.monotonic() - begin) / seconds, len(seams), sum(s.swapped for s in seams),
    )  # fmt: skip


def separate_files(
    separator: Separator,
    jobs: Iterable[Job],
    *,
    overwrite: bool = False,
    watch: Watch | None = None,
    failed: Callable[[Job, UsepError], None],
) -> Iterator[Record]:
    """Yield a record per file; a file that fails is reported to `failed` and left out.

    IOFault (a full disk) ends everything: the next file would meet it too.
    """
    for job in jobs:
        try:
            yield separate_file(separator, job, overwrite, watch)
        except IOFault:
            raise
        except UsepError as fault:
            failed(job, fault)
