"""Scenes in rooms: every source at a place of its own in one room, and the same scene without the room.

A source is heard through its response from the arrival of the direct sound on, so that nothing sounds before the dry
source does, and as far as the scene lasts.  Its image then has the loudness that the dry source has without the room:
levels are those of what is heard, in both.  FUSS leaves the loudness to the distances instead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import oaconvolve

from usepcli.audio.loudness import at_loudness
from usepcli.data.loud_scenes import LoudPlan, LoudPlanner, summed
from usepcli.data.manifest import PoolRow
from usepcli.data.mixtures import Turn, Twin
from usepcli.data.render import Load
from usepcli.data.rooms import Room, arrival, draw_room
from usepcli.data.scenes import SceneRecipe
from usepcli.data.simulate import RoomFile, heard_in, read_responses
from usepcli.errors import BadInput

DRY = "dry.csv"  # the manifest once more, with mixtures and sources as they sound without the room


@dataclass(frozen=True)
class HeardPlan(LoudPlan):
    """A scene in a room: a simulated one, its talkers' places for the turns, or measured responses for the turns.

    `response` names the file of a simulated room that many scenes share, '' for one of its own; `measured` names
    files of one response each.
    """

    room: Room | None = None
    response: str = ""
    places: tuple[int, ...] = ()
    measured: tuple[str, ...] = ()

    def files(self) -> list[str]:
        """Return the names of the scene's files: s1.wav .., d1.wav .. and dry.wav without the room; mix.wav is last."""
        n_src = len(self.turns)
        return [*(f"{part}{k + 1}.wav" for part in "sd" for k in range(n_src)), "dry.wav", "mix.wav"]

    def waves(self, rate: int, root: Path, load: Load) -> list[np.ndarray]:
        """Return the int16 waves (T,) of `files`; sources add up to their mixture, with the room and without."""
        dry, images = self.dry(rate, load), []
        for turn, wave, response in zip(self.turns, dry, self._responses(rate, root), strict=True):
            images.append(at_loudness(through(wave, response), rate, self.lufs + turn.gain_db))
        *heard, mix = summed(np.stack(images))
        return [*heard, *summed(dry), mix]

    def ahead(self) -> Sequence[RoomFile]:
        """Return the simulated room that several scenes share."""
        return [RoomFile(self.response, self.room)] if self.response and self.room else []

    def twins(self) -> dict[str, Twin]:
        """Return the scene without its room."""
        return {DRY: Twin("dry.wav", tuple(f"d{k + 1}.wav" for k in range(len(self.turns))))}

    def _responses(self, rate: int, root: Path) -> list[np.ndarray]:
        if self.room is None:
            return [read_responses(str(root / name))[0] for name in self.measured]
        there = heard_in(self.room, self.response, rate, root)[::2]
        return [there[place] for place in self.places]


def through(dry: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Return a wave (T,) as it is heard through a response (L,), whose direct sound comes at once; cut to (T,)."""
    return oaconvolve(dry, response[arrival(response) :].astype(np.float64))[: len(dry)]


class HeardPlanner(LoudPlanner):
    """Plans scenes in rooms; all else is as in `LoudPlanner`, so the scenes without the rooms are the same.

    rt60_s: of simulated rooms, `rooms` of them for all scenes (0: one for each).  responses: rows of measured ones,
    `speaker` being the room; a scene keeps to one room, drawn by the number of its responses, and where these are
    fewer than the sources, some share one.
    """

    def __init__(
        self,
        recipe: SceneRecipe,
        split: str,
        events: Sequence[PoolRow],
        backgrounds: Sequence[PoolRow],
        seed: int,
        split_index: int,
        lufs: float,
        rt60_s: tuple[float, float] | None,
        rooms: int,
        responses: Sequence[PoolRow],
    ) -> None:
        super().__init__(recipe, split, events, backgrounds, seed, split_index, lufs)
        self.rt60_s, self.rooms = rt60_s, rooms
        by_room: dict[str, list[PoolRow]] = defaultdict(list)
        for row in responses:
            by_room[row.speaker].append(row)
        self._measured = [by_room[name] for name in sorted(by_room)]
        if rt60_s is None and not self._measured:
            raise BadInput(
                f"split {split}: no room response; add rooms to --rirs, or ask for no such scenes with --{split} 0"
            )

    def plan(self, i: int) -> HeardPlan:
        """Return scene number i: its background first, then its foregrounds."""
        scene = vars(super().plan(i))
        rng, count = self._rng(i, 3), len(scene["turns"])
        if self.rt60_s is None:
            sizes = [len(heard) for heard in self._measured]
            heard = self._measured[int(rng.choice(len(sizes), p=np.divide(sizes, sum(sizes))))]
            used = self._used([heard[n] for n in rng.permutation(len(heard))], scene["turns"])
            scene["origins"] = tuple(dict.fromkeys([*scene["origins"], *(row.origin for row in used if row.origin)]))
            scene["licences"] = tuple(dict.fromkeys([*scene["licences"], *(r.licence for r in used if r.licence)]))
            return HeardPlan(**scene, measured=tuple(row.path for row in used))
        if not self.rooms:
            return HeardPlan(**scene, room=draw_room(rng, count, self.rt60_s), places=tuple(range(count)))
        number, most = i % self.rooms, self.recipe.sources[1]
        room = draw_room(self._rng(number, 4), most, self.rt60_s)
        places = tuple(rng.permutation(most)[:count].tolist())
        return HeardPlan(**scene, room=room, response=f"rooms/{self.split}_{number:05d}.wav", places=places)

    def _used(self, heard: list[PoolRow], turns: Sequence[Turn]) -> list[PoolRow]:
        """Return a response for each turn, in the order given; of those named for its role, as FUSS's are, if any."""
        behind, used = {row.path for row in self.backgrounds}, list[PoolRow]()
        for turn in turns:
            role = "background" if turn.paths[0] in behind else "foreground"
            used.append(min([row for row in heard if role in row.path] or heard, key=used.count))
        return used

    def _rng(self, *counter: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([*self._key, *counter]))
