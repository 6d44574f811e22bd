"""Which utterances a mixture is made of, and how: plans drawn from a counter, without reading audio."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from usepcli.data.manifest import Phrase, PoolRow
from usepcli.data.render import Load, render
from usepcli.errors import BadInput, ConfigError


@dataclass(frozen=True)
class Recipe:
    """How a mixture is made; see `Speakers` for the units."""

    n_src: int = 2
    rate: int = 8000
    length: str = "seconds"
    seconds: float = 4.0
    max_s: float = 0.0
    level_db: float = 5.0
    overlap: tuple[float, float] = (1.0, 1.0)
    join: bool = False
    pause_s: tuple[float, float] = (0.1, 0.6)
    noise_snr_db: tuple[float, float] = (5.0, 20.0)

    def check(self) -> None:
        """Raise ConfigError for values that make no mixture."""
        faults = {
            f"--n-src {self.n_src}: 1 or more talkers were expected": self.n_src < 1,
            f"--rate {self.rate}: a sample rate in Hz above 0 was expected": self.rate < 1,
            f"--seconds {self.seconds:g}: a length above 0 was expected": not 0 < self.seconds < math.inf,
            f"--max-s {self.max_s:g}: 0 (no limit) or a length in seconds was expected": not 0 <= self.max_s < math.inf,
            f"--level-db {self.level_db:g}: 0 or more was expected": not 0 <= self.level_db < math.inf,
            f"--overlap {self.overlap}: two shares, 0 <= low <= high <= 1, were expected": not (
                0 <= self.overlap[0] <= self.overlap[1] <= 1
            ),
            f"--pause {self.pause_s}: two lengths in seconds, 0 <= low <= high, were expected": not (
                0 <= self.pause_s[0] <= self.pause_s[1] < math.inf
            ),
            f"--noise-snr {self.noise_snr_db}: two levels in dB, low <= high, were expected": not (
                -math.inf < self.noise_snr_db[0] <= self.noise_snr_db[1] < math.inf
            ),
        }
        wrong = [text for text, broken in faults.items() if broken]
        if wrong:
            raise ConfigError("; ".join(wrong))


@dataclass(frozen=True)
class Turn:
    """One talker of a mixture: joined utterances, cut to [start, start + frames), placed at `at`."""

    paths: tuple[str, ...]
    speaker: str
    pauses: tuple[int, ...]
    start: int
    frames: int
    at: int
    gain_db: float
    text: str = ""
    query: str = ""


class Twin(NamedTuple):
    """The same mixture in another sound: names of its files beside those of the mixture itself."""

    mixture: str
    sources: tuple[str, ...]


class Ahead(Protocol):
    """A file that several mixtures share and that is made before them; `name` is its path below the set's folder."""

    @property
    def name(self) -> str:
        """Its path below the set's folder."""
        ...

    def make(self, root: Path, rate: int) -> bool:
        """Write it; True where it was there already."""
        ...


@dataclass(frozen=True)
class Plan:
    """One mixture of `frames` samples; noise_start counts from the (repeated) noise recording's beginning.

    A kind of mixture that is made in another way is a class of its own: it says which files it has, and makes them.
    """

    id: str
    split: str
    frames: int
    turns: tuple[Turn, ...]
    noise: str = ""
    noise_start: int = 0
    noise_snr_db: float = 0.0
    origins: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
    label: str = ""
    caption: str = ""
    phrases: tuple[Phrase, ...] = ()
    stems: bool = True  # False: the mixture alone is written and listed

    def files(self) -> list[str]:
        """Return the names of the mixture's files: s1.wav .., noise.wav where there is noise, and mix.wav, the last."""
        if not self.stems:
            return ["mix.wav"]
        return [*(f"s{k + 1}.wav" for k in range(len(self.turns))), *(["noise.wav"] if self.noise else []), "mix.wav"]

    def waves(self, rate: int, root: Path, load: Load) -> list[np.ndarray]:
        """Return the int16 waves (T,) of `files`; load(path) returns one of a pool file, root is the set's folder."""
        mix, sources, noise = render(self, rate, load)
        return [*sources, *([] if noise is None else [noise]), mix] if self.stems else [mix]

    def ahead(self) -> Sequence[Ahead]:
        """Return the files that have to be there before `waves`, besides those of the pools."""
        return ()

    def twins(self) -> dict[str, Twin]:
        """Return what else is listed in tables of the same ids beside the manifest, by the name of the table."""
        return {}


class Planner:
    """Plans the mixtures of one split; plan i depends on (seed, split_index, i) and the lists alone."""

    def __init__(
        self,
        recipe: Recipe,
        split: str,
        rows: Sequence[PoolRow],
        noise: Sequence[PoolRow],
        seed: int,
        split_index: int,
    ) -> None:
        self.recipe, self.split, self.noise = recipe, split, list(noise)
        self._key = (seed, split_index)
        talkers: dict[tuple[str, str], list[PoolRow]] = defaultdict(list)
        for row in rows:
            talkers[("talker", row.speaker) if row.speaker else ("unknown", row.id)].append(row)
        self._talkers = [talkers[key] for key in sorted(talkers)]
        # Two unnamed utterances of one origin may be of one talker: they share a group and never meet.
        groups = {voice(utterances[0]) for utterances in self._talkers}
        if len(groups) < recipe.n_src:
            raise BadInput(
                f"split {split}: {len(groups)} talkers known to differ, {recipe.n_src} are needed for a "
                f"mixture; add "
                f"recordings, name talkers (--speaker-column, --speaker-depth), or ask for none with "
                f"--{split} 0"
            )

    def plan(self, i: int) -> Plan:
        """Return mixture i of the split."""
        recipe = self.recipe
        rng = np.random.default_rng(np.random.SeedSequence([*self._key, i]))
        takes = [self._take(rows, rng) for rows in self._pick(i)]
        frames, spans = _lay_out(recipe, [total for _, _, total in takes], rng)
        gains = np.append(0.0, rng.uniform(-recipe.level_db, recipe.level_db, recipe.n_src - 1))
        gains -= gains.mean()
        turns = tuple(
            Turn(tuple(row.path for row in rows), talker(rows[0]), pauses, *span, float(gain), query=ask(rows))
            for (rows, pauses, _), span, gain in zip(takes, spans, gains, strict=True)
        )
        used = [row for rows, _, _ in takes for row in rows]
        noise, noise_start, snr = draw_noise(self.noise, frames, recipe.noise_snr_db, rng)
        used += [noise] if noise else []
        return Plan(
            f"{self.split}_{i:05d}",
            self.split,
            frames,
            turns,
            noise.path if noise else "",
            noise_start,
            snr,
            tuple(dict.fromkeys(row.origin for row in used if row.origin)),
            tuple(dict.fromkeys(row.licence for row in used if row.licence)),
        )

    def _pick(self, i: int) -> list[list[PoolRow]]:
        """Deal talkers from shuffled decks, so that all of them speak equally often (to within one deck)."""
        n_src = self.recipe.n_src
        deck, place = divmod(i, len(self._talkers) // n_src)
        order = np.random.default_rng(np.random.SeedSequence([*self._key, deck, 1])).permutation(len(self._talkers))
        chosen: list[list[PoolRow]] = []
        groups: set[tuple[str, str]] = set()
        for n in np.roll(order, -place * n_src):
            group = voice(self._talkers[n][0])
            if group not in groups:
                groups.add(group)
                chosen.append(self._talkers[n])
                if len(chosen) == n_src:
                    break
        return chosen

    def _take(self, rows: list[PoolRow], rng: np.random.Generator) -> tuple[list[PoolRow], tuple[int, ...], int]:
        """Choose one utterance, or with `join` as many as fill the length: (rows, pauses, total samples)."""
        recipe, order = self.recipe, rng.permutation(len(rows))
        taken, pauses = [rows[order[0]]], []
        total, wanted = taken[0].frames, round(recipe.seconds * recipe.rate)
        for n in order[1:] if recipe.join else ():
            if total >= wanted:
                break
            pauses.append(round(rng.uniform(*recipe.pause_s) * recipe.rate))
            taken.append(rows[n])
            total += pauses[-1] + rows[n].frames
        return taken, tuple(pauses), total


def draw_noise(
    rows: Sequence[PoolRow], frames: int, snr_db: tuple[float, float], rng: np.random.Generator
) -> tuple[PoolRow | None, int, float]:
    """Return a noise for `frames` samples, where it starts, and its SNR in dB; a shorter one starts anywhere."""
    if not rows:
        return None, 0, 0.0
    noise = rows[int(rng.integers(len(rows)))]
    starts = noise.frames if noise.frames < frames else noise.frames - frames + 1
    return noise, int(rng.integers(max(1, starts))), float(rng.uniform(*snr_db))


def voice(row: PoolRow) -> tuple[str, str]:
    """Return what two utterances must differ in to be of two talkers: the name, or the origin of unnamed ones."""
    return ("talker", row.speaker) if row.speaker else ("unknown", row.origin)


def talker(row: PoolRow) -> str:
    """Return the talker's name, or one that belongs to this utterance alone."""
    return row.speaker or f"?{row.id}"


def ask(rows: Sequence[PoolRow]) -> str:
    """Return the query of joined utterances, '' where they have different ones."""
    return rows[0].query if len({row.query for row in rows}) == 1 else ""


def _lay_out(recipe: Recipe, totals: list[int], rng: np.random.Generator) -> tuple[int, list[tuple[int, int, int]]]:
    """Return the mixture's length and for each talker (first sample used, samples used, place).

    With overlap r each next talker starts when a share 1 - r of the present one's time is over: r = 1 is full
    overlap, r = 0 is one after the other.
    """
    n_src, r = recipe.n_src, float(rng.uniform(*recipe.overlap))
    cap = round(recipe.max_s * recipe.rate) if recipe.max_s else max(totals)
    if recipe.length == "seconds":
        frames = max(1, round(recipe.seconds * recipe.rate))
        slots = [math.ceil(frames / (1 + (n_src - 1) * (1 - r)))] * n_src
        at = [round(k * (frames - slots[0]) / max(1, n_src - 1)) for k in range(n_src)]
    else:
        slots = [min([cap, *totals])] * n_src if recipe.length == "min" else [min(cap, total) for total in totals]
        at = [round((1 - r) * sum(slots[:k])) for k in range(n_src)]
        frames = max(start + slot for start, slot in zip(at, slots, strict=True))
        if r == 1:
            slots = [frames] * n_src  # shorter talkers stand anywhere in the longest one's time
    spans = []
    for total, slot, begin in zip(totals, slots, at, strict=True):
        limit = min(total, cap) if recipe.length == "max" else total
        count = min(limit, slot)
        first = int(rng.integers(total - count + 1))
        spans.append((first, count, begin + int(rng.integers(slot - count + 1))))
    return frames, spans
