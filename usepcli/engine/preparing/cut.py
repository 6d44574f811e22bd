"""The audio of a corpus that lies on disk in another form: mono copies, cut, added up and padded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from usepcli import guard
from usepcli.audio import io
from usepcli.audio.resample import resample
from usepcli.data.corpora.base import Bad
from usepcli.data.corpora.cutter import Job, Piece
from usepcli.data.manifest import Manifest, Row
from usepcli.data.render import quantise
from usepcli.engine.parallel import run_tasks
from usepcli.engine.preparing.prepared import Prepared
from usepcli.engine.preparing.prepared_folder import PreparedFolder
from usepcli.engine.shards import State
from usepcli.errors import BadInput, OutputError
from usepcli.report.progress import progress


@dataclass(frozen=True)
class CutTask:
    """Write the files of one job, from recordings under `source` to the folder `out`."""

    job: Job
    source: Path
    out: Path


def cut(
    jobs: Sequence[Job], folder: PreparedFolder, summary: Prepared, *, workers: int, overwrite: bool, quiet: bool
) -> list[Manifest]:
    """Write the files of all jobs and return their table; jobs with an unusable file are left out and told."""
    out = folder.path.resolve()
    source = folder.source if folder.source.is_dir() else folder.source.parent
    if summary.dry_run:
        for job in folder.share.of(jobs) if folder.share else jobs:
            summary.mixtures[job.row.split] = summary.mixtures.get(job.row.split, 0) + 1
        return []
    if out == source:
        raise OutputError(f"{io.show(out)}: holds the recordings themselves; choose another --out")
    folder.claim(overwrite, folder.merge)
    total, share = len(jobs), folder.share
    if folder.merge:
        _refuse_missing(jobs, folder)
    jobs = share.of(jobs) if share else jobs
    tasks = [CutTask(job, source, out) for job in jobs]
    rows: list[Row] = []
    results = progress(run_tasks(cut_files, tasks, workers), len(tasks), "clips", "clip", quiet)
    for job, (rate, frames, fault, kept) in zip(jobs, results, strict=True):
        if fault is not None:
            summary.bad.append(fault)
            continue
        summary.kept += kept
        rows.append(replace(job.row, sample_rate=rate, frames=frames))
        summary.mixtures[job.row.split] = summary.mixtures.get(job.row.split, 0) + 1
        summary.seconds[job.row.split] = summary.seconds.get(job.row.split, 0.0) + frames / rate
    if share:
        folder.end_share(summary.bad)
        summary.share = folder.state(total, "items").told(share, len(jobs) - summary.kept)
        return []
    if not rows:
        raise BadInput(f"{io.show(source)}: none of {len(jobs)} items can be used; the first: {summary.bad[0].reason}")
    return [Manifest(rows, out, out / Manifest.FILE)]


def _refuse_missing(jobs: Sequence[Job], folder: PreparedFolder) -> None:
    """BadInput where a --merge finds shares that are not at their end, or files that are gone."""
    folder.state(len(jobs), "items").refuse_gaps(folder.path)
    known = folder.unusable()
    there = {n for n, job in enumerate(jobs) if all((folder.path / name).exists() for name, _ in job.files)}
    lost = {n for n, job in enumerate(jobs) if any(piece.path in known for _, pieces in job.files for piece in pieces)}
    State("items", {n: n for n in range(len(jobs))}, there | lost, folder.shared_out()).refuse_gaps(folder.path)


def cut_files(task: CutTask) -> tuple[int, int, Bad | None, bool]:
    """Write the files of one job, the mixture last: (rate, samples, what cannot be used, whether all were there)."""
    job = task.job
    targets = [task.out / name for name, _ in job.files]
    if all(target.exists() for target in targets):
        header = io.info(targets[-1])
        return header.rate, header.frames, None, True
    waves: list[np.ndarray] = []
    rate = job.rate
    for _, pieces in job.files:
        total = np.zeros(0)
        for piece in pieces:
            try:
                wave, found = _stretch(piece, task.source)
                rate = rate or found
                wave = np.pad(resample(wave, found, rate), (round(piece.at_s * rate), 0))
            except Exception as error:
                return 0, 0, Bad(piece.path, guard.reason(error, task.source / piece.path)), False
            size = max(len(wave), len(total))
            total = np.pad(total, (0, size - len(total))) + np.pad(wave, (0, size - len(wave)))
        waves.append(total)
    frames = round(job.seconds * rate) or max(map(len, waves))
    parts = np.stack([np.pad(wave[:frames], (0, max(0, frames - len(wave)))) for wave in waves])
    summed = np.array([not pieces for _, pieces in job.files])
    codes = quantise(parts, parts.sum(axis=0) if summed.any() else parts[-1])
    codes[summed] = codes[~summed].sum(axis=0)
    for target, wave in zip(targets, codes.astype(np.int16), strict=True):
        io.write(target, wave, rate, overwrite=True)
    return rate, frames, None, False


def _stretch(piece: Piece, root: Path) -> tuple[np.ndarray, int]:
    """Return the samples (T,) of a piece and their rate; BadInput if there are none."""
    path = root / piece.path
    header = io.info(path)
    start = round(piece.start_s * header.rate)
    count = -1 if piece.end_s == float("inf") else round(piece.end_s * header.rate) - start
    if not count:
        raise BadInput(f"{io.show(path)}: {piece.start_s:g} to {piece.end_s:g} s holds no sample")
    if start >= header.frames:
        raise BadInput(f"{io.show(path)}: ends after {header.seconds:.2f} s, before {piece.start_s:g} s")
    if piece.channel < 0:
        return io.read_mono(path, start, count)
    wave, rate = io.read(path, start, count)
    if piece.channel >= len(wave):
        raise BadInput(f"{io.show(path)}: {len(wave)} channels, channel {piece.channel} (from 0) was asked for")
    return wave[piece.channel], rate
