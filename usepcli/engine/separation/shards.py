"""Sharing a batch of files among machines: which files are a share's, by their names, and whose tables are there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from usepcli.engine import shards
from usepcli.engine.separation.jobs import Job
from usepcli.engine.shards import Shard, State


def holds(share: Shard, job: Job) -> bool:
    """True if the file is the share's: the same one in every order, and however many others there are."""
    return share.has(number(job))


def number(job: Job) -> int:
    """Return the number by which a file is shared out: that of its name."""
    return shards.number(os.fsencode(job.relative) + os.fsencode(job.source.suffix))


def state(plan: Iterable[Job], todo: Iterable[Job], folder: Path) -> State:
    """Return how much of a plan is there, when these files are not."""
    left = {job.file for job in todo}
    items = {job.file: number(job) for job in plan}
    counts = frozenset(share.count for share in shards.parts(folder, "outputs", ".csv").values())
    return State("files", items, items.keys() - left, counts)


def of(share: Shard, jobs: Iterable[Job]) -> list[Job]:
    """Return a share's jobs."""
    return [job for job in jobs if holds(share, job)]


def parts(folder: Path) -> list[Path]:
    """Return the tables of outputs that shares left in a folder, the one written last at the end."""
    return sorted(shards.parts(folder, "outputs", ".csv"), key=lambda path: (path.stat().st_mtime_ns, path.name))


def lacking(tables: Iterable[Path]) -> str:
    """Return in words which shares have no table among these, '' where all have one."""
    known = {path: share for path in tables for share in [shards.parts(path.parent, "outputs", ".csv").get(path)]}
    absent = shards.lacking(share for share in known.values() if share)
    return f"no table of share {absent} yet" if absent else ""
