"""What a training would take: sizes, steps, memory and time, from the profile and three measured steps."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any

import torch

from usepcli import device
from usepcli.data import words
from usepcli.data.batch import Batch, collate
from usepcli.data.crops import seconds
from usepcli.engine.training import beginning, look, parts, valid_split
from usepcli.engine.training.feed import Feed
from usepcli.models.queried import Model
from usepcli.objectives.base import Objective, Shared
from usepcli.objectives.supervised import Place
from usepcli.profile.schema import BLIND
from usepcli.weights import build


def _nothing(line: str) -> None:
    del line


def plan(profile: Any, say: Callable[[str], None] = _nothing) -> dict[str, Any]:
    """Return the facts that `usep train --dry-run` prints; nothing is written.

    All that a run would begin with is built, so that it fails as the run would, and say is told what the run would say.
    Time and memory come from three steps on noise of the profile's segment length, on this machine; words cannot be
    made of noise: an objective that needs them is measured on the first training items.
    """
    t = profile.train
    threads = device.set_threads(t.threads)
    device.keep_heap()
    where = device.pick(t.device)
    torch.manual_seed(profile.seed)
    student = build.model(profile.model)
    anew = beginning.first_weights(profile, student)
    objective = parts.objective(profile, student)
    anew += beginning.first_parts(profile, objective)
    beginning.stored_models(profile, objective)
    objective = objective.to(where)
    anew += beginning.compiled(profile, student, where)
    objective.place = Place(parts=t.accumulate)
    feed = Feed(profile, objective, student.sample_rate, 0, 1, say)
    objective.on_start(feed.steps_per_epoch)
    objective.total_steps = feed.total
    split, choice = valid_split.settle(profile, student)
    seen = look.look(profile, feed.data, student.sample_rate, None if choice.metric in BLIND else split.references)
    for line in (*anew, *feed.notes, *objective.notes(), *choice.notes, *seen):
        say(line)
    parameters = sum(p.numel() for m in objective.groups().values() for p in m.parameters())
    step_s = _measure(_batch(profile, objective, student, feed).to(where), objective, t.accumulate, where)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if where.type == "cuda":
        peak = torch.cuda.max_memory_allocated(where) / 2**20
    return {
        "profile": profile.name,
        "model": profile.model["name"],
        "objective": profile.objective["name"],
        "parameters": parameters,
        "sample_rate": student.sample_rate,
        "outputs": student.n_src or "by query",
        "gflop_per_s_of_audio": round(student.flops_per_second() / 1e9, 3),
        "training_items": len(feed.data),
        "batch": f"{feed.batch_size} x {profile.data.segment_s or round(_longest_s(feed), 1)} s",
        "steps_per_epoch": feed.steps_per_epoch,
        "steps": feed.total,
        "device": str(where),
        "threads": threads,
        "seconds_per_step": round(step_s, 3),
        "hours": round(feed.total * step_s / 3600, 2),
        "peak_memory_mib": round(peak),
        "checkpoint_mib": round((3 + (t.ema > 0)) * 4 * parameters / 2**20, 1),
    }


def _batch(profile: Any, objective: Objective, student: Model, feed: Feed) -> Batch:
    """Return a micro-batch of noise, or of the data themselves for an objective that needs words."""
    t, frames = profile.train, round((profile.data.segment_s or _longest_s(feed)) * student.sample_rate)
    rows = feed.batch_size // t.accumulate
    if words.needed(objective.needs):
        return collate([feed.data[0, i % len(feed.data)] for i in range(rows)])
    # As many as the data have, where an output is kept for what they leave of the mixture.
    n_refs = max(min(student.n_src, feed.data.most_sources), 1)
    sources = torch.randn(rows, n_refs, frames) * 0.1 if "sources" in objective.needs else None
    mix = torch.randn(rows, frames) * 0.1 if sources is None else sources.sum(1)
    return Batch(mix, sources, [str(i) for i in range(rows)])


def _longest_s(feed: Feed) -> float:
    """Return the length of the longest whole utterance: the batch that takes the most."""
    return float(seconds(feed.data.manifest.rows).max()) or 1.0


def _measure(batch: Batch, objective: Objective, accumulate: int, where: torch.device) -> float:
    """Return seconds of a whole step: the shortest of three, so that first-use costs do not count."""
    taken = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        shared = Shared(accumulate == 1, Place(parts=accumulate))
        for step in objective.steps():
            torch.stack(list(step.terms(batch, shared).losses.values())).sum().backward()
        if where.type == "cuda":
            torch.cuda.synchronize(where)
        taken = min(taken, (time.perf_counter() - started) * accumulate)
    return taken
