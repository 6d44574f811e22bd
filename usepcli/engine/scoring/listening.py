"""A blind listening test: trials drawn from a test set, one page without a trace of the truth, and the key beside it.

Three kinds of trial:
  which       an estimate is heard, and with it two references A and B, one of them its own: which does it hold?
              A, B, both, neither
  words       an estimate alone is heard, and A and B are what its mixture's sources are asked for by: which sound is
              it? A, B, both, none (the question of Mahmud et al. 2024, appendix H, and of earlier work by words)
  preference  the estimates A and B of two systems for one reference: which separates it better?
All sounds of a trial start at the same moment of the item and have the same loudness (BS.1770, or the same power where
they are too short for it), so that the louder one does not win.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from usepcli import guard
from usepcli.encoders.templates import ONE
from usepcli.engine import tables
from usepcli.engine.scoring.channels import SILENT_RMS, split
from usepcli.engine.scoring.scoring import Signals
from usepcli.engine.scoring.systems import System
from usepcli.errors import BadInput, ConfigError, MissingDependency, OutputError, UsageError, choices
from usepcli.files import tried, whole

PAGE, KEY = "test.html", "key.csv"
WHICH, WORDS, PREFERENCE = "which", "words", "preference"
KINDS = (WHICH, WORDS, PREFERENCE)
_BEFORE = ONE.lower()  # what prompts begin with, and no listener needs to read
KEY_COLUMNS = ("test", "trial", "kind", "item", "source", "system", "a", "b", "start_s", "seconds")
WORD_COLUMNS = ("a_words", "b_words")  # where a question is asked in words
EXCERPT_S = 10.0
LOUDNESS_LUFS, RMS, PEAK = -23.0, 0.05, 0.99
NO_SYSTEM = ""


@dataclass(frozen=True)
class Trial:
    """One question: the row of the key, and its sounds {role: (wave (T,) or (2, T), rate)}; roles x, a, b, mixture.

    words: what stands for the roles a and b, where they are not heard.
    """

    key: dict[str, Any]
    sounds: dict[str, tuple[np.ndarray, int]]
    words: dict[str, str] = field(default_factory=dict)


def refuse(folder: Path, overwrite: bool) -> None:
    """OutputError if a test lies in the folder already, whose key may be needed, or none can be written into it."""
    there = [name for name in (PAGE, KEY) if (folder / name).exists()]
    if there and not overwrite:
        raise OutputError(f"{folder / there[0]}: exists already; choose another folder, or --overwrite")
    tried(folder)


def check(kind: str, systems: int) -> None:
    """UsageError for a kind that is none, or that does not fit the number of systems."""
    if kind not in KINDS:
        raise UsageError(choices("kind of listening test", kind, KINDS))
    if (kind == PREFERENCE and systems != 2) or not systems:
        raise UsageError(f"a {kind} test needs {'two systems: --against MODEL or folder' if systems else 'a system'}")


def trials(
    systems: Sequence[System], kind: str, count: int, seed: int = 0, say: Callable[[str], None] = lambda line: None
) -> Iterator[Trial]:
    """Yield at most `count` questions in a drawn order; with two systems, but for `preference`, each for both of them.

    An item that cannot be read or separated is said and passed over; one comes twice only when all of them have come
    once.  UsageError for a kind that does not fit the systems, BadInput where no item fits.
    """
    check(kind, len(systems))
    names = [system.name for system in systems]
    if len(set(names)) < len(names):
        raise UsageError(f"both systems are called {names[0]}; the listeners would compare it with itself")
    random = np.random.default_rng(seed)
    candidates = _candidates(systems, kind, random)
    return _asked(systems, kind, candidates, count, random, say)


def _asked(
    systems: Sequence[System],
    kind: str,
    pairs: list[tuple[str, int]],
    count: int,
    random: np.random.Generator,
    say: Callable[[str], None],
) -> Iterator[Trial]:
    lost: set[str] = set()
    used: set[str] = set()
    asked = 0
    for item, source in pairs:
        if asked == count:
            return
        if item in lost:
            continue
        try:
            found = [system.signals(item) for system in systems]
        except Exception as error:
            lost.add(item)
            say(f"left out: {guard.fault(error, item, (UsageError, ConfigError, MissingDependency))}")
            continue
        called = systems[0].words[item] if kind == WORDS else ()
        rivals = _rivals(found[0], source, kind, called)
        if not rivals:
            continue
        asked += 1
        heard = zip(systems, found, strict=True) if kind != PREFERENCE else [(None, found[0])]
        for system, signals in heard:
            name = _fresh(random, used)
            if system is not None:
                yield _which(name, system.name, signals, source, int(random.choice(rivals)), called, random)
            else:
                yield _preference(name, systems, found, source, random)
    if not asked:
        raise BadInput("no item has a sounding reference to ask about; look at the set with --metric si-snr first")


def _candidates(systems: Sequence[System], kind: str, random: np.random.Generator) -> list[tuple[str, int]]:
    """Return (item, source) in a drawn order: one source of every item, then another of every item, ..."""
    least = 1 if kind == PREFERENCE else 2
    items = [i for i, n in systems[0].items.items() if n >= least and all(i in other.items for other in systems[1:])]
    if kind == WORDS:
        items = [item for item in items if item in systems[0].words]
    if not items:
        named = "two references with queries" if kind == WORDS else "two references"
        needed = "a reference" if kind == PREFERENCE else f"{named}, to choose between,"
        raise BadInput(f"{systems[0].name}: no item has {needed} and estimates of every system; give a set that has")
    orders = {item: random.permutation(systems[0].items[item]) for item in items}
    rounds = max(map(len, orders.values()))
    drawn = [[items[i] for i in random.permutation(len(items))] for _ in range(rounds)]
    return [(item, int(orders[item][k])) for k, order in enumerate(drawn) for item in order if k < len(orders[item])]


def _fresh(random: np.random.Generator, used: set[str]) -> str:
    while (name := random.bytes(4).hex()) in used:
        continue
    used.add(name)
    return name


def _rivals(signals: Signals, source: int, kind: str, called: Sequence[str]) -> list[int]:
    """Return the references that an estimate may be taken for: others that sound, and are called something else.

    [] where the reference itself is silent; the reference, where it has no rival.
    """
    sounding = np.sqrt(_powers(signals.ref)) > SILENT_RMS
    if not sounding[source]:
        return []
    if kind == PREFERENCE:
        return [source]
    others = [k for k in np.flatnonzero(sounding).tolist() if k != source]
    return [k for k in others if not called or spoken(called[k]).casefold() != spoken(called[source]).casefold()]


def spoken(query: str) -> str:
    """Return a query as listeners read it, without the beginning of a prompt."""
    whole = " ".join(query.split())
    return whole[len(_BEFORE) :] if whole.casefold().startswith(_BEFORE) and len(whole) > len(_BEFORE) else whole


def _powers(refs: np.ndarray) -> np.ndarray:
    """Return the mean squares (K,) of references (K,T) or (K,C,T)."""
    return np.asarray(np.mean(split(refs) ** 2, (-2, -1)))


def _which(
    name: str,
    system: str,
    signals: Signals,
    source: int,
    rival: int,
    called: Sequence[str],
    random: np.random.Generator,
) -> Trial:
    pair = [(source, rival)[i] for i in random.permutation(2)]
    start, stop = excerpt(signals.ref[pair], signals.rate or 1)
    waves = {"x": signals.est[source], "a": signals.ref[pair[0]], "b": signals.ref[pair[1]]}
    rate = signals.rate or 1
    key = _key(name, WORDS if called else WHICH, signals, source, start, stop) | {
        "system": system, "a": signals.sources[pair[0]], "b": signals.sources[pair[1]],
    }  # fmt: skip
    sounds = matched({role: (wave[..., start:stop], rate) for role, wave in waves.items()})
    if not called:
        return Trial(key, sounds)
    said = {role: spoken(called[k]) for role, k in zip("ab", pair, strict=True)}
    key |= {f"{role}_words": words for role, words in said.items()}
    return Trial(key, {"x": sounds["x"]}, said)


def _preference(
    name: str, systems: Sequence[System], found: Sequence[Signals], source: int, random: np.random.Generator
) -> Trial:
    first, second = (int(i) for i in random.permutation(2))
    own = found[0]
    own_rate = own.rate or 1
    start, stop = excerpt(own.ref[[source]], own_rate)
    parts = {
        "x": (own.ref[source], own_rate),
        "a": (found[first].est[source], found[first].rate or 1),
        "b": (found[second].est[source], found[second].rate or 1),
    }
    if own.mix is not None:
        parts["mixture"] = (own.mix, own_rate)
    cut = {
        role: (wave[..., start * rate // own_rate : stop * rate // own_rate], rate)
        for role, (wave, rate) in parts.items()
    }
    key = _key(name, PREFERENCE, own, source, start, stop) | {
        "system": NO_SYSTEM, "a": systems[first].name, "b": systems[second].name,
    }  # fmt: skip
    return Trial(key, matched(cut))


def _key(name: str, kind: str, signals: Signals, source: int, start: int, stop: int) -> dict[str, Any]:
    rate = signals.rate or 1
    told = {"trial": name, "kind": kind, "item": signals.id, "source": signals.sources[source]}
    return told | {"start_s": round(start / rate, 3), "seconds": round((stop - start) / rate, 3)}


def excerpt(refs: np.ndarray, rate: int, seconds: float = EXCERPT_S) -> tuple[int, int]:
    """Return where (samples) references are to be heard: all, or the `seconds` in which the quietest is loudest.

    refs: (K,T) or (K,C,T).  Each is weighed by its own energy, and the start lies on a whole half second.
    """
    total, length = refs.shape[-1], round(seconds * rate)
    if total <= length:
        return 0, total
    energy = np.cumsum(np.pad((split(refs) ** 2).sum(1), ((0, 0), (1, 0))), axis=-1)  # (K, T + 1)
    starts = np.arange(0, total - length + 1, max(1, rate // 2))
    share = (energy[:, starts + length] - energy[:, starts]) / np.maximum(energy[:, -1:], np.finfo(float).tiny)
    start = int(starts[np.argmax(share.min(0))])
    return start, start + length


def matched(sounds: dict[str, tuple[np.ndarray, int]]) -> dict[str, tuple[np.ndarray, int]]:
    """Return the sounds {role: (wave (T,) or (C, T), rate)} at one loudness; silence stays silent.

    Where one would clip, all come down by the same factor.
    """
    gains = _gains(sounds)
    loud = {role: (np.nan_to_num(wave) * gains[role], rate) for role, (wave, rate) in sounds.items()}
    peak = max((float(np.abs(wave).max(initial=0)) for wave, _ in loud.values()), default=0.0)
    down = min(1.0, PEAK / peak) if peak > 0 else 1.0
    return {role: ((wave * down).astype(np.float32), rate) for role, (wave, rate) in loud.items()}


def _gains(sounds: dict[str, tuple[np.ndarray, int]]) -> dict[str, float]:
    from usepcli.audio.loudness import LoudnessMeter, gain_to

    lufs, powers = {}, {}
    for role, (wave, rate) in sounds.items():
        finite = np.nan_to_num(np.asarray(wave, np.float64))
        powers[role] = float(np.mean(finite**2)) if finite.size else 0.0
        # To the loudness meter a quiet estimate is silence: it is brought near before it is measured.
        near = RMS / math.sqrt(powers[role]) if powers[role] > SILENT_RMS**2 else 0.0
        meter = LoudnessMeter(rate, len(np.atleast_2d(finite)))
        meter.push(np.atleast_2d(finite) * near)
        lufs[role] = (near, meter.lufs())
    audible = [role for role in sounds if lufs[role][0] > 0]
    if all(math.isfinite(lufs[role][1]) for role in audible):
        return {role: near * gain_to(LOUDNESS_LUFS, found) for role, (near, found) in lufs.items()}
    # One measure for all sounds of a trial: loudness where every one has it, else power.
    return {role: near for role, (near, _) in lufs.items()}


def arrange(
    entries: Sequence[dict[str, Any]], keys: Sequence[dict[str, Any]], seed: int
) -> tuple[str, list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the test's name, and what the page holds with the rows of its key, both in one drawn order.

    The name follows from what the page holds: answers to another test, of other sounds, do not fit the key.
    """
    order = np.random.default_rng([seed, 1]).permutation(len(keys))
    shown = [entries[i] for i in order]
    name = hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:12]
    return name, shown, [{"test": name, **keys[i]} for i in order]


def write(folder: Path, asked: Sequence[dict[str, Any]], page: str) -> tuple[Path, Path]:
    """Write the page and the key into a folder and return their paths; OutputError, IOFault.

    Neither takes its name before both are whole: a page without its key would be in the way of another.
    """
    with whole(folder / PAGE, len(page)) as unplaced:
        unplaced.write_text(page, encoding="utf-8", errors="surrogateescape")
        words = WORD_COLUMNS if any(WORD_COLUMNS[0] in row for row in asked) else ()
        tables.write_csv(folder / KEY, asked, (*KEY_COLUMNS, *words))
    return folder / PAGE, folder / KEY
