from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usepcli.audio.limiter import LOOK_AHEAD_S, RELEASE_S, Limiter, limit
from usepcli.audio.true_peak import Interpolator, TruePeakMeter

RATE = 8000
CEILING = 10 ** (-1 / 20)


def run(wave: np.ndarray, block: int = 10**6, rate: int = RATE, ceiling: float = CEILING) -> tuple[np.ndarray, Limiter]:
    limiter = Limiter(rate, len(wave), ceiling)
    pieces = limit((wave[:, k : k + block] for k in range(0, wave.shape[1], block)), limiter)
    return np.concatenate(list(pieces), axis=1), limiter


def true_peak(wave: np.ndarray, rate: int = RATE) -> float:
    meter = TruePeakMeter(rate, len(wave))
    meter.push(wave)
    return meter.dbtp


def slow(wave: np.ndarray, ceiling: float = CEILING) -> np.ndarray:
    """The equations of the module, one sample after the other."""
    between, ahead, frames = Interpolator(RATE), round(LOOK_AHEAD_S * RATE), wave.shape[1]
    peak = between.peaks(np.pad(wave, ((0, 0), (between.reach + 1, between.reach))))  # from sample -1 on
    need = [20 * math.log10(max(peak[n], peak[n + 1], ceiling) / ceiling) for n in range(frames)]
    hold = [max(need[max(n, 0) : n + ahead + 1]) for n in range(-ahead, frames)]
    drop, last = [], 0.0
    for held in hold:
        last = max(held, last * math.exp(-1 / (RELEASE_S * RATE)))
        last = last if last >= 1e-3 else 0.0
        drop.append(last)
    short = ahead // 2 + 1
    window = np.convolve(np.ones(short) / short, np.ones(ahead + 2 - short) / (ahead + 2 - short))
    smooth = [sum(window * drop[n : n + ahead + 1]) for n in range(frames)]
    return wave * 10 ** (np.array(smooth) / -20)


def test_equals_the_slow_reference():
    draw = np.random.default_rng(0)
    wave = 0.4 * draw.standard_normal((2, 2500)) * np.where(np.arange(2500) // 400 % 2, 2.5, 0.2)
    np.testing.assert_allclose(run(wave)[0], slow(wave), atol=1e-4)
    np.testing.assert_allclose(run(wave)[0][:, :600], slow(wave)[:, :600], atol=1e-9)


@given(
    seed=st.integers(0, 10**6),
    channels=st.integers(1, 3),
    frames=st.integers(1, 3000),
    level=st.floats(-40, 24),
    ceiling=st.floats(-30, 0),
    block=st.integers(1, 1500),
    bursts=st.integers(1, 40),
)
@settings(max_examples=25)
def test_no_true_peak_passes_the_ceiling_and_no_sample_is_lost(
    seed: int, channels: int, frames: int, level: float, ceiling: float, block: int, bursts: int
):
    draw = np.random.default_rng(seed)
    wave = draw.standard_normal((channels, frames)) * 10 ** (level / 20)
    wave *= np.repeat(draw.uniform(0, 1, bursts) ** 4, -(-frames // bursts))[:frames]
    out, limiter = run(wave, block, ceiling=10 ** (ceiling / 20))
    assert out.shape == wave.shape
    assert np.abs(out).max() <= 10 ** (ceiling / 20) * (1 + 1e-9)
    assert true_peak(out) <= ceiling + 0.1
    # One gain for all channels, never above 1, never a change of sign.
    live = np.abs(wave) > 1e-12
    gain = np.where(live, out / np.where(live, wave, 1), np.nan)
    assert np.nanmax(gain, initial=0) <= 1 and np.nanmin(gain, initial=1) >= 0
    assert np.nanmax(np.nanmax(gain, 0, initial=0) - np.nanmin(gain, 0, initial=1), initial=0) < 1e-9 or not live.all()
    assert limiter.reduction_db <= max(0, true_peak(wave) - ceiling) + 1e-6


def test_block_size_does_not_matter():
    wave = 0.6 * np.random.default_rng(3).standard_normal((2, 5000))
    whole, _ = run(wave)
    for block in (1, 50, 777):
        np.testing.assert_allclose(run(wave, block)[0], whole, atol=1e-9)


def test_below_the_ceiling_the_samples_come_back_themselves():
    wave = np.random.default_rng(4).uniform(-0.3, 0.3, (2, 4000)).astype(np.float32)
    out, limiter = run(wave, 999)
    assert np.array_equal(out, wave)
    assert limiter.reduction_db == 0 and limiter.limited == 0


def test_a_hidden_peak_is_found():
    wave = np.hanning(4000) ** 0.25 * np.sin(np.pi / 2 * np.arange(4000) + np.pi / 4)
    out, limiter = run(wave[None])
    assert np.abs(wave).max() < CEILING  # its samples alone would pass
    assert true_peak(out) == pytest.approx(-1, abs=0.05) and limiter.reduction_db == pytest.approx(1, abs=0.05)


def test_an_impulse_is_met_in_time_and_let_go_smoothly():
    wave = np.full((1, 8000), 0.01)
    wave[0, 4000] = 2.0
    out, limiter = run(wave)
    gain = out[0] / wave[0]
    ahead = round(LOOK_AHEAD_S * RATE)
    assert np.all(gain[: 4000 - ahead - 1] == 1)
    assert out[0, 4000] == pytest.approx(CEILING, rel=1e-6)
    reduction = -20 * np.log10(gain)
    assert limiter.reduction_db == pytest.approx(20 * math.log10(2 / CEILING), abs=0.02)
    later = 4000 + 2 * ahead
    assert reduction[later + 800] == pytest.approx(reduction[later] * math.exp(-800 / (RELEASE_S * RATE)), rel=0.01)
    assert np.abs(np.diff(reduction)).max() < 2.2 * limiter.reduction_db / ahead  # the steepest of a triangle's ramp


def test_wrong_ceiling():
    with pytest.raises(ValueError, match="ceiling 0"):
        Limiter(8000, 1, 0)
