"""Recordings of single sound events and of backgrounds, from which scenes are made as in FUSS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from usepcli.audio.io import show
from usepcli.data.corpora.base import SPLITS, Bad, ratio_splits
from usepcli.data.corpora.listing import Recording, recordings
from usepcli.data.corpora.maker import Maker, check_counts, pool_rows
from usepcli.data.manifest import PoolRow
from usepcli.data.scenes import ScenePlanner, SceneRecipe
from usepcli.errors import BadInput, ConfigError


class Events(Maker):
    """Single sounds; scenes have `sources` of them, one being a background in a share `background` of the scenes.

    A list's column `role` says which recordings are backgrounds; without it those longer than `background_s` seconds
    are, as in FUSS. The class is the list's label or the folder. A source that is absent is simply not listed.
    """

    def __init__(
        self,
        sources: tuple[int, int] = (1, 4),
        rate: int = 8000,
        seconds: float = 4.0,
        background: float = 1.0,
        background_s: float = 10.0,
        event_snr_db: tuple[float, float] = (-5.0, 25.0),
        min_s: float = 0.2,
        train: int = 2000,
        valid: int = 200,
        test: int = 200,
        split_ratios: tuple[float, float, float] = (0.8, 0.1, 0.1),
        csv: str = "",
        split_column: str = "",
        limit: int = 0,
        seed: int = 0,
    ) -> None:
        self.recipe = SceneRecipe(sources, rate, seconds, background, event_snr_db)
        self.recipe.check()
        if not background_s > 0:
            raise ConfigError(f"--background-s {background_s:g}: a length above 0 was expected")
        self.counts = check_counts(train, valid, test, limit, seed, min_s)
        self.rate, self.seed, self.noise = rate, seed, ""
        self.background_s, self.min_s, self.split_ratios, self.limit = background_s, min_s, split_ratios, limit
        self.csv, self.split_column = csv, split_column
        self.bad: list[Bad] = []
        self._behind: list[PoolRow] = []

    def scan(self, root: Path) -> list[PoolRow]:
        """List the foregrounds of at least `min_s` seconds with class and split; paths relative to root."""
        table = self.csv
        if root.is_file():
            root, table = root.parent, root.name
        found = self._listed(root, table, self.split_column)
        known = {item.role for item in found} - {"", "foreground", "background"}
        if known:
            raise BadInput(f"{show(root)}: role '{min(known)}' in the list; foreground or background was expected")
        rows = self._rows(found, root)
        behind = [self._is_background(item) for item in found]
        self._behind = [row for row, is_behind in zip(rows, behind, strict=True) if is_behind]
        return [row for row, is_behind in zip(rows, behind, strict=True) if not is_behind]

    def scan_noise(self, root: Path) -> tuple[Path, list[PoolRow]]:
        """Return the backgrounds that `scan` met."""
        return root if root.is_dir() else root.parent, self._behind if self.recipe.background else []

    def planner(
        self,
        split: str,
        rows: Sequence[PoolRow],
        noise: Sequence[PoolRow],
        index: int,
        rooms: Sequence[PoolRow] = (),
    ) -> ScenePlanner:
        """Return the scenes of split number `index`."""
        return ScenePlanner(self.recipe, split, rows, noise, self.seed, index)

    def _listed(self, root: Path, table: str, split_column: str) -> list[Recording]:
        found = recordings(root, table, "", split_column, 1, self.limit, self.bad)
        found = [item for item in found if item.frames >= self.min_s * item.rate]
        if not found:
            raise BadInput(f"{show(root)}: no readable recording of {self.min_s:g} s or more; see --min-s")
        return found

    def _is_background(self, item: Recording) -> bool:
        return item.role == "background" if item.role else item.frames > self.background_s * item.rate

    def _rows(self, found: list[Recording], root: Path) -> list[PoolRow]:
        splits = [item.split for item in found]
        if not all(splits):
            dealt = ratio_splits((item.path for item in found), self.split_ratios, self.seed)
            splits = [dealt[item.path] for item in found]
        strange = sorted(set(splits) - set(SPLITS))
        if strange:
            raise BadInput(f"{show(root)}: '{strange[0]}' is no split; expected {', '.join(SPLITS)}")
        classes = {item.label for item in found}
        rows = pool_rows(found, splits)
        if len(classes) == 1:  # one folder for everything, as in FUSS: no classes are known
            return [replace(row, speaker="") for row in rows]
        # The split is part of the name: a class occurs in every split, a talker may not.
        return [replace(row, speaker=f"{row.split}/{row.speaker}" if row.speaker else "") for row in rows]
