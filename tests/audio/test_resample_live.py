"""A stream's rate converted with little wait: tones, bands, lengths, blocks of any size, and the wait that is told."""

from __future__ import annotations

import numpy as np
import pytest

from usepcli.audio.resample import length_after, resample
from usepcli.audio.resample_live import LiveResampler

RATES = [(48000, 16000), (16000, 48000), (44100, 16000), (16000, 44100), (8000, 11025), (16001, 8000), (8000, 8000)]


def tone(rate: int, hz: float) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(rate // 2) / rate)[None].astype(np.float32)


def converted(wave: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    return LiveResampler(rate_in, rate_out, len(wave)).push(wave, last=True)


@pytest.mark.parametrize(("rate_in", "rate_out"), RATES)
def test_blocks_of_any_size_give_the_whole_and_its_length(rate_in: int, rate_out: int) -> None:
    draw = np.random.default_rng(0)
    wave = draw.standard_normal((2, 5003)).astype(np.float32)
    stream, at, parts = LiveResampler(rate_in, rate_out, 2), 0, []
    while at < wave.shape[1]:
        size = int(draw.integers(0, 400))
        parts.append(stream.push(wave[:, at : at + size]))
        at += size
    got = np.concatenate([*parts, stream.push(wave[:, :0], last=True)], axis=1)
    assert got.shape == (2, length_after(5003, rate_in, rate_out))
    np.testing.assert_allclose(got, converted(wave, rate_in, rate_out), atol=1e-5)  # sums of 700 products at most


@pytest.mark.parametrize(("rate_in", "rate_out"), RATES)
def test_a_tone_below_the_edge_stays_as_it_was_and_one_above_the_band_is_gone(rate_in: int, rate_out: int) -> None:
    slower, middle = min(rate_in, rate_out), slice(rate_out // 20, -rate_out // 20)
    for hz in (100, 0.45 * slower):  # the pass band ends 0.039 of the slower rate below its half
        got = converted(tone(rate_in, hz), rate_in, rate_out)[0, : rate_out // 2]
        np.testing.assert_allclose(got[middle], tone(rate_out, hz)[0][middle], atol=2e-4)  # 74 dB
    if rate_out < rate_in:
        assert np.abs(converted(tone(rate_in, 0.505 * slower), rate_in, rate_out)[0][middle]).max() < 2e-4


@pytest.mark.parametrize(("rate_in", "rate_out"), RATES[:5])
def test_nothing_is_held_longer_than_told_and_no_other_resampler_is_far(rate_in: int, rate_out: int) -> None:
    stream, given, worst = LiveResampler(rate_in, rate_out, 1), 0, 0.0
    for taken in range(1, 2001):
        given += stream.push(np.ones((1, 1), np.float32)).shape[1]
        worst = max(worst, taken / rate_in - given / rate_out)
    assert worst <= stream.wait_s < 0.0175
    noise = resample(np.random.default_rng(1).standard_normal((1, 4000)).astype(np.float32), 4000, rate_in)
    one, other = converted(noise, rate_in, rate_out), resample(noise, rate_in, rate_out)
    inner = slice(rate_out // 10, -rate_out // 10)
    assert np.abs(one - other)[0, inner].max() < 1e-3 * np.abs(other).max()


def test_rates_of_no_common_measure_keep_few_weights() -> None:
    stream = LiveResampler(7919, 8009, 1)
    for _ in range(6):
        stream.push(np.zeros((1, 2000), np.float32))
    assert 0 < len(stream._rows) <= 4096
