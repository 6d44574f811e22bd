"""Separating many files: one record each, a bad one never stops the others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from usepcli.audio import io
from usepcli.engine import outputs
from usepcli.engine.jobs import Job
from usepcli.engine.separate import Separator, Watch
from usepcli.engine.stitch import Seam
from usepcli.errors import IOFault, UsepError


@dataclass(frozen=True)
class Record:
    """What became of one file.

    `gain_db` is the common gain of all its sources, 0 unless they would have clipped; `missing_s` is what the
    header of a WAV file promises beyond the samples that are there; `swaps` of the `seams` between chunks
    needed another source order.
    """

    file: str
    outputs: list[str]
    duration_s: float
    rate: int
    channels: int
    gain_db: float
    missing_s: float
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
    done = outputs.write_all(
        job.outputs, info.rate, info.channels, subtype, produce, overwrite=overwrite, frames=info.frames
    )
    seconds = done.frames / info.rate
    return Record(
        file=io.show(job.source),
        outputs=[io.show(path) for path in job.outputs],
        duration_s=seconds,
        rate=info.rate,
        channels=info.channels,
        gain_db=round(done.gain_db, 3),
        missing_s=_missing_s(job.source, info),
        rtf=(time.monotonic() - begin) / seconds,
        seams=len(seams),
        swaps=sum(seam.swapped for seam in seams),
    )


def _missing_s(path: Path, info: io.Info) -> float:
    """Return the seconds that a WAV file's header declares but the file lacks, as after a broken download."""
    layout = io.wav_layout(path)
    if layout is None or not layout.declared:
        return 0.0
    lost = layout.declared - (os.stat(path).st_size - layout.offset)
    frame = max(1, layout.channels * layout.bits // 8)
    return round(max(0, lost) / frame / info.rate, 3)


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
