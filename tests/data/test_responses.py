"""Random frequency responses: within their bounds, smooth, another each time, and none at 0 dB."""

from __future__ import annotations

import numpy as np

from usepcli.data.responses import heard_through, low_passed

RATE = 16000


def test_gains_lie_within_the_bounds_and_on_lines_between_octaves() -> None:
    impulse = np.zeros(4096)
    impulse[100] = 1.0
    found = np.fft.rfft(heard_through(impulse, RATE, 12.0, np.random.default_rng(0))) / np.fft.rfft(impulse)
    assert np.abs(found.imag).max() < 1e-12  # the phase stays
    gains = 20 * np.log10(found.real)
    assert np.abs(gains).max() <= 12 + 1e-9 and np.ptp(gains) > 3
    freqs = np.fft.rfftfreq(4096, 1 / RATE)
    between = (freqs >= 1000) & (freqs <= 2000)
    octave = np.log2(freqs[between])
    line = np.interp(octave, octave[[0, -1]], gains[between][[0, -1]])
    np.testing.assert_allclose(gains[between], line, atol=1e-9)


def test_each_draw_is_another_and_none_at_0_db_changes_anything() -> None:
    wave = np.random.default_rng(1).standard_normal(1001)
    draw = np.random.default_rng(2)
    first, second = (heard_through(wave, RATE, 6.0, draw) for _ in range(2))
    assert first.shape == wave.shape and np.abs(first - second).max() > 0.1
    np.testing.assert_allclose(heard_through(wave, RATE, 0.0, draw), wave, atol=1e-12)


def test_nothing_is_left_above_a_cut_and_all_below_it() -> None:
    waves = np.random.default_rng(3).standard_normal((2, 1600))  # bins of 10 Hz
    found, freqs = low_passed(waves, RATE, 3000.0), np.fft.rfftfreq(1600, 1 / RATE)
    gain = np.fft.rfft(found) / np.fft.rfft(waves)
    assert np.abs(gain[:, freqs > 3300]).max() < 1e-12 and np.abs(gain[:, freqs <= 3000] - 1).max() < 1e-12
    # Between them cos^2, which is a half in the middle.
    np.testing.assert_allclose(gain[:, freqs == 3150], 0.5, atol=1e-12)
    np.testing.assert_allclose(low_passed(waves, RATE, 8000.0), waves, atol=1e-12)
