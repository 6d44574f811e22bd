"""The audio of a corpus of single recordings: pools of resampled ones, and the mixtures made from them."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from usepcli import guard
from usepcli.audio import io
from usepcli.audio.resample import length_after, resample
from usepcli.data.corpora.base import CLOSED, OPEN, SPLITS, Bad
from usepcli.data.corpora.maker import Maker, Plans
from usepcli.data.manifest import Manifest, Pool, PoolRow, Row
from usepcli.data.mixtures import Ahead, Plan
from usepcli.engine.parallel import run_tasks
from usepcli.engine.preparing.prepared import Prepared
from usepcli.engine.preparing.prepared_folder import PreparedFolder
from usepcli.engine.shards import Shard, State
from usepcli.errors import BadInput, MissingDependency, OutputError
from usepcli.report.progress import progress

_HEADER = 44  # bytes of a PCM WAV before its samples


@dataclass(frozen=True)
class PoolTask:
    """Turn one recording into one pool file; a room response keeps its level, and its first channel alone."""

    source: Path
    target: Path
    rate: int
    frames: int  # that the recording's header promised
    response: bool = False


@dataclass(frozen=True)
class MixTask:
    """Make the files of one mixture from pool files under `root`."""

    plan: Plan
    root: Path
    rate: int


@dataclass(frozen=True)
class AheadTask:
    """Make one file under `root` that several mixtures share."""

    file: Ahead
    root: Path
    rate: int


@dataclass(frozen=True)
class Pools:
    """What a corpus found: recordings under the source, noise and room responses under folders of their own."""

    rows: list[PoolRow]
    noise_root: Path
    noise: list[PoolRow]
    rooms_root: Path
    rooms: list[PoolRow]


def make(
    corpus: Maker,
    pools: Pools,
    folder: PreparedFolder,
    summary: Prepared,
    *,
    workers: int,
    overwrite: bool,
    quiet: bool,
) -> list[Manifest | Pool]:
    """Write pool, noise and mixtures under folder.path and return the tables; in a dry run only count."""
    out = folder.path.resolve()
    others = [(pools.noise, pools.noise_root), (pools.rooms, pools.rooms_root)]
    _outside(out, folder.source, *(root.resolve() for rows, root in others if rows))
    summary.bad += folder.share.of(corpus.bad) if folder.share else corpus.bad
    if summary.dry_run:
        return _dry(corpus, pools, summary, folder.share)
    folder.tools.update(corpus.tools())
    _planners(corpus, pools.rows, pools.noise, pools.rooms)  # what cannot be planned is told before anything is written
    folder.claim(overwrite, folder.merge)
    rate = corpus.rate
    total = sum(corpus.counts.values())
    if folder.merge:
        folder.state(total, "mixtures").refuse_gaps(folder.path)
    pool = _fill(pools.rows, folder.source, folder, "pool", rate, summary, workers, quiet)
    noise = _fill(pools.noise, pools.noise_root, folder, "noise", rate, summary, workers, quiet)
    rooms = _fill(pools.rooms, pools.rooms_root, folder, "rooms", rate, summary, workers, quiet)
    if pools.rows and not pool:
        reason = summary.bad[0].reason
        raise BadInput(
            f"{io.show(folder.source)}: none of {len(pools.rows)} recordings can be used; the first: {reason}"
        )
    plans = _plans(corpus, pool, noise, rooms)
    plans = list(folder.share.of(plans)) if folder.share else plans
    before = summary.kept
    plans = _mix(plans, folder, rate, summary, workers, quiet)
    _count(summary, pool, plans, rate)
    if folder.share:
        folder.end_share(summary.bad)
        did = len(plans) - (summary.kept - before)
        summary.share = folder.state(total, "mixtures").told(folder.share, max(did, 0))
        return []
    if noise:  # a pool of its own, so that dynamic mixing can name the folder
        inside = [replace(row, path=row.path.removeprefix("noise/")) for row in noise]
        Pool(inside, out / "noise", out / "noise" / Pool.FILE).write()
    told = CLOSED in corpus.counts
    rows = [_row(plan, rate, told) for plan in plans]
    if not corpus.stems or corpus.supervised:  # what the mixtures were made of is not to be read beside them
        shutil.rmtree(out / "pool", ignore_errors=True)
        return [Manifest(rows, out, out / Manifest.FILE)]
    return [Manifest(rows, out, out / Manifest.FILE), Pool(pool, out, out / Pool.FILE), *_twins(plans, rows, out)]


def _outside(out: Path, source: Path, *others: Path) -> None:
    """OutputError where a folder lies among the recordings, which would be taken for recordings next time."""
    tree = source if source.is_dir() else source.parent
    for place in (source, *(other for other in others if other != tree)):
        if out.is_relative_to(place):
            raise OutputError(
                f"{io.show(out)}: lies inside the recordings; choose a folder outside of {io.show(place)}"
            )


def _twins(plans: Sequence[Plan], rows: Sequence[Row], out: Path) -> list[Manifest]:
    """Return the tables beside the manifest that list the same mixtures in another sound, under the same ids."""
    listed: dict[str, list[Row]] = {}
    for plan, row in zip(plans, rows, strict=True):
        for name, twin in plan.twins().items():
            place = _folder(plan)
            sources = tuple(f"{place}/{source}" for source in twin.sources)
            listed.setdefault(name, []).append(replace(row, mixture=f"{place}/{twin.mixture}", sources=sources))
    return [Manifest(found, out, out / name) for name, found in listed.items()]


def _mix(
    plans: Sequence[Plan], folder: PreparedFolder, rate: int, summary: Prepared, workers: int, quiet: bool
) -> list[Plan]:
    """Write the files of all mixtures; return the plans of those that could be made."""
    out = folder.path.resolve()
    if folder.merge:
        there = [n for n, plan in enumerate(plans) if _there(plan, out)]
        known = folder.unusable()
        done = {*there, *(n for n, plan in enumerate(plans) if _folder(plan) in known)}
        State("mixtures", {n: n for n in range(len(plans))}, done, folder.shared_out()).refuse_gaps(out)
    shared = {file.name: file for plan in plans for file in plan.ahead()}
    if shared:
        rooms = [AheadTask(file, out, rate) for file in shared.values()]
        summary.kept += sum(progress(run_tasks(ahead_file, rooms, workers, 1), len(rooms), "rooms", "room", quiet))
    _load.cache_clear()
    tasks = [MixTask(plan, out, rate) for plan in plans]
    made = []
    results = progress(run_tasks(mix_files, tasks, workers), len(tasks), "mixtures", "mixture", quiet or not tasks)
    for plan, (fault, kept) in zip(plans, results, strict=True):
        summary.kept += kept
        if fault:
            summary.bad.append(Bad(_folder(plan), fault))
        else:
            made.append(plan)
    if plans and not made and not folder.share:
        raise BadInput(
            f"{io.show(out)}: none of {len(plans)} mixtures can be made; the first: {summary.bad[-1].reason}"
        )
    return made


def pool_file(task: PoolTask) -> tuple[int, str, bool]:
    """Make one pool file, mono PCM16; returns (samples, '' or why not, whether it was there already)."""
    if task.target.exists():
        frames = io.info(task.target).frames if task.response else (task.target.stat().st_size - _HEADER) // 2
        return frames, "", True
    try:
        layout = io.wav_layout(task.source)
        if layout and layout.declared and layout.offset + layout.declared > task.source.stat().st_size:
            return 0, "cut short: the header promises more samples than the file holds", False
        wave, rate = _first_channel(task.source) if task.response else io.read_mono(task.source)
        whole = resample(wave, rate, task.rate)
    except Exception as error:
        return 0, guard.reason(error, task.source, (OutputError,)), False
    if len(wave) < 0.99 * task.frames:
        return 0, f"cut short: {len(wave)} of {task.frames} samples can be decoded", False
    peak = float(np.abs(wave).max())
    if not peak:
        return 0, "silent: every sample is zero", False
    if task.response:
        io.write(task.target, whole, task.rate, "FLOAT", overwrite=True)
        return len(whole), "", False
    # Resampling overshoots where a recording touches full scale; a talker's level is free, a clipped peak is
    # not.
    io.write(task.target, whole / max(1.0, float(np.abs(whole).max())), task.rate, overwrite=True)
    return len(whole), "", False


def _first_channel(path: Path) -> tuple[np.ndarray, int]:
    wave, rate = io.read(path)
    return wave[0], rate


def ahead_file(task: AheadTask) -> bool:
    """Write a file that several mixtures share; True if it was there already."""
    return task.file.make(task.root, task.rate)


def mix_files(task: MixTask) -> tuple[str, bool]:
    """Write the files of one mixture, mix.wav last: ('' or why they cannot be made, whether all were there)."""
    try:
        return "", _mixed(task)
    except Exception as error:
        return guard.reason(error, task.plan.id, (OutputError, MissingDependency)), False


def _mixed(task: MixTask) -> bool:
    plan, folder = task.plan, task.root / _folder(task.plan)
    names = plan.files()
    if _there(plan, task.root):
        return True

    def load(path: str) -> np.ndarray:
        return _load(str(task.root / path))

    for name, wave in zip(names, plan.waves(task.rate, task.root, load), strict=True):
        io.write(folder / name, wave, task.rate, overwrite=True)
    return False


@functools.lru_cache(maxsize=512)
def _load(path: str) -> np.ndarray:
    return np.rint(io.read_mono(path)[0] * 32768).astype(np.int16)


def _there(plan: Plan, root: Path) -> bool:
    return all(_finished(root / _folder(plan) / name, plan.frames) for name in plan.files())


def _finished(path: Path, frames: int) -> bool:
    try:
        return os.stat(path).st_size == _HEADER + 2 * frames
    except OSError:
        return False


def _folder(plan: Plan) -> str:
    return f"wav/{plan.split}/{plan.id}"


def _fill(
    rows: list[PoolRow],
    source: Path,
    folder: PreparedFolder,
    name: str,
    rate: int,
    summary: Prepared,
    workers: int,
    quiet: bool,
) -> list[PoolRow]:
    """Make the pool files and return their rows, without the recordings that turned out unusable.

    No mixture can be planned before the whole pool is known, so a share makes all files that no other one has made,
    its own first: shares that run together divide the pool between them, and none waits for another.
    """
    root = source if source.is_dir() else source.parent
    if not rows:
        return []
    out, share = folder.path.resolve(), folder.share
    first = (share.index - 1) * len(rows) // share.count if share else 0
    order = [*range(first, len(rows)), *range(first)]
    tasks = [
        PoolTask(root / rows[n].path, out / name / f"{rows[n].id}.wav", rate, rows[n].frames, name == "rooms")
        for n in order
    ]
    filled: dict[int, PoolRow] = {}
    bad: dict[int, Bad] = {}
    results = run_tasks(pool_file, tasks, workers)
    for n, (frames, fault, kept) in zip(order, progress(results, len(tasks), name, "file", quiet), strict=True):
        summary.kept += kept
        if fault:
            bad[n] = Bad(rows[n].path, fault)
        else:
            filled[n] = replace(rows[n], path=f"{name}/{rows[n].id}.wav", sample_rate=rate, frames=frames)
    summary.bad += [bad[n] for n in sorted(bad) if not share or share.has(n)]  # others tell of theirs
    return [filled[n] for n in sorted(filled)]


def _plans(corpus: Maker, pool: list[PoolRow], noise: list[PoolRow], rooms: list[PoolRow]) -> list[Plan]:
    planners = _planners(corpus, pool, noise, rooms)
    return [planner.plan(i) for split, planner in planners.items() for i in range(corpus.counts[split])]


def _planners(corpus: Maker, pool: list[PoolRow], noise: list[PoolRow], rooms: list[PoolRow]) -> dict[str, Plans]:
    """Return the plans of every split that gets mixtures; BadInput where its recordings do not suffice."""
    found = {}
    for index, split in enumerate((*SPLITS, CLOSED)):
        if not corpus.counts.get(split):
            continue
        noises = [row for row in noise if row.split == ("test" if split == CLOSED else split)]
        if corpus.noise and noise and not noises:
            raise BadInput(f"{corpus.noise}: no noise recording belongs to split {split}; add some or pass --{split} 0")
        rows = [row for row in pool if row.split == split]
        found[split] = corpus.planner(split, rows, noises, index, [row for row in rooms if row.split == split])
    return found


def _dry(corpus: Maker, pools: Pools, summary: Prepared, share: Shard | None) -> list[Manifest | Pool]:
    rate = corpus.rate
    pool, noise, rooms = (
        [replace(row, sample_rate=rate, frames=length_after(row.frames, row.sample_rate, rate)) for row in rows]
        for rows in (pools.rows, pools.noise, pools.rooms)
    )
    plans = _plans(corpus, pool, noise, rooms)
    plans = list(share.of(plans)) if share else plans
    _count(summary, pool, plans, rate)
    samples = sum(row.frames for row in [*pool, *noise, *rooms, *rooms])  # responses have four bytes
    samples += sum(plan.frames * len(plan.files()) for plan in plans)
    summary.mebibytes = round(2 * samples / 2**20, 1)
    return []


def _count(summary: Prepared, pool: list[PoolRow], plans: list[Plan], rate: int) -> None:
    for plan in plans:
        summary.mixtures[plan.split] = summary.mixtures.get(plan.split, 0) + 1
        summary.seconds[plan.split] = summary.seconds.get(plan.split, 0.0) + plan.frames / rate
    for split in dict.fromkeys(row.split for row in pool):
        rows = [row for row in pool if row.split == split]
        summary.utterances[split] = len(rows)
        summary.talkers[split] = len({row.speaker for row in rows if row.speaker})


def _row(plan: Plan, rate: int, told: bool = False) -> Row:
    """Return the row of a mixture; told: with the condition that its talkers are in."""
    split = "test" if plan.split == CLOSED else plan.split
    folder = _folder(plan)
    return Row(
        id=plan.id,
        split=split,
        mixture=f"{folder}/mix.wav",
        sources=tuple(f"{folder}/s{k + 1}.wav" for k in range(len(plan.turns))) if plan.stems else (),
        noise=f"{folder}/noise.wav" if plan.noise else "",
        sample_rate=rate,
        frames=plan.frames,
        n_src=len(plan.turns),
        speakers=tuple(turn.speaker.replace(";", "_") for turn in plan.turns if turn.speaker),
        text="|".join(turn.text.replace("|", " ") for turn in plan.turns) if any(t.text for t in plan.turns) else "",
        label=plan.label,
        origin=" + ".join(plan.origins),
        licence=" + ".join(plan.licences),
        queries=tuple(turn.query for turn in plan.turns) if any(turn.query for turn in plan.turns) else (),
        caption=plan.caption,
        phrases=plan.phrases,
        condition=(CLOSED if plan.split == CLOSED else OPEN) if told and split == "test" else "",
    )
