"""What the corpora have in common whose mixtures are made here: counts, pools, and plans for every split."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from usepcli.data.corpora.base import Corpus
from usepcli.data.corpora.listing import Recording
from usepcli.data.manifest import PoolRow
from usepcli.data.mixtures import Plan
from usepcli.errors import ConfigError


class Plans(Protocol):
    """A source of plans: plan i depends on i and on what it was made from, not on earlier calls."""

    def plan(self, i: int) -> Plan:
        """Return plan number i."""
        ...


class Maker(Corpus):
    """An adapter of single recordings; the engine fills a pool from them and renders the planned mixtures.

    `counts` holds the number of mixtures of each split, `noise` what messages call the second pool.
    """

    rate: int
    seed: int
    counts: dict[str, int]
    noise: str
    supervised: float = 0.0  # above 0: some mixtures alone have sources, and no single recording stays beside them
    stems: bool = True  # False: no single recording stays beside the mixtures

    def scan(self, root: Path) -> list[PoolRow]:
        """List the recordings of the first pool, paths relative to root."""
        raise NotImplementedError

    def scan_noise(self, root: Path) -> tuple[Path, list[PoolRow]]:
        """List the second pool (noise, backgrounds), which may be empty: (folder of its paths, rows)."""
        raise NotImplementedError

    def scan_rooms(self) -> tuple[Path, list[PoolRow]]:
        """List the pool of room responses, which most corpora do not have: (folder of its paths, rows)."""
        return Path(), []

    def planner(
        self,
        split: str,
        rows: Sequence[PoolRow],
        noise: Sequence[PoolRow],
        index: int,
        rooms: Sequence[PoolRow] = (),
    ) -> Plans:
        """Return the plans of one split, drawn from its rows of all pools; `index` is the split's number."""
        raise NotImplementedError

    def tools(self) -> dict[str, str]:
        """Return the versions of the libraries that only this corpus needs; MissingDependency without them."""
        return {}


def check_counts(train: int, valid: int, test: int, limit: int, seed: int, min_s: float) -> dict[str, int]:
    """Return the number of mixtures by split; ConfigError for anything below zero."""
    if min(train, valid, test, limit, seed) < 0 or min_s < 0:
        raise ConfigError("counts, --limit, --seed and --min-s must be 0 or more")
    return {"train": train, "valid": valid, "test": test}


def pool_rows(found: Sequence[Recording], splits: Sequence[str]) -> list[PoolRow]:
    """Return one pool row for each recording, with ids that start with the split and are all different."""
    names = _names([f"{split}/{item.path}" for item, split in zip(found, splits, strict=True)])
    return [
        PoolRow(name, split, item.label, item.path, item.rate, item.frames, item.origin, item.licence, item.query)
        for item, split, name in zip(found, splits, names, strict=True)
    ]


def _names(paths: list[str]) -> list[str]:
    """Return one id per path: the path without its suffix, or with it where two would be the same."""
    clean = ["/".join("_" if part in ("..", "/") else part for part in Path(path).parts) for path in paths]
    stems = [re.sub(r"\.[^./]+$", "", path) for path in clean]
    seen: dict[str, int] = defaultdict(int)
    for stem in stems:
        seen[stem.casefold()] += 1
    return [stem if seen[stem.casefold()] == 1 else path for stem, path in zip(stems, clean, strict=True)]
