from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.signal import resample

from usepcli.audio.true_peak import Interpolator, TruePeakMeter, decibel


def measure(wave: np.ndarray, rate: int, block: int = 10**6) -> float:
    meter = TruePeakMeter(rate, len(wave))
    for start in range(0, wave.shape[1], block):
        meter.push(wave[:, start : start + block])
    return meter.dbtp


def faded_sine(hertz: float, phase: float, rate: int = 48_000, frames: int = 9600) -> np.ndarray:
    """A sine whose ends are faded, so that nothing rings where it starts."""
    return np.hanning(frames) ** 0.25 * np.sin(2 * np.pi * hertz * np.arange(frames) / rate + phase)


def test_a_sine_at_a_quarter_of_the_rate_hides_3_db_between_its_samples():
    wave = faded_sine(12_000, math.pi / 4)[None]
    assert decibel(np.abs(wave).max()) == pytest.approx(-3.01, abs=0.01)
    assert measure(wave, 48_000) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("hertz", [100, 997, 5000, 11_000, 16_000, 19_000])
@pytest.mark.parametrize("phase", [0.0, 0.4, 1.3])
def test_sines_read_their_amplitude_as_far_as_four_points_a_sample_can(hertz: float, phase: float):
    # Between two points of the raised rate a sine falls by at most cos(pi f / (4 rate)).
    lost = decibel(math.cos(math.pi * hertz / (4 * 48_000)))
    assert lost - 0.02 <= measure(faded_sine(hertz, phase)[None], 48_000) <= 0.02


def test_agrees_with_an_ideal_interpolation_of_noise():
    draw = np.random.default_rng(0)
    smooth = resample(draw.standard_normal((2, 400)), 1000, axis=1)  # ends at 0.4 of the half rate, periodic
    wave = np.tile(smooth, (1, 3))
    ideal = decibel(np.abs(resample(smooth, 4000, axis=1)).max())
    meter = TruePeakMeter(44_100, 2)
    meter.push(wave)
    assert meter.dbtp == pytest.approx(ideal, abs=0.02)


@pytest.mark.parametrize("block", [1, 37, 5000])
def test_block_size_does_not_matter(block: int):
    wave = 0.1 * np.random.default_rng(1).standard_normal((2, 6000))
    wave[:, 5999] = 0.9  # the last peaks stand in the meter's tail
    assert measure(wave, 48_000, block) == pytest.approx(measure(wave, 48_000), abs=1e-9)


def test_skipped_parts_are_those_that_cannot_matter():
    wave = np.random.default_rng(2).standard_normal((1, 20_000)) * np.geomspace(1e-3, 1, 20_000)
    whole = Interpolator(48_000).peaks(wave)
    skipped = Interpolator(48_000).peaks(wave, floor=0.5)
    assert skipped.max() == whole.max() and np.all(skipped <= whole)
    assert np.array_equal(np.maximum(skipped, 0.5), np.maximum(whole, 0.5))


@pytest.mark.parametrize(("rate", "filters"), [(44_100, 3), (96_000, 1), (192_000, 0)])
def test_the_rate_is_raised_to_192_khz_about(rate: int, filters: int):
    assert len(Interpolator(rate)._filters) == filters


def test_silence_one_sample_and_nothing():
    assert measure(np.zeros((2, 100)), 8000) == -math.inf
    assert measure(np.zeros((1, 0)), 8000) == -math.inf
    assert measure(np.full((1, 1), 0.5), 8000) == pytest.approx(decibel(0.5))
