"""How much a run makes of its data: the size of its batches, its steps, and what is to be said of both."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from usepcli.data import order
from usepcli.data.crops import CLIP_S, Deal, held, seconds
from usepcli.data.examples import DynamicMixtures, FixedMixtures
from usepcli.data.sampling import EpochBatches
from usepcli.errors import ConfigError
from usepcli.objectives.base import Objective

_BUCKET = 100
SHORTEST_S = 0.1  # of a segment in which there is anything to learn
LEAST_STEPS = 1000  # with fewer a network of any size has hardly begun
Examples = FixedMixtures | DynamicMixtures


def batch_size(profile: Any, objective: Objective, data: Examples, share: int) -> int:
    """Return train.batch_size, or the largest smaller one that the data fill and the objective takes.

    A batch holds no more items than an epoch, nor than the recordings hold segments side by side: more would hear the
    same twice.  share: ranks x accumulate, of which it is a multiple.  ConfigError where there is none, and where more
    than an epoch was asked for on the command line or by a variable.
    """
    wanted: int = profile.train.batch_size
    if wanted % share:
        raise ConfigError(f"train.batch_size: {wanted} is not a multiple of {share} (ranks x train.accumulate)")
    asked = profile.origin.get("train.batch_size", "").startswith(("--", "USEP_"))
    most = len(data) if asked else min(len(data), data.segments)
    if wanted <= most:
        objective.check(wanted // share)
        return wanted
    if asked:
        raise ConfigError(
            f"train.batch_size: {wanted} is more than the {most} mixtures of an epoch; ask for fewer, or for more of "
            "them with data.epoch_items"
        )
    for size in range(most - most % share, 0, -share):
        if _fits(objective, size // share):
            return size
    what = f"the training data, {data.n_files} recordings with {most} {_segments(profile)}"
    if len(data) < data.segments:
        what = f"an epoch, {len(data)} items of {data.n_files} recordings with {data.segments} {_segments(profile)}"
    raise ConfigError(
        f"train.batch_size: {wanted}, and {profile.objective['name']} takes no batch as small as {what}; "
        f"{_remedy(profile, objective, data, share)}"
    )


def _remedy(profile: Any, objective: Objective, data: Examples, share: int) -> str:
    """Return what to do where the data fill no batch: by the least batch that the objective takes."""
    sizes = range(share, profile.train.batch_size + 1, share)
    least = next((size for size in sizes if _fits(objective, size // share)), 0)
    todo = ["add recordings"]
    if isinstance(data, FixedMixtures) and data.segments >= least > len(data):
        todo = []
    elif isinstance(data, FixedMixtures) and least and profile.data.segment_s:
        lengths, segment = seconds(data.manifest.rows), profile.data.segment_s
        while held(lengths, segment).sum() < least and segment > SHORTEST_S:
            segment *= 0.9
        if segment > SHORTEST_S:
            todo.append(f"or lower data.segment_s to {math.floor(100 * segment) / 100:g} s")
    if least > len(data):
        todo.append(f"{'and then ' if todo else ''}set data.epoch_items, now {len(data)} an epoch, to {least} or more")
    if profile.train.accumulate > 1:
        todo.append(f"or lower train.accumulate ({profile.train.accumulate})")
    return ", ".join(todo)


def _fits(objective: Objective, size: int) -> bool:
    try:
        objective.check(size)
    except ConfigError:
        return False
    return True


def steps(profile: Any, per_epoch: int) -> int:
    """Return the number of optimiser steps in all."""
    whole: int = profile.train.epochs * per_epoch
    return min(whole, profile.train.max_steps) if profile.train.max_steps else whole


def notes(profile: Any, objective: Objective, data: Examples, batch: int, per_epoch: int) -> list[str]:
    """Return what a person should know of the amount before the first step, warnings marked as such."""
    t, lines = profile.train, list[str]()
    if batch != t.batch_size:
        lines.append(
            f"batches of {batch} in place of train.batch_size {t.batch_size}: {data.n_files} training recordings hold "
            f"{min(len(data), data.segments)} {_segments(profile)}"
        )
    if isinstance(data, FixedMixtures):
        lines += _of_recordings(profile, objective, data)
    total = steps(profile, per_epoch)
    if total < LEAST_STEPS and not objective.own:  # other parts than a network may be learned in few
        epochs = f"train.epochs (now {t.epochs}) or data.epoch_items (now {len(data)} an epoch)"
        more = f"train.max_steps (now {t.max_steps})" if 0 < t.max_steps <= total else epochs
        lines.append(
            f"warning: {total} steps in all are few, little is learned in fewer than {LEAST_STEPS}: raise {more}"
        )
    return lines


def padding(profile: Any, data: Examples, batches: EpochBatches) -> list[str]:
    """Return what is to be said of the silence in batches of whole utterances, in one line, or nothing."""
    asked = profile.data
    if asked.segment_s or not isinstance(data, FixedMixtures) or not isinstance(data.deal, Deal):
        return []
    lengths = seconds(data.manifest.rows)[data.deal.files(0)]
    if not lengths.all():
        return []
    chance = order.Order(len(data), profile.seed, data.deal.files)
    sizes = 0, batches.batch_size, batches.micro
    without = order.padded(lengths, chance(*sizes), batches.micro)
    line = (
        f"whole utterances of {lengths.min():.1f} to {lengths.max():.1f} s: {100 * without:.0f} % of what a batch holds"
    )
    line += " is silence behind shorter ones"
    if asked.bucket:
        assert batches.order is not None
        now = order.padded(lengths, batches.order(*sizes), batches.micro)
        return [f"{line} without data.bucket, {100 * now:.0f} % with data.bucket: {asked.bucket}"]
    sorted_ = order.Order(len(data), profile.seed, data.deal.files, lengths=lengths, bucket=_BUCKET)
    now = order.padded(lengths, sorted_(*sizes), batches.micro)
    return [f"{line}; with data.bucket: {_BUCKET} it would be {100 * now:.0f} %"]


def _segments(profile: Any) -> str:
    segment_s = profile.data.segment_s
    return f"segments of {segment_s:g} s" if segment_s else "whole utterances"


def _of_recordings(profile: Any, objective: Objective, data: FixedMixtures) -> list[str]:
    lengths, lines = seconds(data.manifest.rows), list[str]()
    if profile.data.segment_s and lengths.max() > CLIP_S and (data.weights == 1).all():
        lines.append(
            f"each recording, of up to {lengths.max():.0f} s, is one item of an epoch (data.crops: "
            f"{profile.data.crops}); with data.crops: length it would be as many as it holds segments"
        )
    largest = float(data.weights.max() / data.weights.sum())
    if largest > 0.5 and "sources" not in objective.needs:
        row = data.manifest.rows[int(np.argmax(data.weights))]
        lines.append(
            f"{row.id} is {100 * largest:.0f} % of the training data: mixtures that meet in a batch are often two "
            "stretches of it, and what is heard in both may not be told apart; add other recordings"
        )
    return lines
