"""Utterances that meet in a simulated room, as SMS-WSJ pairs and places them: plans without reading audio.

The longest utterance gives the length, the others start anywhere in it.  Levels in dB are drawn from 0 to 5 and
brought to a mean of zero.  Within as many mixtures as there are utterances, every utterance is heard once as first
talker, once as second talker, and so on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from usepcli.data.manifest import PoolRow
from usepcli.data.mixtures import Plan, Turn, Twin, draw_noise, talker, voice
from usepcli.data.render import Load
from usepcli.data.rooms import Room, check_rt60, draw_room
from usepcli.data.simulate import RoomFile, heard_in, simulate
from usepcli.errors import BadInput, ConfigError

WEIGHTS_DB = (0.0, 5.0)
ANECHOIC = "anechoic.csv"  # the manifest once more, with the talkers as they sound without the room


@dataclass(frozen=True)
class RoomRecipe:
    """How a mixture in a room is made; see `WsjMix` for the units."""

    n_src: int = 2
    rate: int = 8000
    rt60_s: tuple[float, float] = (0.2, 1.0)
    noise_snr_db: tuple[float, float] = (10.0, 20.0)
    rooms: int = 0
    anechoic: bool = False

    def check(self) -> None:
        """Raise ConfigError for values that make no mixture."""
        low, high = self.noise_snr_db
        faults = {
            f"--n-src {self.n_src}: 1 or more talkers were expected": self.n_src < 1,
            f"--rate {self.rate}: a sample rate in Hz above 0 was expected": self.rate < 1,
            f"--rooms {self.rooms}: 0 (a room for every mixture) or more was expected": self.rooms < 0,
            f"--noise-snr {self.noise_snr_db}: two levels in dB, low <= high, were expected": not (
                -math.inf < low <= high < math.inf
            ),
        }
        wrong = [text for text, broken in faults.items() if broken]
        if wrong:
            raise ConfigError("; ".join(wrong))
        check_rt60(self.rt60_s)


@dataclass(frozen=True)
class RoomPlan(Plan):
    """A mixture in a room; `response` names the file of a room that many mixtures share, '' for one of its own."""

    room: Room | None = None
    response: str = ""
    anechoic: bool = False

    def files(self) -> list[str]:
        """Return the names of the mixture's files, a1.wav .. being the talkers without the room; mix.wav is last."""
        names = Plan.files(self)
        n_src = len(self.turns) if self.anechoic else 0
        return [*names[:n_src], *(f"a{k + 1}.wav" for k in range(n_src)), *names[n_src:]]

    def waves(self, rate: int, root: Path, load: Load) -> list[np.ndarray]:
        """Return the int16 samples (T,) of `files`, the room being read below root or simulated now."""
        if self.room is None:
            raise BadInput(f"{self.id}: planned without a room")
        return simulate(self, heard_in(self.room, self.response, rate, root), load)

    def ahead(self) -> Sequence[RoomFile]:
        """Return the room that several mixtures share."""
        return [RoomFile(self.response, self.room)] if self.response and self.room else []

    def twins(self) -> dict[str, Twin]:
        """Return the talkers without the room, of the same mixture."""
        direct = tuple(f"a{k + 1}.wav" for k in range(len(self.turns)))
        return {ANECHOIC: Twin("mix.wav", direct)} if self.anechoic else {}


class PairPlanner:
    """Plans the mixtures of one split; plan i depends on (seed, split_index, i) and the lists alone."""

    def __init__(
        self,
        recipe: RoomRecipe,
        split: str,
        rows: Sequence[PoolRow],
        noise: Sequence[PoolRow],
        seed: int,
        split_index: int,
        texts: Mapping[str, str] | None = None,
    ) -> None:
        self.texts = texts or {}  # by the row's id
        self.recipe, self.split, self.rows, self.noise = recipe, split, list(rows), list(noise)
        self._key = (seed, split_index)
        names = sorted({voice(row) for row in rows})
        if len(names) < recipe.n_src:
            raise BadInput(
                f"split {split}: {len(names)} talkers known to differ, {recipe.n_src} are needed for a mixture; add "
                f"recordings, name talkers (--speaker-column, --speaker-depth), or ask for none with --{split} 0"
            )
        numbers = {name: n for n, name in enumerate(names)}
        self._voices = np.array([numbers[voice(row)] for row in rows])  # (U,)
        self._deck: tuple[int, np.ndarray] = (-1, np.zeros((0, 0), int))

    def plan(self, i: int) -> RoomPlan:
        """Return mixture i of the split."""
        recipe = self.recipe
        rng = self._rng(i)
        used = [self.rows[n] for n in self._meeting(i)]
        room, response = draw_room(rng, recipe.n_src, recipe.rt60_s), ""
        if recipe.rooms:
            number = i % recipe.rooms
            room = draw_room(self._rng(number, 2), recipe.n_src, recipe.rt60_s)
            response = f"rooms/{self.split}_{number:05d}.wav"
        frames = max(row.frames for row in used)
        places, texts = [int(rng.integers(frames - row.frames + 1)) for row in used], self.texts
        weights = rng.uniform(*WEIGHTS_DB, recipe.n_src)
        weights -= weights.mean()
        turns = tuple(
            Turn((row.path,), talker(row), (), 0, row.frames, at, float(weight), texts.get(row.id, ""), row.query)
            for row, at, weight in zip(used, places, weights, strict=True)
        )
        noise, noise_start, snr = draw_noise(self.noise, frames, recipe.noise_snr_db, rng)
        used += [noise] if noise else []
        return RoomPlan(
            f"{self.split}_{i:05d}",
            self.split,
            frames,
            turns,
            noise.path if noise else "",
            noise_start,
            snr,
            tuple(dict.fromkeys(row.origin for row in used if row.origin)),
            tuple(dict.fromkeys(row.licence for row in used if row.licence)),
            f"rt60 {room.rt60_s:.1f} s nominal",
            room=room,
            response=response,
            anechoic=recipe.anechoic,
        )

    def _rng(self, *counter: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([*self._key, *counter]))

    def _meeting(self, i: int) -> list[int]:
        """Return the utterances (K,) of mixture i."""
        deck, place = divmod(i, len(self.rows))
        if self._deck[0] != deck:
            self._deck = (deck, self._deal(self._rng(deck, 1)))
        return [int(n) for n in self._deck[1][:, place]]

    def _deal(self, rng: np.random.Generator) -> np.ndarray:
        """Return (K, U): K orders of all utterances in which no talker meets himself."""
        size = len(self.rows)
        dealt = np.stack([rng.permutation(size) for _ in range(self.recipe.n_src)])
        for k in range(1, self.recipe.n_src):
            voices, own = self._voices[dealt[:k]], self._voices[dealt[k]]  # (k, U), (U,)
            for p in np.flatnonzero((voices == own).any(axis=0)):
                if not (voices[:, p] == own[p]).any():
                    continue  # an earlier exchange has settled it
                # Exchange with a place where both are then among strangers; the share of a talker bounds them.
                free = ~(voices == own[p]).any(axis=0) & ~(voices[:, p, None] == own).any(axis=0)
                if not free.any():
                    raise BadInput(
                        f"split {self.split}: one talker has too many of the {size} utterances to meet others only; "
                        f"add talkers, or ask for none with --{self.split} 0"
                    )
                q = int(rng.choice(np.flatnonzero(free)))
                both, crossed = np.array([p, q]), np.array([q, p])
                dealt[k, both], own[both] = dealt[k, crossed], own[crossed]
        return dealt
