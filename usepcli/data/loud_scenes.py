"""Scenes with levels in LUFS, as FUSS has them: the background at one loudness, foregrounds above or below it.

The loudness of a part (ITU-R BS.1770, gated) is that of its own file: what a meter shows for s1.wav .. of a mixture;
the gate leaves out the silence around a foreground.  So a sound shorter than a block of the gate, 0.4 s, counts with
its energy over 0.4 s: 6 dB less than its loudness while it lasts where that is 0.1 s.  A stretch in which nothing
sounds stays silent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from usepcli.audio.loudness import at_loudness
from usepcli.data.manifest import PoolRow
from usepcli.data.mixtures import Plan
from usepcli.data.render import Load, placed, quantise
from usepcli.data.scenes import ScenePlanner, SceneRecipe


@dataclass(frozen=True)
class LoudPlan(Plan):
    """A scene whose turns have the loudness `lufs` + their `gain_db`."""

    lufs: float = 0.0

    def waves(self, rate: int, root: Path, load: Load) -> list[np.ndarray]:
        """Return the int16 waves (T,) of `files`; the sources add up to the mixture exactly."""
        return summed(self.dry(rate, load))

    def dry(self, rate: int, load: Load) -> np.ndarray:
        """Return the sources (K, T) as they were recorded, at their loudness."""
        waves = [placed(turn, self.frames, rate, load) for turn in self.turns]
        levels = [self.lufs + turn.gain_db for turn in self.turns]
        return np.stack([at_loudness(wave, rate, level) for wave, level in zip(waves, levels, strict=True)])


class LoudPlanner(ScenePlanner):
    """Plans scenes with their backgrounds at `lufs`; all else as in `ScenePlanner`."""

    def __init__(
        self,
        recipe: SceneRecipe,
        split: str,
        events: Sequence[PoolRow],
        backgrounds: Sequence[PoolRow],
        seed: int,
        split_index: int,
        lufs: float,
    ) -> None:
        super().__init__(recipe, split, events, backgrounds, seed, split_index)
        self.lufs = lufs

    def plan(self, i: int) -> LoudPlan:
        """Return scene number i: its background first, then its foregrounds."""
        scene = super().plan(i)
        if not all(turn.query for turn in scene.turns):  # a list of queries has one for each source, or is none
            scene = replace(scene, turns=tuple(replace(turn, query="") for turn in scene.turns))
        return LoudPlan(**vars(scene), lufs=self.lufs)

    def _levels(self, gains: np.ndarray) -> np.ndarray:
        return gains  # above the background


def summed(parts: np.ndarray) -> list[np.ndarray]:
    """Return parts (K, T) as 16-bit codes, and their sum."""
    codes = quantise(parts, parts.sum(axis=0))
    return [*codes.astype(np.int16), codes.sum(axis=0).astype(np.int16)]
