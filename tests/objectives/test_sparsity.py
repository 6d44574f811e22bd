"""The terms against spare outputs: bounds, levels, closed forms."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from usepcli.objectives.sparsity import covariance, deviation, levels, sparsity

ONE = torch.ones(1)


def signals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=50)
@given(n=st.integers(1, 9), seed=st.integers(0, 999), gain=st.floats(0.1, 100))
def test_l1_l2_stays_within_its_bounds_at_every_level(n: int, seed: int, gain: float) -> None:
    est = signals(3, n, 50, seed=seed)
    value = sparsity(levels(est, torch.ones(3)), "l1_l2")
    assert ((value >= 1 / n - 1e-5) & (value <= n**-0.5 + 1e-5)).all()
    torch.testing.assert_close(sparsity(levels(gain * est, torch.ones(3)), "l1_l2"), value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("n", "least", "most"), [(8, 0.125, 0.3536), (6, 0.1667, 0.4082)])
def test_one_sounding_output_is_sparsest_and_equal_ones_are_least(n: int, least: float, most: float) -> None:
    alone = torch.zeros(1, n, 400)
    alone[0, 2] = signals(400)
    # The floor of the silent outputs, 80 dB down, is all that keeps the value off its bound.
    assert float(sparsity(levels(alone, ONE), "l1_l2")) == pytest.approx(least, abs=2e-4)
    equal = signals(400).expand(1, n, 400)
    assert float(sparsity(levels(equal, ONE), "l1_l2")) == pytest.approx(most, abs=1e-4)


def test_l1_is_the_mean_level_relative_to_the_mixture() -> None:
    est = torch.tensor([[3.0, 0.0, 1.0]])[..., None] * torch.tensor([1.0, -1.0]).repeat(50)
    assert float(sparsity(levels(est, torch.tensor([2.0])), "l1")) == pytest.approx((1.5 + 1e-4 + 0.5) / 3)


def test_outputs_80_db_down_are_left_alone() -> None:
    est = torch.stack([signals(400), 1e-5 * signals(400, seed=1)])[None].requires_grad_()
    sparsity(levels(est, ONE), "l1_l2").sum().backward()
    assert est.grad is not None and est.grad[0, 0].any() and not est.grad[0, 1].any()
    # The floor follows the mixture: 60 dB below a quiet one is not silent.
    quiet = (1e-2 * est.detach()).requires_grad_()
    sparsity(levels(quiet, torch.tensor([1e-4])), "l1_l2").sum().backward()
    assert quiet.grad is not None and quiet.grad[0, 1].any()


def test_gradient_is_that_of_the_formula() -> None:
    est = signals(2, 4, 60).double().requires_grad_()
    plain = est.detach().clone().requires_grad_()
    rms = plain.square().mean(-1).sqrt() / torch.tensor([[2.0], [3.0]])
    (rms.sum(-1) / rms.square().sum(-1).sqrt() / 4).sum().backward()
    sparsity(levels(est, torch.tensor([2.0, 3.0]).double()), "l1_l2").sum().backward()
    torch.testing.assert_close(est.grad, plain.grad, rtol=1e-6, atol=1e-9)


@settings(max_examples=30)
@given(n=st.integers(2, 6), seed=st.integers(0, 999), gain=st.floats(0.1, 10))
def test_covariance_is_the_mean_correlation_without_sign(n: int, seed: int, gain: float) -> None:
    est = signals(2, n, 40, seed=seed).double()
    level = torch.tensor([1.0, gain]).double()
    expected = []
    for e in est:
        unit = e / e.norm(dim=-1, keepdim=True)
        pairs = [abs(float(unit[i] @ unit[j])) for i in range(n) for j in range(n) if i != j]
        expected.append(sum(pairs) / (n * (n - 1)))
    assert covariance(est, level).tolist() == pytest.approx(expected)


def test_covariance_of_equal_and_of_silent_outputs() -> None:
    same = signals(100).expand(1, 3, 100)
    assert float(covariance(same, ONE)) == pytest.approx(1.0)
    silent = torch.zeros(1, 3, 100, requires_grad=True)
    value = covariance(silent, ONE)
    value.sum().backward()
    assert float(value.detach()) == 0.0 and silent.grad is not None and torch.isfinite(silent.grad).all()
    assert float(covariance(signals(1, 1, 100), ONE)) == 0.0


def test_constant_mixtures_have_deviation_one() -> None:
    mix = torch.stack([torch.zeros(9), torch.ones(9), torch.tensor([-2.0, 0.0, 2.0] * 3)])
    assert deviation(mix).tolist() == pytest.approx([1.0, 1.0, 3**0.5])
