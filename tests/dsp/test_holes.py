"""Spectral holes: tones of which the estimate lacks one, levels, signs, shares in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from usepcli.dsp import holes

RATE = 8000
TIME = np.arange(2 * RATE) / RATE


def tone(hz: float, level: float = 1.0) -> np.ndarray:
    return level * np.sin(2 * np.pi * hz * TIME)


def test_a_perfect_estimate_of_any_level_and_sign_has_no_holes():
    ref = tone(500) + np.random.default_rng(0).normal(0, 0.1, len(TIME))
    for factor in (1.0, 0.01, -30.0):
        found = holes.find(factor * ref, ref, RATE)
        assert found.energy == found.area == 0 and not found.mask.any()


def test_the_tone_that_is_missing_is_the_hole():
    # Two tones of amplitudes 1 and 1/2: what is lost is 1/5 of the energy.
    found = holes.find(tone(500), tone(500) + tone(2000, 0.5), RATE)
    assert found.energy == pytest.approx(0.25 / 1.25, abs=0.01)
    rows = np.flatnonzero(found.mask.any(1))
    assert np.all(np.abs(found.bins_hz[rows] - 2000) < 150) and len(rows)  # the cut ends widen the line
    assert found.mask[np.argmin(np.abs(found.bins_hz - 2000))].all()


def test_a_gap_in_time_lies_where_it_was_made():
    est = np.where((TIME >= 0.5) & (TIME < 1.0), 0.0, tone(1000))
    found = holes.find(est, tone(1000), RATE)
    at = found.times_s[found.mask[np.argmin(np.abs(found.bins_hz - 1000))]]
    assert 0.5 <= at.min() < 0.6 and 0.9 < at.max() <= 1.0
    assert found.energy == pytest.approx(0.25, abs=0.04)


@pytest.mark.parametrize("rate", [8000, 11025, 44100])
def test_a_rectangle_of_silence_counts_but_for_its_edges(rate: int) -> None:
    """Noise for 4 s of which a band is silent for a second: an eighth of the band, less up to 3 cells on each side."""
    ref = np.random.default_rng(0).normal(size=4 * rate)
    window, hop = holes._sizes(rate)
    first, last, rows = rate, 2 * rate, window // 8  # an eighth of the bins, and as many below
    est, cells = ref.copy(), np.fft.rfft(ref[first:last])
    hertz = np.fft.rfftfreq(last - first, 1 / rate)
    cells[(hertz >= rows * rate / window / 2) & (hertz < 1.5 * rows * rate / window)] = 0
    est[first:last] = np.fft.irfft(cells, last - first)
    found = holes.find(est, ref, rate)
    frames, bins = (last - first) / hop, rows
    most, least = (((frames - less) * (bins - less)) / found.mask.size for less in (0, 6))
    assert least <= found.area <= most and found.energy == pytest.approx(found.area, abs=0.15 * most)


@pytest.mark.parametrize("rate", [1000, 16000, 192000])
@pytest.mark.parametrize("length", [1, 2, 7, 1001])
def test_any_rate_and_length_whatever_the_levels(rate: int, length: int) -> None:
    random = np.random.default_rng(length)
    ref, noise = random.normal(size=(2, length))
    assert holes.find(ref, ref, rate).area == 0 and holes.find(np.zeros(length), ref, rate).area == 1
    found = holes.find(ref + noise, ref, rate)
    for factor in (1e-6, 1e6, -3.0):
        assert np.array_equal(holes.find(factor * (ref + noise), ref, rate).mask, found.mask)
        assert np.array_equal(holes.find(ref + noise, factor * ref, rate).mask, found.mask)


@pytest.mark.parametrize(("left_db", "hole"), [(-15, False), (-25, True)])
def test_twenty_decibels_below_is_the_limit(left_db: float, hole: bool):
    est = tone(500) + tone(2000, 0.5 * 10 ** (left_db / 20))
    assert (holes.find(est, tone(500) + tone(2000, 0.5), RATE).energy > 0.1) is hole


def test_what_is_fifty_decibels_below_the_loudest_does_not_count_as_sounding():
    assert holes.find(tone(500), tone(500) + tone(2000, 10 ** (-50 / 20)), RATE).area == 0


def test_a_silent_estimate_loses_all_and_a_silent_reference_nothing_that_could_be_counted():
    lost = holes.find(np.zeros(len(TIME)), tone(500), RATE)
    assert lost.energy == lost.area == 1
    none = holes.find(tone(500), np.zeros(len(TIME)), RATE)
    assert np.isnan(none.energy) and np.isnan(none.area) and not none.mask.any()


def test_an_unlike_estimate_is_compared_at_equal_power_and_not_blown_up():
    # The cosine of two tones is 0: a projection would multiply the estimate until it filled every hole.
    assert holes.find(tone(700), tone(2000), RATE).energy > 0.99


def test_a_picture_gets_the_marks_of_the_cells_nearest_to_its_own():
    mask = np.zeros((4, 6), bool)
    mask[:2, :3] = True  # low frequencies, early
    found = holes.Holes(mask, np.arange(6.0), np.arange(4) * 100.0, 0.5, 0.5)
    assert holes.on_grid(found, np.array([1.0, 4.0]), np.array([50.0, 250.0])).tolist() == [
        [True, False],
        [False, False],
    ]
    assert holes.on_grid(found, found.times_s, found.bins_hz).tolist() == mask.T.tolist()
    # More rows than cells: the nearest one speaks.
    assert holes.on_grid(found, np.array([1.0]), np.array([0.0, 20.0, 90.0, 290.0])).tolist() == [
        [True, True, True, False]
    ]


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="expected"):
        holes.find(np.zeros(3), np.zeros(4), RATE)
