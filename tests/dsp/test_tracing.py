"""Outputs put together frame by frame: against a slow STFT, and where the answer is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from usepcli.dsp import tracing

EPS = np.finfo(np.float64).eps


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, shape)


def slow(est: np.ndarray, ref: np.ndarray, size: int, hop: int) -> np.ndarray:
    """Spectra of every frame, one permutation each, inverse spectra added up: one channel, loops."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    ahead, length = (-(-size // hop) - 1) * hop, ref.shape[-1]
    wide = [np.pad(wave, ((0, 0), (ahead, 2 * size))) for wave in (est, ref)]
    total, weight = np.zeros_like(wide[1]), np.zeros(wide[1].shape[-1])
    for start in range(0, ahead + length, hop):
        e, s = (np.fft.fft(window * wave[:, start : start + size]) for wave in wide)
        ways = itertools.permutations(range(len(est)), len(ref))
        best = min(ways, key=lambda way: sum(np.sum(np.abs(e[n] - s[k]) ** 2) for k, n in enumerate(way)))
        total[:, start : start + size] += window * np.fft.ifft(e[list(best)]).real
        weight[start : start + size] += window**2
    return (total / np.maximum(weight, 1e-300))[:, ahead : ahead + length]


@pytest.mark.parametrize(("outputs", "sources", "size", "hop"), [(2, 2, 64, 32), (3, 2, 64, 16), (4, 3, 50, 20)])
def test_it_is_the_short_time_spectrum_assigned_frame_by_frame(outputs: int, sources: int, size: int, hop: int) -> None:
    ref = noise(sources, 997)
    est = np.concatenate([ref, noise(outputs - sources, 997, seed=1)]) + 0.7 * noise(outputs, 997, seed=2)
    fast = tracing.traced(est[:, None], ref[:, None], size, hop)[:, 0]
    assert np.abs(fast - slow(est, ref, size, hop)).max() < 1e4 * EPS


def test_a_swap_half_way_is_undone_up_to_the_frames_it_lies_in() -> None:
    ref = noise(2, 1, 4000)
    est = ref.copy()
    est[:, :, 2000:] = ref[::-1, :, 2000:]
    found = tracing.traced(est, ref, 64, 32)
    away = np.r_[0:1936, 2064:4000]
    assert np.abs(found - ref)[..., away].max() < 100 * EPS
    assert not np.allclose(est, ref)


def test_outputs_that_never_swap_come_back_as_they_are_whatever_their_order() -> None:
    ref = noise(3, 2, 1000)
    est = (ref + 0.1 * noise(3, 2, 1000, seed=1))[[2, 0, 1]]
    assert np.abs(tracing.traced(est, ref, 128, 64) - est[[1, 2, 0]]).max() < 100 * EPS


def test_gains_bring_outputs_to_where_they_add_up() -> None:
    parts = noise(3, 1, 20000)
    mix = parts.sum(0)
    assert tracing.levels(parts, mix) == pytest.approx([1, 1, 1], abs=1e-9)  # held to 1, and 1 already
    gains = tracing.levels(parts * np.array([-2.0, 0.5, 1.0])[:, None, None], mix)
    assert gains == pytest.approx([-0.5, 2, 1], rel=0.1)
    assert tracing.levels(np.stack([mix, mix]) / 3, mix) == pytest.approx([1.5, 1.5])  # nothing tells them apart
    assert tracing.levels(np.zeros((2, 1, 10)), mix[:, :10]) == pytest.approx([0, 0])


def test_more_references_than_outputs_are_refused() -> None:
    with pytest.raises(ValueError, match="2 references for 1 estimates"):
        tracing.traced(noise(1, 1, 100), noise(2, 1, 100), 32, 16)
