"""Mixtures of single sounds that are known by words: a caption that names all sources, and each one's query as phrase.

What is heard of a recording longer than its mixture is its beginning, its middle, or a stretch from anywhere; of a
list's test mixtures, where the corpus says so, one stretch after the other, a mixture of each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from usepcli.data.known import Split, drawn
from usepcli.data.manifest import Phrase, PoolRow
from usepcli.data.mixtures import Plan
from usepcli.data.phrases import template
from usepcli.data.scenes import ScenePlanner, SceneRecipe
from usepcli.errors import BadInput

Cut = Literal["begin", "centre", "anywhere"]


class WordedPlanner(ScenePlanner):
    """Plans mixtures whose caption names all sources, and whose phrases are the queries of each.

    stems: whether the sources are written, too.  cut: what is heard of a longer recording; a shorter one stands in the
    middle where the middle is heard, and else anywhere.
    """

    def __init__(
        self,
        recipe: SceneRecipe,
        split: str,
        rows: Sequence[PoolRow],
        seed: int,
        split_index: int,
        stems: bool = True,
        cut: Cut = "begin",
    ) -> None:
        super().__init__(recipe, split, rows, [], seed, split_index)
        self.stems, self.cut = stems, cut

    def plan(self, i: int) -> Plan:
        """Return mixture number i."""
        scene = super().plan(i)
        said = tuple(Phrase(turn.query) for turn in scene.turns)
        return replace(scene, caption=template(scene.label.split(";")), phrases=said, stems=self.stems)

    def _anywhere(self, row: PoolRow, rng: np.random.Generator) -> tuple[tuple[str, ...], int, int, int]:
        spare = row.frames - self.recipe.frames
        if self.cut == "centre":
            return (row.path,), max(spare, 0) // 2, min(row.frames, self.recipe.frames), max(-spare, 0) // 2
        if self.cut == "anywhere" and spare > 0:
            return (row.path,), int(rng.integers(spare + 1)), self.recipe.frames, 0
        return super()._anywhere(row, rng)


class SplitPlanner(WordedPlanner):
    """Plans a share of the mixtures from as large a share of the recordings, with sources, and all others without.

    No recording is in mixtures of both kinds; which ones have sources is drawn class by class (data/known.py).
    """

    def __init__(
        self,
        recipe: SceneRecipe,
        split: str,
        rows: Sequence[PoolRow],
        seed: int,
        split_index: int,
        cut: Cut,
        share: float,
    ) -> None:
        super().__init__(recipe, split, rows, seed, split_index, False, cut)
        known = drawn([row.speaker for row in rows], Split(share, seed)).tolist()
        self.kinds = [
            WordedPlanner(
                recipe, split, [row for row, told in zip(rows, known, strict=True) if told == kind], seed, split_index,
                kind, cut,
            )
            for kind in (False, True)
        ]  # fmt: skip
        self.share = share

    def plan(self, i: int) -> Plan:
        """Return mixture number i."""
        before, after = (math.floor(n * self.share + 0.5) for n in (i, i + 1))
        scene = self.kinds[after > before].plan(before if after > before else i - before)
        return replace(scene, id=f"{self.split}_{i:05d}")


class ListedPlanner(WordedPlanner):
    """Plans the mixtures of a list: entry k is made of the recordings whose ids entries[k] names.

    segments: of each entry a mixture of every stretch that all its recordings have, one after the other; at least one.
    """

    def __init__(
        self,
        recipe: SceneRecipe,
        split: str,
        rows: Sequence[PoolRow],
        seed: int,
        split_index: int,
        entries: Sequence[Sequence[str]],
        stems: bool = True,
        cut: Cut = "begin",
        segments: bool = False,
    ) -> None:
        known = {row.id: row for row in rows}
        found = [[known[name] for name in entry] for entry in entries if all(name in known for name in entry)]
        if not found:
            raise BadInput(
                f"split {split}: of {len(entries)} listed mixtures none has all its recordings; see --test-list, or "
                f"ask for none with --{split} 0"
            )
        most = max(map(len, found))
        super().__init__(replace(recipe, sources=(most, most)), split, rows, seed, split_index, stems, cut)
        self._places: list[tuple[list[PoolRow], int]] = []
        for entry in found:
            times = max(1, min(row.frames for row in entry) // recipe.frames) if segments else 1
            self._places += [(entry, n * recipe.frames) for n in range(times)]
        self._segments = segments

    def __len__(self) -> int:
        return len(self._places)

    def plan(self, i: int) -> Plan:
        """Return mixture number i of the list."""
        scene, start = super().plan(i), self._places[i][1]
        if not self._segments:
            return scene
        turns = [
            replace(turn, start=start, frames=min(row.frames - start, self.recipe.frames), at=0)
            for turn, row in zip(scene.turns, self._places[i][0], strict=True)
        ]
        return replace(scene, turns=tuple(turns))

    def _events(self, i: int, count: int) -> list[PoolRow]:
        del count
        return self._places[i][0]
