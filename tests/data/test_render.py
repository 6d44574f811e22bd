from __future__ import annotations

import numpy as np
import pytest

from usepcli.data.mixtures import Plan, Turn
from usepcli.data.render import LEVEL_DBFS, active_rms, render

RATE = 8000


def speech(seed: int, frames: int, peak: float = 3000) -> np.ndarray:
    return np.rint(np.random.default_rng(seed).uniform(-peak, peak, frames)).astype(np.int16)


WAVES = {"a": speech(1, 9000), "b": speech(2, 7000, 200), "c": speech(3, 500), "n": speech(4, 3000, 9000)}


def turn(
    *paths: str, gain_db: float = 0.0, start: int = 0, frames: int = 4000, at: int = 0, pauses: tuple[int, ...] = ()
) -> Turn:
    return Turn(paths, paths[0], pauses, start, frames, at, gain_db)


def level(wave: np.ndarray) -> float:
    return 10 * np.log10(np.mean((wave / 32768.0) ** 2))


def test_sum_level_and_place():
    plan = Plan("x", "train", 8000, (turn("a", gain_db=2.0, start=10), turn("b", gain_db=-2.0, at=3000)))
    mix, sources, noise = render(plan, RATE, WAVES.__getitem__)
    assert mix.dtype == sources.dtype == np.int16 and noise is None
    assert np.array_equal(mix, sources.astype(int).sum(axis=0))
    assert not sources[0, 4000:].any() and not sources[1, :3000].any() and not sources[1, 7000:].any()
    assert level(sources[0, :4000]) == pytest.approx(LEVEL_DBFS + 2, abs=0.02)
    assert level(sources[1, 3000:7000]) == pytest.approx(LEVEL_DBFS - 2, abs=0.02)
    assert np.corrcoef(sources[0, :4000], WAVES["a"][10:4010])[0, 1] > 0.9999


@pytest.mark.parametrize("seed", range(5))
def test_one_gain_for_all_where_anything_would_clip(seed: int):
    rng = np.random.default_rng(seed)
    spikes = np.where(rng.random(8000) < 0.003, rng.choice([-32768, 32767], 8000), rng.integers(-60, 60, 8000))
    waves = {"a": spikes.astype(np.int16), "b": np.roll(spikes, 160).astype(np.int16), "n": speech(9, 100, 32000)}
    plan = Plan(
        "x", "train", 8000, (turn("a", gain_db=20, frames=8000), turn("b", gain_db=19, frames=8000)), "n", 50, -10.0
    )
    mix, sources, noise = render(plan, RATE, waves.__getitem__)
    assert noise is not None
    assert np.array_equal(mix.astype(int), sources.astype(int).sum(axis=0) + noise)
    assert (
        0.95
        < max(np.abs(mix.astype(int)).max(), np.abs(sources.astype(int)).max(), np.abs(noise.astype(int)).max()) / 32768
        < 0.99
    )
    ratio = level(sources[0]) - level(sources[1])
    assert ratio == pytest.approx(1.0, abs=0.02)


def test_noise_repeats_and_keeps_its_ratio():
    plan = Plan("x", "train", 8000, (turn("a", frames=8000), turn("b", frames=7000)), "n", 2900, 7.5)
    mix, sources, noise = render(plan, RATE, WAVES.__getitem__)
    assert noise is not None
    assert level(sources.astype(int).sum(axis=0)) - level(noise) == pytest.approx(7.5, abs=0.02)
    assert np.array_equal(noise[100:3100], noise[3100:6100])
    assert np.array_equal(mix.astype(int), sources.astype(int).sum(axis=0) + noise)


def test_joined_recordings_have_exact_pauses_and_soft_edges():
    plan = Plan("x", "train", 2000, (turn("c", "c", frames=1400, pauses=(400,)),))
    _, sources, _ = render(plan, RATE, WAVES.__getitem__)
    assert not sources[0, 500:900].any()
    assert np.abs(sources[0, 495:500]).max() < 0.1 * np.abs(sources[0]).max()
    assert np.abs(sources[0, 900:905]).max() < 0.1 * np.abs(sources[0]).max()
    scale = sources[0, 100:400] / WAVES["c"][100:400].clip(1)
    assert np.median(scale[WAVES["c"][100:400] > 500]) > 0


def test_silence_stays_silence():
    silent = np.zeros(4000, np.int16)
    plan = Plan("x", "train", 4000, (turn("z"), turn("z")), "z", 0, 5.0)
    mix, sources, noise = render(plan, RATE, lambda _: silent)
    assert not mix.any() and not sources.any() and noise is not None and not noise.any()


def test_active_level_ignores_pauses_but_not_speech():
    wave = np.zeros(16000)
    wave[4000:8000] = np.sin(np.arange(4000))
    assert active_rms(wave, RATE) == pytest.approx(np.sqrt(0.5), rel=0.01)
    assert active_rms(np.full(7, 0.25), RATE) == pytest.approx(0.25)
    assert active_rms(np.zeros(1000), RATE) == 0
