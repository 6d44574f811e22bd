"""What a training would take: sizes, steps, memory and time, from the profile and three measured steps."""

from __future__ import annotations

import resource
import time
from typing import Any

import torch

from usepcli import device
from usepcli.data import words
from usepcli.data.batch import Batch, collate
from usepcli.data.examples import DynamicMixtures, FixedMixtures
from usepcli.data.sampling import EpochBatches
from usepcli.engine.training import parts
from usepcli.models.queried import Model
from usepcli.objectives.base import Objective, Shared
from usepcli.objectives.supervised import Place
from usepcli.weights import build


def plan(profile: Any) -> dict[str, Any]:
    """Return the facts that `usep train --dry-run` prints; nothing is written.

    Time and memory come from three steps on noise of the profile's segment length, on this machine; words cannot be
    made of noise: an objective that needs them is measured on the first training items.
    """
    t = profile.train
    threads = device.set_threads(t.threads)
    device.keep_heap()
    where = device.pick(t.device)
    torch.manual_seed(profile.seed)
    student = build.model(profile.model)
    objective = parts.objective(profile, student).to(where)
    objective.place = Place(parts=t.accumulate)
    objective.check(t.batch_size // t.accumulate)
    data = parts.training_data(profile, student.sample_rate, objective.needs)
    per_epoch = EpochBatches(len(data), t.batch_size, t.accumulate, profile.seed).steps_per_epoch
    steps = min(per_epoch * t.epochs, t.max_steps or per_epoch * t.epochs)
    parameters = sum(p.numel() for m in objective.groups().values() for p in m.parameters())
    step_s = _measure(_batch(profile, objective, student, data).to(where), objective, t.accumulate, where)
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
        "training_items": len(data),
        "batch": f"{t.batch_size} x {profile.data.segment_s} s",
        "steps_per_epoch": per_epoch,
        "steps": steps,
        "device": str(where),
        "threads": threads,
        "seconds_per_step": round(step_s, 3),
        "hours": round(steps * step_s / 3600, 2),
        "peak_memory_mib": round(peak),
        "checkpoint_mib": round((3 + (t.ema > 0)) * 4 * parameters / 2**20, 1),
    }


def _batch(profile: Any, objective: Objective, student: Model, data: FixedMixtures | DynamicMixtures) -> Batch:
    """Return a micro-batch of noise, or of the data themselves for an objective that needs words."""
    t, frames = profile.train, round(profile.data.segment_s * student.sample_rate)
    rows = t.batch_size // t.accumulate
    if words.needed(objective.needs):
        return collate([data[0, i % len(data)] for i in range(rows)])
    n_refs = max(student.n_src, 1)
    sources = torch.randn(rows, n_refs, frames) * 0.1 if "sources" in objective.needs else None
    mix = torch.randn(rows, frames) * 0.1 if sources is None else sources.sum(1)
    return Batch(mix, sources, [str(i) for i in range(rows)])


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
