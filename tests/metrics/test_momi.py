"""MoMi and MSi: closed forms, and a search by brute force on the waveforms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from usepcli.dsp import decibels
from usepcli.metrics import momi

TAU = 1e-3


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def brute_force(est: np.ndarray, mixtures: np.ndarray) -> tuple[int, ...]:
    def cost(owner: tuple[int, ...]) -> float:
        total = 0.0
        for p, mixture in enumerate(mixtures):
            part = est[[n for n, q in enumerate(owner) if q == p]].sum(0)
            energy = np.sum(mixture**2)
            total += 10 * math.log10((np.sum((mixture - part) ** 2) + TAU * energy) / energy)
        return total

    return min(itertools.product(range(len(mixtures)), repeat=len(est)), key=cost)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("n_mix", [2, 3])
def test_outputs_are_dealt_as_by_brute_force(seed: int, n_mix: int) -> None:
    sources = noise(4, 500, seed=seed)
    mixtures = np.stack([sources[p::n_mix].sum(0) for p in range(n_mix)])
    est = sources + 0.8 * noise(4, 500, seed=seed + 100)
    assert tuple(momi.deal(est, mixtures)) == brute_force(est, mixtures)


def test_orthogonal_mixtures_of_equal_level_at_known_error() -> None:
    # x = x1 + x2 with <x1, x2> = 0 and equal energy: SI-SNR of x against either is 0 dB.
    # Each output holds a tenth of the other's amplitude: 20 dB.
    a, b = np.zeros(100), np.zeros(100)
    a[::2], b[1::2] = 1.0, 1.0
    est = np.stack([a + 0.1 * b, b + 0.1 * a])
    assert momi.momi(est, np.stack([a, b])) == pytest.approx(20.0)
    assert momi.momi(-3 * est, np.stack([a, b])) != pytest.approx(20.0)  # a wrong sign costs the assignment
    assert momi.momi(0.5 * est, np.stack([a, b])) == pytest.approx(20.0)


def test_unseparated_sums_score_nothing() -> None:
    mixtures = noise(2, 400)
    whole = mixtures.sum(0)
    assert momi.momi(np.stack([whole / 3] * 3), mixtures) == pytest.approx(0, abs=1e-9)
    assert momi.momi(np.stack([whole, 0 * whole]), mixtures) == pytest.approx(0, abs=1e-9)
    assert momi.momi(np.full((2, 400), np.nan), mixtures) == 0


def test_order_of_outputs_and_of_mixtures_does_not_matter() -> None:
    mixtures, est = noise(2, 300), noise(4, 300, seed=1) + noise(1, 300)
    value = momi.momi(est, mixtures)
    assert momi.momi(est[[2, 0, 3, 1]], mixtures) == pytest.approx(value)
    assert momi.momi(est, mixtures[::-1]) == pytest.approx(value)


def test_level_does_not_matter() -> None:
    mixtures, est = noise(2, 300), noise(3, 300, seed=1) + noise(1, 300)
    assert momi.momi(1e-4 * est, 1e-4 * mixtures) == pytest.approx(momi.momi(est, mixtures))


def test_silent_mixtures_stay_out() -> None:
    mixture = noise(1, 200)
    one = np.concatenate([mixture, np.zeros((1, 200))])
    # x = x1: the unprocessed score is the bound of a perfect one, the estimate falls short of it.
    est = np.stack([mixture[0] + 0.1 * noise(200, seed=3), np.zeros(200)])
    want = decibels.si_snr_db(est[0], mixture[0]) - decibels.si_snr_db(mixture[0], mixture[0])
    assert momi.momi(est, one) == pytest.approx(float(want))
    assert math.isnan(momi.momi(est, np.zeros((2, 200))))


def test_msi_is_the_mean_improvement_of_the_best_outputs() -> None:
    sources = np.zeros((4, 100))
    for k in range(4):
        sources[k, k::4] = 1.0
    whole = sources.sum(0)
    # Unprocessed: one part in four, -10 log10 3 dB. Outputs hold a tenth of one other source: 20 dB.
    est = np.stack([sources[k] + 0.1 * sources[(k + 1) % 4] for k in (3, 1, 0, 2)])
    assert momi.msi(est, sources, whole) == pytest.approx(20 + 10 * math.log10(3))
    assert momi.msi(est, np.concatenate([sources, np.zeros((2, 100))]), whole) == pytest.approx(20 + 10 * math.log10(3))
    assert math.isnan(momi.msi(est[:3], sources, whole)) and math.isnan(momi.msi(est, 0 * sources, whole))


def test_too_many_outputs_are_refused() -> None:
    with pytest.raises(ValueError, match="assignments"):
        momi.deal(noise(momi.MAX_OUTPUTS + 1, 10), noise(2, 10))
