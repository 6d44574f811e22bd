"""From a profile's sections to what a training needs: objective, examples, optimisers."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from usepcli import device, registry
from usepcli.audio import io
from usepcli.data import crops
from usepcli.data.echoes import echoes
from usepcli.data.examples import DynamicMixtures, FixedMixtures
from usepcli.data.kept import Kept
from usepcli.data.known import Halves, Split
from usepcli.data.manifest import Manifest, Pool, PoolRow
from usepcli.data.order import Order, shards, whole_only
from usepcli.data.shots import few
from usepcli.errors import ConfigError
from usepcli.models.queried import Model, QueriedModel
from usepcli.objectives.base import Objective

CACHE_BYTES = 4 << 30  # of decoded audio at most, on one machine; half of its memory where that is less


def objective(profile: Any, student: Model) -> Objective:
    """Build the profile's objective around a model, with the profile's loss inside.

    ConfigError where one of them separates by query and the other does not.
    """
    loss = registry.load("loss", profile.loss["name"])(**_options(profile.loss))
    kind = registry.load("objective", profile.objective["name"])
    if kind.asks != isinstance(student, QueriedModel):
        one, other = ("by query", "without any") if kind.asks else ("without queries", "by query")
        raise ConfigError(
            f"objective.name: {profile.objective['name']} trains models that separate {one}, and model.name "
            f"{profile.model['name']} separates {other}; choose another of the two"
        )
    built: Objective = kind(student, loss, **_options(profile.objective))
    built.takes(profile.data.segment_s)
    return built


def _options(section: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in section.items() if k != "name"}


def training_data(
    profile: Any, rate: int, needs: Collection[str], split: Split | None = None
) -> FixedMixtures | DynamicMixtures:
    """Build the training examples that `data` describes; ConfigError where they lack what an objective needs.

    split: of some items alone the sources are read.
    """
    data = profile.data
    if data.mixing == "dynamic":
        return _dynamic(profile, rate, needs)
    if not data.manifest:
        raise ConfigError(
            "data.manifest: empty, a manifest.csv or its folder was expected; run usep prepare-data first"
        )
    rows = Manifest.read(data.manifest).split(data.train_split)
    if not len(rows.rows):
        raise ConfigError(f"data.train_split: no row of {data.manifest} has split '{data.train_split}'")
    if data.phrases and "phrases" not in needs:
        raise ConfigError(
            f"data.phrases: found {data.phrases}; expected 0, since objective {profile.objective['name']} reads none"
        )
    if data.shots:
        rows = rows.some(few(rows.rows, data.shots, profile.seed))
    sources = "sources" in needs
    how: tuple[Any, ...] = (kept(profile), needs, data.epoch_items, data.crops, data.channels, data.phrases, split)
    return FixedMixtures(rows, rate, data.segment_s, profile.seed, sources, *how)


def order(profile: Any, data: FixedMixtures | DynamicMixtures) -> Callable[[int, int, int], np.ndarray] | None:
    """Return the order that `data.order` and `data.bucket` ask for, None for chance; ConfigError where it cannot be."""
    asked = profile.data
    if isinstance(data.deal, Halves):
        if asked.order != "shuffle" or asked.bucket:
            raise ConfigError(
                f"data.{'bucket' if asked.bucket else 'order'}: objective {profile.objective['name']} puts items with "
                "sources and items without into every batch by chance; set data.order: shuffle and data.bucket: 0"
            )
        return data.deal.order
    if asked.order == "shuffle" and not asked.bucket:
        return None
    assert isinstance(data, FixedMixtures) and data.deal is not None  # profile/unread.py
    lengths = crops.seconds(data.manifest.rows)
    whole_only(lengths, asked.segment_s, asked.bucket)
    numbers = shards(data.manifest) if asked.order == "shards" else None
    near = asked.shard_window, asked.shard_reach
    return Order(len(data), profile.seed, data.deal.files, numbers, *near, lengths, asked.bucket)


def _dynamic(profile: Any, rate: int, needs: Collection[str]) -> DynamicMixtures:
    data = profile.data
    if not data.segment_s:
        raise ConfigError("data.segment_s: 0 takes whole utterances, which data.mixing: dynamic does not; name seconds")
    if not data.pool:
        raise ConfigError("data.pool: empty, at least one pool.csv was expected for data.mixing: dynamic")
    pools = [Pool.read(path).split(data.train_split) for path in data.pool]
    lengths = np.concatenate([crops.seconds(pool.rows) for pool in pools])
    return DynamicMixtures(
        pools,
        rate,
        data.segment_s,
        profile.seed,
        data.epoch_items or int(crops.weights(lengths, data.segment_s, data.crops).sum()),
        data.talkers,
        data.min_talkers,
        data.fewer_prob,
        data.talker_power,
        data.level_db,
        data.speeds,
        data.join_prob,
        data.response_db,
        noise_pool(data.noise, data.train_split) if data.noise else None,
        (data.noise_snr_db[0], data.noise_snr_db[1]),
        data.noise_prob,
        data.noises,
        echoes(Path(data.rooms), data.train_split, rate, profile.seed) if data.rooms else None,
        data.rooms_prob,
        (data.low_pass_hz[0], data.low_pass_hz[1]),
        data.low_pass_prob,
        kept(profile),
        needs,
        data.crops != "one",
        data.channels,
    )


def kept(profile: Any) -> Kept | None:
    """Return the memory that decoded audio stays in, for all data workers together; None without data.cache."""
    if not profile.data.cache:
        return None
    ranks = max(1, int(os.environ.get("LOCAL_WORLD_SIZE") or 1))  # as torchrun sets it
    return Kept(min(CACHE_BYTES, device.memory_bytes() // 2) // ranks, profile.train.workers)


def noise_pool(where: str, split: str) -> Pool:
    """Return noise recordings: a prepared pool, or every audio file below a folder.

    One that cannot be read is listed, too: it is told when it is drawn, and counts as one.
    """
    path = Path(where)
    if path.suffix == ".csv" or (path / "pool.csv").is_file():
        return Pool.read(path).split(split)
    files = sorted(f for f in path.rglob("*") if f.suffix.lower() in io.AUDIO_SUFFIXES)
    if not files:
        raise ConfigError(f"data.noise: no audio file below {path}")
    rows = [PoolRow(file.stem, split, "", str(file.relative_to(path))) for file in files]
    return Pool(rows, path, path)
