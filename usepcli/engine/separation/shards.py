"""Sharing a batch of files among machines: which files are a share's, by their names, and whose tables are there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from usepcli.engine import shards
from usepcli.engine.separation.jobs import Job
from usepcli.engine.separation.source import Source, suffix_of
from usepcli.engine.shards import Shard, State

Laid = tuple[list[Job], list[Job]]


def holds(share: Shard, one: Job | Source) -> bool:
    """True if the file is the share's: the same one in every order, and however many others there are.

    Tars are shared out whole where there is one for every share, so that nobody reads another's.
    """
    return share.has(number(one, share.count))


def number(one: Job | Source, count: int) -> int:
    """Return the number by which a file is shared out in so many shares: that of its name, or of its tar."""
    if one.tar is not None and count <= one.tar[1]:
        return one.tar[0]
    text, under = (one.text, one.under) if isinstance(one, Source) else (os.fspath(one.source), one.relative)
    return shards.number(os.fsencode(under) + os.fsencode(suffix_of(text)))


def state(plan: Iterable[Job], todo: Iterable[Job], folder: Path) -> State:
    """Return how much of a plan is there, when these files are not."""
    left = {job.file for job in todo}
    counts = frozenset(share.count for share in shards.parts(folder, "outputs", ".csv").values())
    items = {job.file: number(job, max(counts, default=1)) for job in plan}
    return State("files", items, items.keys() - left, counts)


def of(share: Shard, jobs: Iterable[Job]) -> list[Job]:
    """Return a share's jobs."""
    return [job for job in jobs if holds(share, job)]


def planned(
    sources: Sequence[Source], share: Shard | None, lay_out: Callable[[Callable[[Source], bool]], Laid], whole: bool
) -> Laid:
    """Return the jobs of a share, or of all files, and those that it has to know of: of its rivals, `whole`: of all.

    lay_out: as `jobs.lay_out_some`, told which files are wanted.
    """
    if not share or whole:
        everyone, _ = lay_out(lambda _: True)
        return of(share, everyone) if share else everyone, everyone
    mine, rivals = lay_out(partial(holds, share))
    if not rivals:
        return mine, mine
    place = {source.text: n for n, source in enumerate(sources)}
    return mine, sorted([*mine, *rivals], key=lambda job: place[os.fspath(job.source)])


def parts(folder: Path) -> list[Path]:
    """Return the tables of outputs that shares left in a folder, the one written last at the end."""
    return sorted(shards.parts(folder, "outputs", ".csv"), key=lambda path: (path.stat().st_mtime_ns, path.name))


def lacking(tables: Iterable[Path]) -> str:
    """Return in words which shares have no table among these, '' where all have one."""
    known = {path: share for path in tables for share in [shards.parts(path.parent, "outputs", ".csv").get(path)]}
    absent = shards.lacking(share for share in known.values() if share)
    return f"no table of share {absent} yet" if absent else ""
