"""Energies and ratios against closed forms and plain float64 arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from usepcli.dsp import decibels, ratios


def orthogonal(n: int, length: int = 4096) -> np.ndarray:
    """Return n orthogonal signals of unit energy: cosines of whole numbers of periods."""
    t = np.arange(length)
    return np.stack([np.cos(2 * np.pi * (7 * i + 3) * t / length) for i in range(n)]) * np.sqrt(2 / length)


@pytest.mark.parametrize("level", [-20.0, 0.0, 40.0, 60.0, 100.0])
def test_ratios_have_their_closed_form(level: float) -> None:
    s, v = orthogonal(2)
    e = 0.5 * s + 0.5 * 10 ** (-level / 20) * v
    assert decibels.si_snr_db(e, s) == pytest.approx(level, abs=1e-6)
    assert decibels.snr_db(s + 10 ** (-level / 20) * v, s) == pytest.approx(level, abs=1e-6)


@pytest.mark.parametrize("gain", [1e-6, -3.0, 1e5])
def test_si_snr_is_blind_to_gain(gain: float) -> None:
    rng = np.random.default_rng(0)
    s = rng.standard_normal((2, 1000))
    e = s + rng.standard_normal((2, 1000))
    np.testing.assert_allclose(decibels.si_snr_db(gain * e, s), decibels.si_snr_db(e, s), atol=1e-9)


def test_perfect_estimate_is_capped_at_200_db() -> None:
    s = np.random.default_rng(0).standard_normal(500)
    assert decibels.snr_db(s, s) == pytest.approx(200)
    assert 200 >= decibels.si_snr_db(s, s) > 190


@settings(max_examples=20)
@given(length=st.integers(1, 9000), n=st.integers(1, 3), k=st.integers(1, 3))
def test_inner_products_are_those_of_float64(length: int, n: int, k: int) -> None:
    rng = torch.Generator().manual_seed(length)
    a, b = torch.randn(2, n, length, generator=rng), torch.randn(2, k, length, generator=rng)
    (energy_a, energy_b), (cross, gram) = ratios.inner([a, b], [(0, 1), (1, 1)])
    a, b = a.double(), b.double()
    # A sum of n products, in any order, is off by no more than n times eps of the sum of their magnitudes, n at most.
    off = length * torch.finfo(torch.float64).eps
    torch.testing.assert_close(energy_a, a.square().sum(-1), rtol=off, atol=0)
    torch.testing.assert_close(energy_b, b.square().sum(-1), rtol=off, atol=0)
    torch.testing.assert_close(cross, torch.einsum("bnt,bkt->bnk", a, b), rtol=0, atol=2 * off * length)
    torch.testing.assert_close(gram, torch.einsum("bnt,bkt->bnk", b, b), rtol=0, atol=2 * off * length)


@pytest.mark.parametrize("length", [1, 5000, 40_000])
@pytest.mark.parametrize("same_sign", [False, True])
def test_narrow_products_are_as_far_off_as_they_say_at_most(length: int, same_sign: bool) -> None:
    rng = torch.Generator().manual_seed(length)
    a, b = torch.randn(2, 4, length, generator=rng), torch.randn(2, 2, length, generator=rng)
    a, b = (a.abs(), b.abs()) if same_sign else (a, b)
    most = ratios.rounding([a, b])
    narrow, wide = (ratios.inner([a, b], [(0, 0), (1, 0)], narrow) for narrow in (True, False))
    norms_a, norms_b = (energy.sqrt() for energy in wide[0])
    for found, exact in zip(narrow[0], wide[0], strict=True):
        assert ((found - exact).abs() <= most * exact).all()
    for found, exact, left in zip(narrow[1], wide[1], (norms_a, norms_b), strict=True):
        assert ((found - exact).abs() <= most * left[..., None] * norms_a[:, None]).all()
        assert not torch.equal(found, exact) or length == 1


def test_only_full_single_precision_on_a_processor_is_narrowed() -> None:
    x = torch.ones(1, 1, 4)
    assert 0 < ratios.rounding([x, x]) < 1e-4
    assert ratios.rounding([x, x.double()]) == ratios.rounding([x.bfloat16()]) == 0
    assert ratios.rounding([x.to("meta")]) == 0
    before = torch.backends.mkldnn.matmul.fp32_precision
    try:
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"
        assert ratios.rounding([x]) == 0
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before
    assert ratios.rounding([x]) > 0


def test_residual_gradient_is_the_numerical_one() -> None:
    rng = torch.Generator().manual_seed(0)
    est = torch.randn(2, 3, 5, dtype=torch.float64, generator=rng, requires_grad=True)
    ref = torch.randn(2, 1, 5, dtype=torch.float64, generator=rng, requires_grad=True)
    gain = torch.tensor(0.7, dtype=torch.float64)
    assert torch.autograd.gradcheck(ratios.residual_energy, (est, ref))
    assert torch.autograd.gradcheck(lambda e, s: ratios.residual_energy(e, s, gain), (est, ref))


# Whole numbers below 2^24 are exact in float32, and so is every sum of them that stays below, in whatever order.


def test_half_precision_is_widened_before_summing() -> None:
    x = torch.full((40_000,), 3.0, dtype=torch.bfloat16)
    assert ratios.energy(x).dtype == torch.float32
    assert float(ratios.energy(x)) == 9 * 40_000
    assert ratios.residual_energy(x, torch.zeros_like(x)).dtype == torch.float32


def test_autocast_narrows_no_energy() -> None:
    x = torch.full((250,), 257.0)  # nine digits, one more than bfloat16 holds
    with torch.autocast("cpu", torch.bfloat16):
        found = [ratios.energy(x), ratios.dot(x, x), ratios.residual_energy(x, torch.zeros_like(x))]
    assert all(value.dtype == torch.float32 for value in found)
    assert [float(value) for value in found] == [250 * 257**2] * 3
