"""Recordings of single talkers, from which mixtures are made."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from usepcli.audio.io import show
from usepcli.data.corpora.base import CLOSED, SPLITS, Bad, ratio_splits
from usepcli.data.corpora.listing import Recording, recordings
from usepcli.data.corpora.maker import Maker, Plans, check_counts, pool_rows
from usepcli.data.manifest import PoolRow
from usepcli.data.mixtures import Planner, Recipe
from usepcli.errors import BadInput, ConfigError

HELD_OUT = 0.1  # of a training talker's recordings, for the closed condition


class Speakers(Maker):
    """Single-talker recordings; the talker is a folder or a CSV column, the splits share no talker.

    An utterance without a talker's name counts as a talker of its own and never meets another unnamed one of
    the same origin. closed: test mixtures of training talkers, in recordings that are held out. Lengths in seconds,
    levels in dB; pairs are ranges (low, high).
    """

    closed = 0  # of a kind of corpus that has no such option

    def __init__(
        self,
        n_src: int = 2,
        rate: int = 8000,
        length: Literal["seconds", "min", "max"] = "seconds",
        seconds: float = 4.0,
        min_s: float = 0.5,
        max_s: float = 0.0,
        level_db: float = 5.0,
        overlap: tuple[float, float] = (1.0, 1.0),
        join: bool = False,
        pause_s: tuple[float, float] = (0.1, 0.6),
        noise: str = "",
        noise_snr_db: tuple[float, float] = (5.0, 20.0),
        train: int = 2000,
        valid: int = 200,
        test: int = 200,
        closed: int = 0,
        split_ratios: tuple[float, float, float] = (0.8, 0.1, 0.1),
        csv: str = "",
        speaker_column: str = "",
        split_column: str = "",
        speaker_depth: int = 1,
        limit: int = 0,
        seed: int = 0,
    ) -> None:
        self.recipe = Recipe(n_src, rate, length, seconds, max_s, level_db, overlap, join, pause_s, noise_snr_db)
        self.recipe.check()
        self.counts = check_counts(train, valid, test, limit, seed, min_s)
        if closed < 0:
            raise ConfigError(f"--closed {closed}: 0 or more mixtures were expected")
        self.closed = closed
        self.counts |= {CLOSED: closed} if closed else {}
        self.rate, self.seed, self.noise = rate, seed, noise
        self.min_s, self.split_ratios, self.limit = min_s, split_ratios, limit
        self.csv, self.speaker_column, self.split_column = csv, speaker_column, split_column
        self.speaker_depth = speaker_depth
        self.bad: list[Bad] = []
        self.texts: dict[str, str] = {}

    def scan(self, root: Path) -> list[PoolRow]:
        """List the utterances of at least `min_s` seconds with talker and split; paths relative to root."""
        table = self.csv
        if root.is_file():
            root, table = root.parent, root.name
        found = recordings(
            root, table, self.speaker_column, self.split_column, self.speaker_depth, self.limit, self.bad
        )
        found = [item for item in found if item.frames >= self.min_s * item.rate]
        if not found:
            raise BadInput(f"{show(root)}: no readable recording of {self.min_s:g} s or more; see --min-s")
        talkers = [item.label or f"?{item.path}" for item in found]
        splits = self._splits(found, talkers, root)
        rows = pool_rows(found, self._held_out(found, splits, root) if self.closed else splits)
        self.texts = {row.id: item.text for row, item in zip(rows, found, strict=True) if item.text}
        return rows

    def scan_noise(self, root: Path) -> tuple[Path, list[PoolRow]]:
        """List the recordings under `noise` with their split: from manifest.csv, the top folders, or by ratios."""
        if not self.noise:
            return root, []
        found = recordings(Path(self.noise), "", "", "", 1, 0, self.bad)
        if any(item.split for item in found):
            splits = [item.split for item in found]
        else:
            by_path = ratio_splits((item.path for item in found), self.split_ratios, self.seed)
            splits = [by_path[item.path] for item in found]
        return Path(self.noise), [replace(row, speaker="") for row in pool_rows(found, splits)]

    def planner(
        self,
        split: str,
        rows: Sequence[PoolRow],
        noise: Sequence[PoolRow],
        index: int,
        rooms: Sequence[PoolRow] = (),
    ) -> Plans:
        """Return the plans of split number `index`."""
        return Planner(self.recipe, split, rows, noise, self.seed, index)

    def _held_out(self, found: list[Recording], splits: list[str], root: Path) -> list[str]:
        """Return the splits with a share of each training talker's recordings, one at least of two, set aside."""
        if CLOSED in splits:
            raise BadInput(f"{show(root)}: its list has a split 'closed'; rename it, or leave --closed away")
        paths: dict[str, set[str]] = defaultdict(set)
        for item, split in zip(found, splits, strict=True):
            if split == "train" and item.label:
                paths[item.label].add(item.path)
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, 0xC105]))
        held: set[str] = set()
        for _, mine in sorted(paths.items()):
            count = max(1, round(HELD_OUT * len(mine))) if len(mine) > 1 else 0
            held |= {sorted(mine)[i] for i in rng.permutation(len(mine))[:count]}
        if not held:
            raise BadInput(f"{show(root)}: no training talker has a name and two recordings; leave --closed away")
        return [CLOSED if item.path in held else split for item, split in zip(found, splits, strict=True)]

    def _splits(self, found: list[Recording], talkers: list[str], root: Path) -> list[str]:
        if not all(item.split for item in found):
            by_talker = ratio_splits(talkers, self.split_ratios, self.seed)
            return [by_talker[talker] for talker in talkers]
        places: dict[str, set[str]] = defaultdict(set)
        for item, talker in zip(found, talkers, strict=True):
            if not re.fullmatch(r"[\w.-]*\w[\w.-]*", item.split):
                raise BadInput(f"{show(root)}: '{item.split}' is no name for a split; expected {', '.join(SPLITS)}")
            places[talker].add(item.split)
        torn = sorted(talker for talker, where in places.items() if len(where) > 1)
        if torn:
            raise BadInput(
                f"{show(root)}: {len(torn)} talkers stand in more than one split, e.g. '{torn[0]}' in "
                f"{' and '.join(sorted(places[torn[0]]))}; repair the list or pass --split-column none to "
                f"split by talker"
            )
        return [item.split for item in found]
