from __future__ import annotations

import numpy as np
import pytest

from usepcli.audio.resample import StreamResampler, length_after, resample


def tone(rate: int, hz: float, frames: int) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(frames) / rate)


@pytest.mark.parametrize("frames", [1, 2, 3, 100, 16001])
@pytest.mark.parametrize(("rate_in", "rate_out"), [(16000, 8000), (8000, 16000), (44100, 8000), (8000, 11025)])
def test_length_is_rounded_up(frames: int, rate_in: int, rate_out: int):
    expected = int(np.ceil(frames * rate_out / rate_in))
    assert length_after(frames, rate_in, rate_out) == expected
    assert resample(np.ones((2, 3, frames), np.float32), rate_in, rate_out).shape == (2, 3, expected)


@pytest.mark.parametrize(("rate_in", "rate_out"), [(16000, 8000), (8000, 16000), (44100, 16000), (11025, 8000)])
def test_a_tone_stays_where_it_was(rate_in: int, rate_out: int):
    out = resample(tone(rate_in, 440, rate_in), rate_in, rate_out)
    middle = slice(rate_out // 10, -rate_out // 10)
    np.testing.assert_allclose(out[middle], tone(rate_out, 440, rate_out)[middle], atol=1e-4)


def test_what_the_lower_rate_cannot_hold_is_gone():
    out = resample(tone(16000, 5000, 16000), 16000, 8000)
    assert np.abs(out[400:-400]).max() < 1e-4


def test_equal_rates_change_nothing_and_float64_stays():
    wave = np.random.default_rng(0).normal(size=(2, 50))
    assert resample(wave, 8000, 8000) is wave
    assert resample(wave, 8000, 16000).dtype == np.float64
    assert resample(wave.astype(np.float32), 8000, 16000).dtype == np.float32


@pytest.mark.parametrize(("rate_in", "rate_out"), [(16000, 8000), (8000, 44100), (8000, 8000)])
@pytest.mark.parametrize("block", [1000, 1237, 9000])
def test_a_stream_equals_the_whole(rate_in: int, rate_out: int, block: int):
    wave = np.random.default_rng(1).normal(size=(2, 9001)).astype(np.float32)
    stream = StreamResampler(rate_in, rate_out, 2)
    edges = list(range(0, 9001, block))
    parts = [stream.push(wave[:, at : at + block], last=at == edges[-1]) for at in edges]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), resample(wave, rate_in, rate_out), atol=1e-5)


def test_a_stream_may_end_with_an_empty_block():
    stream = StreamResampler(16000, 8000, 1)
    parts = [stream.push(np.ones((1, 501), np.float32)), stream.push(np.zeros((1, 0), np.float32), last=True)]
    assert sum(part.shape[1] for part in parts) == 251
