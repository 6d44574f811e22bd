from __future__ import annotations

import math

import numpy as np
import pyloudnorm
import pytest

from usepcli.audio.loudness import LoudnessMeter, gain_to, loudness


def measure(wave: np.ndarray, rate: int, block: int) -> float:
    meter = LoudnessMeter(rate, len(wave))
    for start in range(0, wave.shape[1], block):
        meter.push(wave[:, start : start + block])
    return meter.lufs()


@pytest.mark.parametrize("rate", [8000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("block", [777, 10**6])
def test_agrees_with_pyloudnorm_on_the_whole_in_blocks_of_any_size(rate: int, channels: int, block: int):
    draw = np.random.default_rng(rate + channels)
    wave = 0.1 * draw.standard_normal((channels, 3 * rate))
    wave[:, rate : 2 * rate] *= 0.001  # a pause, for the gate
    expected = pyloudnorm.Meter(rate).integrated_loudness(wave.T)
    assert measure(wave.astype(np.float32), rate, block) == pytest.approx(expected, abs=1e-4)


def test_a_full_scale_sine_of_1_khz_reads_minus_3_lufs():
    wave = np.sin(2 * np.pi * 997 * np.arange(48_000 * 3) / 48_000)[None]
    assert measure(wave, 48_000, 4800) == pytest.approx(-3.01, abs=0.05)


def test_silence_and_less_than_a_gating_block():
    assert measure(np.zeros((2, 16_000)), 8000, 1000) == -math.inf
    assert math.isnan(measure(np.ones((1, 3199)), 8000, 1000))
    assert math.isfinite(measure(np.sin(np.arange(3200))[None], 8000, 1000))


def test_gain_to_moves_the_loudness_and_leaves_the_unmeasurable_alone():
    wave = 0.1 * np.random.default_rng(0).standard_normal((1, 16_000))
    gain = gain_to(-23, measure(wave, 8000, 16_000))
    assert measure(gain * wave, 8000, 16_000) == pytest.approx(-23, abs=1e-6)
    assert gain_to(-23, math.nan) == gain_to(-23, -math.inf) == 1


def test_effects_channel_does_not_count_and_the_sides_count_more():
    tone = 0.1 * np.sin(2 * np.pi * 997 * np.arange(48_000) / 48_000)
    alone = measure(tone[None], 48_000, 48_000)
    for channels, offsets in ((6, [0, 0, 0, None, 1.49, 1.49]), (8, [0, 0, 0, None, 0, 0, 1.49, 1.49])):
        for index, offset in enumerate(offsets):
            wave = np.zeros((channels, len(tone)))
            wave[index] = tone
            expected = -math.inf if offset is None else alone + offset
            assert measure(wave, 48_000, 48_000) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("rate", [60, 1000, 2000, 3000, 3200])
def test_a_slow_recording_is_as_loud_as_at_a_usual_rate(rate: int):
    # Its band ends below the shelf, or near it; the filter made for its rate would run away (below 3000 Hz).
    seconds = np.arange(8 * rate) / rate
    low = rate / 8 if rate > 800 else rate / 2.2
    wave, fine = (
        np.sin(2 * np.pi * low * at) + np.sin(2 * np.pi * 2.1 * low * at)
        for at in (seconds, np.arange(8 * 48000) / 48000)
    )
    found, usual = loudness(wave, rate), loudness(fine, 48000)
    assert np.isfinite(found)
    assert rate < 800 or abs(found - usual) < 0.5
