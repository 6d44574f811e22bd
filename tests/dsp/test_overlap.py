from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usepcli.dsp import overlap as ola

RATE = 8000


@given(length=st.integers(1, 400), chunk=st.integers(2, 60), share=st.floats(0.01, 0.5))
def test_spans_cover_everything_with_chunks_of_one_length(length: int, chunk: int, share: float):
    overlap = max(1, int(chunk * share))
    spans = ola.spans(length, chunk, overlap)
    assert spans[0][0] == 0 and spans[-1][1] == length
    assert all(stop - start == min(chunk, length) for start, stop in spans)
    for (_, stop), (start, later) in itertools.pairwise(spans):
        assert stop - start >= overlap and later > stop


@given(
    blocks=st.lists(st.integers(0, 90), min_size=1, max_size=8), chunk=st.integers(2, 60), share=st.floats(0.01, 0.5)
)
def test_chunker_cuts_any_stream_of_blocks_as_spans_cuts_the_whole(blocks: list[int], chunk: int, share: float):
    overlap = max(1, int(chunk * share))
    wave = np.arange(sum(blocks), dtype=np.float32)[None]
    chunker, found, at = ola.Chunker(chunk, overlap), [], 0
    for number, size in enumerate(blocks):
        last = number == len(blocks) - 1
        found += [(start, piece.copy()) for start, piece in chunker.push(wave[:, at : at + size], last)]
        at += size
        assert chunker._held.shape[1] < 2 * chunk - overlap  # the last chunk, and what does not yet make the next
    expected = ola.spans(at, chunk, overlap) if at else []
    assert [(start, start + piece.shape[1]) for start, piece in found] == expected
    assert all(np.array_equal(piece, wave[:, start : start + piece.shape[1]]) for start, piece in found)


def test_chunker_refuses_more_than_half_overlap():
    with pytest.raises(ValueError, match="at most half"):
        ola.Chunker(10, 6)


@given(count=st.integers(1, 300))
def test_cross_fade_keeps_equal_inputs_bit_by_bit_and_weights_sum_to_one(count: int):
    wave = np.random.default_rng(count).standard_normal((2, count)).astype(np.float32)
    assert np.array_equal(ola.cross_fade(wave, wave), wave)
    ones, none = np.ones(count), np.zeros(count)
    np.testing.assert_allclose(ola.cross_fade(ones, none) + ola.cross_fade(none, ones), 1, atol=1e-15)
    assert np.all(np.diff(ola.cross_fade(none, ones)) >= 0)


@given(seed=st.integers(0, 10_000), n_src=st.integers(1, 5))
def test_best_order_and_lead_agree_with_trying_all(seed: int, n_src: int):
    score = np.random.default_rng(seed).standard_normal((n_src, n_src))
    sums = {p: sum(score[i, k] for i, k in enumerate(p)) for p in itertools.permutations(range(n_src))}
    ranked = sorted(sums.values(), reverse=True)
    order, lead = ola.best_order(score)
    assert sums[tuple(order)] == pytest.approx(ranked[0])
    assert lead == (pytest.approx(ranked[0] - ranked[1]) if n_src > 1 else np.inf)


def test_similarity_is_one_in_all_for_equal_estimates():
    wave = np.random.default_rng(0).standard_normal((3, 2, 500))
    assert np.trace(ola.similarity(wave, wave)) == pytest.approx(1)
    assert not ola.similarity(0 * wave, 0 * wave).any()


def test_a_leak_into_a_silent_output_does_not_outvote_the_source():
    # Source 2 pauses: its output holds what leaks of source 1, now with one sign, now with the other. Pair by
    # pair the correlations are 1, -1, 1, -1: undecided; by energy, source 1 decides.
    talker = np.random.default_rng(1).standard_normal(4000)
    old = np.stack([talker, 0.1 * talker])[:, None]
    new = np.stack([-0.1 * talker, talker])[:, None]
    assert ola.best_order(ola.similarity(old, new))[0].tolist() == [1, 0]


def buzz(pitch: float, seconds: float, seed: int) -> np.ndarray:
    """A harmonic sound (1, T) in bursts, with its own weight per harmonic."""
    draw = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    weights = draw.uniform(0.1, 1, int(3500 / pitch))
    wave = sum(w * np.sin(2 * np.pi * pitch * (k + 1) * t + k) for k, w in enumerate(weights))
    return (wave * (np.sin(2 * np.pi * 1.5 * t + seed) > -0.3))[None].astype(np.float32)


def test_a_voice_is_known_again_at_another_level_and_time():
    first = ola.describe(np.stack([buzz(110, 4, 1), buzz(205, 4, 2)]), RATE)
    later = ola.describe(np.stack([0.01 * buzz(205, 3, 2)[:, 5000:], 0.05 * buzz(110, 3, 1)[:, 5000:]]), RATE)
    order, lead = ola.best_order(ola.voice_similarity(first, later))
    assert order.tolist() == [1, 0] and lead > 0.2


def test_voices_add_up_and_follow_a_permutation():
    waves = np.stack([buzz(110, 2, 1), buzz(205, 2, 2)])
    voice = ola.describe(waves, RATE)
    np.testing.assert_allclose((voice + voice).features(), voice.features(), atol=1e-9)
    swapped = ola.describe(waves[::-1].copy(), RATE)
    np.testing.assert_allclose(voice.permuted(np.array([1, 0])).features(), swapped.features(), atol=1e-9)


@pytest.mark.parametrize("length", [1, 7, 512, 5000])
def test_silence_is_no_voice_and_prefers_nobody(length: int):
    silent = ola.describe(np.zeros((2, 1, length), np.float32), RATE)
    assert not silent.frames.any()
    assert ola.best_order(ola.voice_similarity(silent, silent))[1] == 0
    assert ola.best_order(ola.voice_similarity(ola.Voice.empty(2), silent))[1] == 0


def test_band_power_keeps_the_level():
    wave = np.random.default_rng(3).standard_normal((1, 1, 80_000)).astype(np.float32)
    ratio = ola.band_power(2 * wave, RATE).sum() / ola.band_power(wave, RATE).sum()
    assert ratio == pytest.approx(4, rel=1e-4)
