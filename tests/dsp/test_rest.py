from __future__ import annotations

import itertools

import numpy as np
import pytest

from usepcli.dsp import rest

RATE = 8000


def tone(frequency: float, seconds: float, rate: int = RATE) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate).astype(np.float32)


def test_weights_are_powers_over_their_sum_and_equal_where_nothing_sounds():
    found = rest.normalised(np.array([[3.0, 0.0, 1e-300], [1.0, 0.0, 0.0]]))
    np.testing.assert_allclose(found, [[0.75, 0.5, 1], [0.25, 0.5, 0]])


def test_the_rest_goes_to_the_source_that_sounds():
    first, second = tone(300, 2), tone(700, 2)
    first[RATE:], second[:RATE] = 0, 0
    wave = first + second
    found = rest.share(0.5 * np.stack([first, second])[:, None], wave[None], RATE)
    np.testing.assert_allclose(found.sum(0)[0], wave, atol=1e-6)
    away = RATE // 20
    np.testing.assert_allclose(found[0, 0, : RATE - away], first[: RATE - away], atol=1e-6)
    np.testing.assert_allclose(found[1, 0, RATE + away :], second[RATE + away :], atol=1e-6)


def test_nothing_left_over_changes_nothing_and_a_silent_source_stays_silent():
    sources = np.stack([tone(300, 1), tone(500, 1)])[:, None]
    assert rest.share(sources, sources.sum(0, dtype=np.float64), RATE) is sources
    sources[1] = 0
    found = rest.share(sources, 2 * sources.sum(0), RATE)
    assert not found[1].any()
    np.testing.assert_allclose(found[0], 2 * sources[0], atol=1e-7)


@pytest.mark.parametrize("length", [1, 100, 128, 129, 5000, 40_000])
def test_whatever_the_length_sources_and_their_shares_add_up(length: int):
    draw = np.random.default_rng(length)
    sources = draw.standard_normal((3, 2, length)).astype(np.float32)
    wave = draw.standard_normal((2, length)).astype(np.float32)
    found = rest.share(sources, wave, RATE)
    np.testing.assert_allclose(found.sum(0, dtype=float), wave, atol=16 * np.finfo(np.float32).eps)


def test_what_is_missing_of_a_bin_goes_to_the_source_of_that_bin():
    first, second = tone(500, 2), tone(1500, 2)
    # Both are heard in one place too, a tenth of the other each, and half of the second is lost.
    sources = np.stack([first + 0.1 * second, 0.5 * second])[:, None]
    found = rest.share(sources, (first + second)[None], RATE)
    inside = slice(RATE // 10, -RATE // 10)
    # Of the missing 0.4, by amplitudes of 0.1 and 0.5: a sixth and five sixths. The first is not touched.
    np.testing.assert_allclose(found[0, 0, inside], (first + (0.1 + 0.4 / 6) * second)[inside], atol=2e-3)
    np.testing.assert_allclose(found[1, 0, inside], ((0.5 + 0.4 * 5 / 6) * second)[inside], atol=2e-3)


def weigh(sources: np.ndarray, rate_out: int, high: bool, steps: list[int]) -> np.ndarray:
    """Return the weights (N, T') of sources (N, C, T) given in pieces, taken as soon as they are ready."""
    weights, found = rest.Weights(len(sources), RATE, rate_out, high), []
    edges = np.cumsum([0, *steps, sources.shape[2] - sum(steps)])
    total = sources.shape[2] * rate_out // RATE
    for at, stop in itertools.pairwise(edges):
        weights.hear(sources[:, :, at:stop], last=stop == sources.shape[2])
        ready = weights.ready()
        given = sum(part.shape[1] for part in found)
        found.append(weights.take(total - given if ready is None else min(ready, total - given)))
    return np.concatenate(found, axis=1)


@pytest.mark.parametrize("rate_out", [8000, 16_000, 44_100, 6000])
@pytest.mark.parametrize("high", [False, True])
def test_weights_of_pieces_are_those_of_the_whole(rate_out: int, high: bool):
    sources = np.random.default_rng(0).standard_normal((3, 2, RATE)).astype(np.float32)
    whole = weigh(sources, rate_out, high, [])
    parts = weigh(sources, rate_out, high, [1, 5, 900, 64, 3000])
    assert whole.shape == (3, rate_out)
    np.testing.assert_allclose(parts, whole, atol=1e-12)
    np.testing.assert_allclose(whole.sum(0), 1, atol=1e-12)
    assert whole.min() >= 0 and np.abs(np.diff(whole)).max() < 0.01 * RATE / min(RATE, rate_out)  # no zipper


def test_highs_are_shared_by_the_top_of_the_band_and_by_all_of_it_where_that_is_empty():
    loud, bright = tone(300, 1), 0.1 * tone(3500, 1)
    middle = slice(RATE // 2, RATE)
    by_top = weigh(np.stack([loud, bright])[:, None], 2 * RATE, True, [])[:, middle]
    by_all = weigh(np.stack([loud, bright])[:, None], 2 * RATE, False, [])[:, middle]
    assert by_top[1].min() > 0.7 and by_all[0].min() > 0.98
    dull = weigh(np.stack([loud, 0.1 * tone(500, 1)])[:, None], 2 * RATE, True, [])[:, middle]
    np.testing.assert_allclose(dull[0], 10 / 11, atol=0.02)


def test_the_course_of_the_weights_is_where_the_sound_is():
    first, second = tone(1000, 2), tone(1500, 2)
    first[RATE:], second[:RATE] = 0, 0
    found = weigh(np.stack([first, second])[:, None], 48_000, False, [500] * 20)
    assert abs(int(np.argmax(found[1] > 0.5)) - 48_000) < 48_000 * 0.01
