"""SI-SNR by the cosine: closed form, its cap, and what is left of it at any level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usepcli import registry
from usepcli.dsp import decibels
from usepcli.metrics.fuss import si_snr_fuss_db

T = 8000


def pair(snr_db: float, level: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A reference and an estimate whose noise is at right angles to it, `snr_db` below."""
    q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((T, 2)))
    s, v = q.T * np.sqrt(T) * level
    return s + 10 ** (-snr_db / 20) * v, s


@pytest.mark.parametrize(("snr", "score"), [(20, 19.999996), (40, 39.9995660), (60, 59.9567862), (90, 79.5860731)])
@pytest.mark.parametrize("level", [1.0, 8e-4])
def test_values_are_the_closed_form_at_any_level(snr: float, score: float, level: float) -> None:
    """With c = 10^(-snr/10): r^2 = 1 / (1 + c), so the score is 10 log10((r^2 + 1e-8) / (1 - r^2 + 1e-8))."""
    c = 10 ** (-snr / 10)
    assert score == pytest.approx(10 * np.log10((1 / (1 + c) + 1e-8) / (c / (1 + c) + 1e-8)), abs=1e-5)
    assert si_snr_fuss_db(*pair(snr, level)) == pytest.approx(score, abs=1e-5)


def test_single_precision_signals_are_computed_in_double() -> None:
    """In float32, 1 - r^2 of a 60 dB estimate is negative or nothing, and its logarithm is nan."""
    est, ref = list[Any](x.astype(np.float32) for x in pair(60))
    assert si_snr_fuss_db(est, ref) == pytest.approx(59.957, abs=1e-2)


def test_the_range_ends_at_80_db() -> None:
    est, ref = pair(20)
    assert si_snr_fuss_db(ref, ref) == pytest.approx(80, abs=1e-6)
    assert si_snr_fuss_db(-3 * ref, ref) == pytest.approx(80, abs=1e-6)
    assert si_snr_fuss_db(np.zeros(T), ref) == pytest.approx(-80, abs=1e-6)
    assert si_snr_fuss_db(est, np.zeros(T)) == pytest.approx(-80, abs=1e-6)


def test_means_count_unless_they_are_removed() -> None:
    est, ref = pair(20)
    est, ref = est - est.mean(), ref - ref.mean()
    assert si_snr_fuss_db(est + 1.0, ref) == pytest.approx(-10 * np.log10(1.01), abs=0.01)
    assert si_snr_fuss_db(est + 1.0, ref + 5.0, zero_mean=True) == pytest.approx(si_snr_fuss_db(est, ref), abs=1e-9)


def test_shapes_broadcast() -> None:
    draw = np.random.default_rng(0)
    est, ref = draw.standard_normal((3, 1, 100)), draw.standard_normal((2, 100))
    every = si_snr_fuss_db(est, ref)
    assert every.shape == (3, 2)
    assert every[2, 1] == pytest.approx(si_snr_fuss_db(est[2, 0], ref[1]), abs=1e-12)


@given(st.integers(0, 2**32 - 1), st.floats(-40, 40), st.floats(1e-3, 1e3))
def test_between_its_ends_it_is_the_si_snr(seed: int, snr: float, gain: float) -> None:
    draw = np.random.default_rng(seed)
    ref = draw.standard_normal(500)
    est = gain * (ref + 10 ** (-snr / 20) * draw.standard_normal(500))
    plain = float(decibels.si_snr_db(est, ref))
    # Each eps moves the value by less than 1e-8 / min(r^2, 1 - r^2), relative.
    assert si_snr_fuss_db(est, ref) == pytest.approx(plain, abs=10 * 1e-8 * 10 ** (abs(plain) / 10) + 1e-6)


def test_metrics_score_and_improve() -> None:
    est, ref = pair(20)
    mix = ref + (est - ref) * 10  # 0 dB
    score, gain = (registry.load("metric", name) for name in ("si-snr-fuss", "si-snri-fuss"))
    np.testing.assert_allclose(score(est[None], ref[None]), [20], atol=1e-5)
    np.testing.assert_allclose(gain(est[None], ref[None], mix), [20], atol=1e-5)
    np.testing.assert_allclose(score(np.zeros((1, T)), ref[None]), [-80], atol=1e-5)
