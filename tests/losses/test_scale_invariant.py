"""SI-SNR: known values, blindness to gain, float32 precision, gradient of the formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from usepcli.losses.scale_invariant import SISNR


def signals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def naive(est: Tensor, ref: Tensor, eps: float = 1e-8) -> Tensor:
    gain = ((est * ref).sum(-1, keepdim=True) + eps) / (ref.square().sum(-1, keepdim=True) + eps)
    target = gain * ref
    ratio = (target.square().sum(-1) + eps) / ((target - est).square().sum(-1) + eps)
    return -10 * torch.log10(ratio)


@pytest.mark.parametrize("level", [-10.0, 20.0, 40.0, 60.0])
def test_orthogonal_noise_gives_its_level_in_float32(level: float) -> None:
    t = torch.arange(32_000) / 32_000
    s, v = torch.cos(2 * torch.pi * 440 * t), torch.cos(2 * torch.pi * 997 * t)
    est = 0.3 * (s + 10 ** (-level / 20) * v)
    assert float(SISNR()(est, s)) == pytest.approx(-level, abs=1e-3)
    table = SISNR().pairwise(est[None, None], s[None, None])
    assert float(table) == pytest.approx(-level, abs=1e-3)


def test_gain_does_not_matter_and_the_limit_is_soft() -> None:
    s, e = signals(2, 4000), signals(2, 4000) + 0.1 * signals(2, 4000, seed=1)
    torch.testing.assert_close(SISNR()(7 * e, s), SISNR()(e, s), rtol=0, atol=1e-4)
    torch.testing.assert_close(SISNR(snr_max_db=30.0)(3 * s, s), torch.full((2,), -30.0), rtol=0, atol=1e-3)


def test_gradient_is_that_of_the_formula() -> None:
    ref = signals(3, 500, seed=1).double()
    est = ref + 0.3 * signals(3, 500).double()
    ours, plain = est.clone().requires_grad_(), est.clone().requires_grad_()
    SISNR()(ours, ref).sum().backward()
    naive(plain, ref).sum().backward()
    torch.testing.assert_close(ours.grad, plain.grad, rtol=1e-6, atol=1e-10)


def test_gradient_reaches_the_reference() -> None:
    est = signals(2, 200).double()
    base = (est + signals(2, 200, seed=1)).double()
    ours, plain = base.clone().requires_grad_(), base.clone().requires_grad_()
    SISNR()(est, ours).sum().backward()
    naive(est, plain).sum().backward()
    torch.testing.assert_close(ours.grad, plain.grad, rtol=1e-6, atol=1e-9)
