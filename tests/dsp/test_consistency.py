from __future__ import annotations

import pytest
import torch

from usepcli.dsp.consistency import project
from usepcli.errors import ConfigError


@pytest.fixture
def waves():
    rng = torch.Generator().manual_seed(0)
    est = torch.randn(3, 4, 50, generator=rng, dtype=torch.float64)
    return est, torch.randn(3, 50, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize("kind", ["uniform", "magsq"])
def test_estimates_sum_to_the_mixture_and_stay_when_they_did(waves, kind):
    est, mix = waves
    once = project(est, mix, kind)
    torch.testing.assert_close(once.sum(1), mix)
    torch.testing.assert_close(project(once, mix, kind), once)


def test_none_returns_the_estimates_themselves(waves):
    est, mix = waves
    assert project(est, mix, "none") is est


def test_uniform_is_the_nearest_point(waves):
    est, mix = waves
    near = project(est, mix, "uniform")
    # The move is orthogonal to every direction that keeps the sum.
    along = torch.randn_like(est)
    along -= along.mean(1, keepdim=True)
    assert ((near - est) * along).sum().abs() < 1e-9


def test_magsq_weights_by_hand():
    est = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]])
    got = project(est, torch.tensor([[7.0, 1.0]]), "magsq")
    torch.testing.assert_close(got, torch.tensor([[[6.0, 0.0], [1.0, 1.0]]]))


def test_magsq_leaves_silence_silent_and_shares_among_silent_outputs():
    est = torch.zeros(1, 2, 8)
    est[0, 0] = 1.0
    assert project(est, torch.full((1, 8), 3.0), "magsq")[0, 1].abs().max() < 1e-6
    torch.testing.assert_close(project(torch.zeros(1, 2, 8), torch.ones(1, 8), "magsq"), torch.full((1, 2, 8), 0.5))


@pytest.mark.parametrize("kind", ["uniform", "magsq"])
def test_gradient(waves, kind):
    est, mix = waves
    small = est[:1, :2, :4].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda e: project(e, mix[:1, :4], kind), small)


def test_unknown_kind(waves):
    with pytest.raises(ConfigError, match="uniform"):
        project(*waves, "uniforn")
