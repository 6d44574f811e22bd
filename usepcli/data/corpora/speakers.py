"""Recordings of single talkers, from which mixtures are made."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Literal

from usepcli.audio.io import show
from usepcli.data.corpora.base import SPLITS, Bad, Corpus, ratio_splits
from usepcli.data.corpora.listing import Recording, recordings
from usepcli.data.manifest import PoolRow
from usepcli.data.mixtures import Recipe
from usepcli.errors import BadInput, ConfigError


class Speakers(Corpus):
    """Single-talker recordings; the talker is a folder or a CSV column, the splits share no talker.

    An utterance without a talker's name counts as a talker of its own and never meets another unnamed one of
    the same origin. Lengths in seconds, levels in dB; pairs are ranges (low, high).
    """

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
        if min(train, valid, test, limit, seed) < 0 or min_s < 0:
            raise ConfigError("counts, --limit, --seed and --min-s must be 0 or more")
        self.counts = {"train": train, "valid": valid, "test": test}
        self.min_s, self.noise, self.split_ratios, self.seed, self.limit = (
            min_s,
            noise,
            split_ratios,
            seed,
            limit,
        )
        self.csv, self.speaker_column, self.split_column = csv, speaker_column, split_column
        self.speaker_depth = speaker_depth
        self.bad: list[Bad] = []

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
        return self._rows(found, self._splits(found, talkers, root))

    def scan_noise(self, root: Path) -> list[PoolRow]:
        """List noise recordings with their split: from manifest.csv, the top folders, or by ratios."""
        found = recordings(root, "", "", "", 1, 0, self.bad)
        if any(item.split for item in found):
            splits = [item.split for item in found]
        else:
            by_path = ratio_splits((item.path for item in found), self.split_ratios, self.seed)
            splits = [by_path[item.path] for item in found]
        return [PoolRow(**{**vars(row), "speaker": ""}) for row in self._rows(found, splits)]

    def _rows(self, found: list[Recording], splits: list[str]) -> list[PoolRow]:
        names = _names([f"{split}/{item.path}" for item, split in zip(found, splits, strict=True)])
        return [
            PoolRow(name, split, item.label, item.path, item.rate, item.frames, item.origin, item.licence)
            for item, split, name in zip(found, splits, names, strict=True)
        ]

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


def _names(paths: list[str]) -> list[str]:
    """Return one id per path: the path without its suffix, or with it where two would be the same."""
    clean = ["/".join("_" if part in ("..", "/") else part for part in Path(path).parts) for path in paths]
    stems = [re.sub(r"\.[^./]+$", "", path) for path in clean]
    seen: dict[str, int] = defaultdict(int)
    for stem in stems:
        seen[stem.casefold()] += 1
    return [stem if seen[stem.casefold()] == 1 else path for stem, path in zip(stems, clean, strict=True)]
