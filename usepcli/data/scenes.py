"""Scenes of one to four sound events as in FUSS: plans drawn from a counter, without reading audio.

A scene is a background that plays all the time, repeated where it is shorter, and foregrounds that start anywhere in
the scene. Levels are those of the active parts, foregrounds being `event_snr_db` above the background; FUSS takes
loudness (LUFS) instead, see data/loud_scenes.py, and the same range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from usepcli.data.manifest import PoolRow
from usepcli.data.mixtures import Plan, Turn
from usepcli.errors import BadInput, ConfigError


@dataclass(frozen=True)
class SceneRecipe:
    """How a scene is made; see `Events` for the units."""

    sources: tuple[int, int] = (1, 4)
    rate: int = 8000
    seconds: float = 4.0
    background: float = 1.0
    event_snr_db: tuple[float, float] = (-5.0, 25.0)

    @property
    def frames(self) -> int:
        """Length of a scene in samples."""
        return max(1, round(self.seconds * self.rate))

    def check(self) -> None:
        """Raise ConfigError for values that make no scene."""
        low, high = self.event_snr_db
        faults = {
            f"--sources {self.sources}: two numbers, 1 <= low <= high, were expected": not (
                1 <= self.sources[0] <= self.sources[1]
            ),
            f"--rate {self.rate}: a sample rate in Hz above 0 was expected": self.rate < 1,
            f"--seconds {self.seconds:g}: a length above 0 was expected": not 0 < self.seconds < math.inf,
            f"--background {self.background:g}: a share of 0 to 1 was expected": not 0 <= self.background <= 1,
            f"--event-snr {self.event_snr_db}: two levels in dB, low <= high, were expected": not (
                -math.inf < low <= high < math.inf
            ),
        }
        wrong = [text for text, broken in faults.items() if broken]
        if wrong:
            raise ConfigError("; ".join(wrong))


class ScenePlanner:
    """Plans the scenes of one split; plan i depends on (seed, split_index, i) and the lists alone.

    A row's `speaker` is its class, '' where it has none; no class occurs twice among a scene's foregrounds.
    """

    def __init__(
        self,
        recipe: SceneRecipe,
        split: str,
        events: Sequence[PoolRow],
        backgrounds: Sequence[PoolRow],
        seed: int,
        split_index: int,
    ) -> None:
        self.recipe, self.split = recipe, split
        self.events, self.backgrounds = list(events), list(backgrounds)
        self._key = (seed, split_index)
        self._most = recipe.sources[1] - (recipe.background == 1)
        kinds = len({row.speaker or row.id for row in events})
        if kinds < self._most:
            raise BadInput(
                f"split {split}: foregrounds of {kinds} classes, {self._most} are needed for a scene; add recordings, "
                f"lower --sources, or ask for none with --{split} 0"
            )
        if recipe.background and not backgrounds:
            raise BadInput(
                f"split {split}: no background recording; add some, name them in a column 'role', lower "
                f"--background-s, or pass --background 0 or --{split} 0"
            )

    def plan(self, i: int) -> Plan:
        """Return scene number i: its background first, then its foregrounds."""
        recipe = self.recipe
        rng = np.random.default_rng(np.random.SeedSequence([*self._key, i]))
        n_src = int(rng.integers(recipe.sources[0], recipe.sources[1] + 1))
        behind = [self._background(i)] if rng.random() < recipe.background else []
        events = self._events(i, n_src - len(behind))
        gains = np.append(np.zeros(len(behind)), rng.uniform(*recipe.event_snr_db, size=len(events)))
        gains = self._levels(gains)
        spans = [self._all_along(row, rng) for row in behind] + [self._anywhere(row, rng) for row in events]
        rows = [*behind, *events]
        turns = tuple(
            Turn(paths, "", (0,) * (len(paths) - 1), start, count, at, float(gain), "", row.query)
            for (paths, start, count, at), gain, row in zip(spans, gains, rows, strict=True)
        )
        names = [self._name(row, "background" if row in behind else "foreground") for row in rows]
        return Plan(
            f"{self.split}_{i:05d}",
            self.split,
            recipe.frames,
            turns,
            origins=tuple(dict.fromkeys(row.origin for row in rows if row.origin)),
            licences=tuple(dict.fromkeys(row.licence for row in rows if row.licence)),
            label=";".join(names),
        )

    def _levels(self, gains: np.ndarray) -> np.ndarray:
        return gains - gains.max()  # the loudest stands at the level that all mixtures have

    def _name(self, row: PoolRow, role: str) -> str:
        return row.speaker.removeprefix(f"{self.split}/").replace(";", "_") or role

    def _order(self, size: int, *counter: int) -> np.ndarray:
        return np.random.default_rng(np.random.SeedSequence([*self._key, *counter])).permutation(size)

    def _background(self, i: int) -> PoolRow:
        deck, place = divmod(i, len(self.backgrounds))
        return self.backgrounds[self._order(len(self.backgrounds), deck, 2)[place]]

    def _events(self, i: int, count: int) -> list[PoolRow]:
        """Deal `count` foregrounds of different classes from shuffled decks, so that all play about equally often."""
        if not count:
            return []
        deck, place = divmod(i, max(1, len(self.events) // self._most))
        chosen: dict[str, PoolRow] = {}
        for n in np.roll(self._order(len(self.events), deck, 1), -place * self._most):
            row = self.events[n]
            chosen.setdefault(row.speaker or row.id, row)
            if len(chosen) == count:
                break
        return list(chosen.values())

    def _all_along(self, row: PoolRow, rng: np.random.Generator) -> tuple[tuple[str, ...], int, int, int]:
        frames = self.recipe.frames
        times = -(-frames // row.frames)
        return (row.path,) * times, int(rng.integers(times * row.frames - frames + 1)), frames, 0

    def _anywhere(self, row: PoolRow, rng: np.random.Generator) -> tuple[tuple[str, ...], int, int, int]:
        # A longer one is heard from its beginning: a stretch from its middle might hold nothing but silence.
        count = min(row.frames, self.recipe.frames)
        return (row.path,), 0, count, int(rng.integers(self.recipe.frames - count + 1))
