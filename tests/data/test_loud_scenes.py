from __future__ import annotations

from pathlib import Path

import numpy as np
import pyloudnorm
import pytest

from usepcli.data.loud_scenes import LoudPlan, LoudPlanner
from usepcli.data.manifest import PoolRow
from usepcli.data.mixtures import Turn
from usepcli.data.scenes import SceneRecipe

RATE = 8000
ROOT = Path("nowhere")
DRAW = np.random.default_rng(0)


def noise(frames: int, peak: float = 3000.0) -> np.ndarray:
    return np.rint(DRAW.uniform(-peak, peak, frames)).astype(np.int16)


WAVES = {"long": noise(24_000), "short": noise(800), "faint": noise(9000, 3), "silent": np.zeros(9000, np.int16)}


def turn(path: str, gain_db: float, at: int = 0) -> Turn:
    return Turn((path,), "", (), 0, len(WAVES[path]), at, gain_db)


def heard(*turns: Turn, lufs: float = -40.0) -> tuple[np.ndarray, list[float]]:
    """Return the codes of sources and mixture, and what a meter shows of the sources."""
    plan = LoudPlan("x", "train", 24_000, turns, lufs=lufs)
    waves = np.stack(plan.waves(RATE, ROOT, WAVES.__getitem__))
    assert len(waves) == len(plan.files()) and np.array_equal(waves[-1], waves[:-1].astype(int).sum(axis=0))
    meter = pyloudnorm.Meter(RATE)
    return waves, [meter.integrated_loudness(wave / 32768) for wave in waves[:-1]]


def test_a_meter_shows_of_every_part_what_was_asked_for():
    _, levels = heard(turn("long", 0.0), turn("faint", 11.5, 5000), turn("short", -3.0, 23_200))
    assert levels == pytest.approx([-40, -28.5, -43], abs=0.01)
    waves, _ = heard(turn("short", 0.0, 4000))
    assert not waves[0][:4000].any() and not waves[0][4800:].any() and waves[0][4000:4800].any()


def test_a_part_near_the_gate_of_the_meter():
    fading = np.rint(3000 * DRAW.normal(size=24_000) * 10 ** (-np.arange(24_000) / 24_000))  # 20 dB down at its end
    WAVES["fading"] = fading.clip(-32768, 32767).astype(np.int16)
    _, levels = heard(turn("fading", 0.0), lufs=-60.0)
    assert levels == pytest.approx([-60], abs=0.1)  # of 16-bit codes; without a second look it would stand at -60.3


def test_one_gain_for_all_where_the_mixture_would_clip():
    waves, levels = heard(turn("long", 0.0), turn("short", 30.0), lufs=-20.0)
    assert levels[1] - levels[0] == pytest.approx(30, abs=0.01) and levels[0] < -25
    assert 0.97 < np.abs(waves.astype(int)).max() / 32768 < 0.99


def test_silence_stays_silence():
    waves, levels = heard(turn("long", 0.0), turn("silent", 5.0))
    assert not waves[1].any() and levels[0] == pytest.approx(-40, abs=0.01)


def rows(*queries: str) -> list[PoolRow]:
    return [
        PoolRow(f"k{k}", "train", f"train/k{k}", f"k{k}", RATE, 700, query=query) for k, query in enumerate(queries)
    ]


def test_foregrounds_stand_in_their_range_above_the_background_and_ask_all_or_nothing():
    recipe = SceneRecipe((1, 4), RATE, 2.0, 1.0, (-5.0, 25.0))
    street = [PoolRow("b", "train", "", "b", RATE, 16_000, query="street")]
    scenes = [LoudPlanner(recipe, "train", rows("a", "b", "", "d"), street, 0, 0, -45.0).plan(i) for i in range(200)]
    assert all(plan.turns[0].gain_db == 0 and plan.lufs == -45 for plan in scenes)
    snrs = [turn.gain_db for plan in scenes for turn in plan.turns[1:]]
    assert -5 <= min(snrs) < -3.5 and 23.5 < max(snrs) <= 25
    asked = {all(turn.query for turn in plan.turns) for plan in scenes}
    assert asked == {True, False}
    assert all(len({bool(turn.query) for turn in plan.turns}) == 1 for plan in scenes)
