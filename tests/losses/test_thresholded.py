"""Thresholded losses: closed forms, silent references, precision and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from usepcli.dsp import assign, ratios
from usepcli.errors import ConfigError
from usepcli.losses.base import Loss
from usepcli.losses.multires import MultiResolutionL1
from usepcli.losses.scale_invariant import SISNR
from usepcli.losses.thresholded import SNR, LogMSE

LOSSES = [SNR(), LogMSE(), SISNR(), SISNR(snr_max_db=30.0)]
IDS = ["snr", "log_mse", "si_snr", "si_snr_30"]


def signals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_bounds_of_the_thresholded_snr() -> None:
    y = signals(3, 8000)
    torch.testing.assert_close(SNR()(y, y), torch.full((3,), -30.0), rtol=0, atol=1e-4)
    for e in (torch.zeros_like(y), 2 * y):
        torch.testing.assert_close(SNR()(e, y), torch.full((3,), 0.0043), rtol=0, atol=1e-4)
    torch.testing.assert_close(SNR(snr_max_db=10.0)(y, y), torch.full((3,), -10.0), rtol=0, atol=1e-4)


@pytest.mark.parametrize("snr", [0.0, 20.0, 40.0, 60.0])
def test_unlimited_snr_is_exact_on_waveforms_and_from_products(snr: float) -> None:
    y = signals(2, 2, 32_000)
    e = y + 10 ** (-snr / 20) * signals(2, 2, 32_000, seed=1)
    truth = -10 * torch.log10(y.double().square().sum(-1) / (y.double() - e.double()).square().sum(-1))
    loss = SNR(snr_max_db=None)
    torch.testing.assert_close(loss(e, y).double(), truth, rtol=0, atol=1e-3)
    pairs = loss.pairwise(e, y).diagonal(dim1=1, dim2=2)
    assert pairs.dtype == torch.float64
    torch.testing.assert_close(pairs, truth, rtol=0, atol=1e-3)


def test_log_mse_differs_from_snr_by_the_level_of_the_reference() -> None:
    y, e = signals(4, 500), signals(4, 500, seed=1)
    level = 10 * torch.log10(y.square().sum(-1))
    torch.testing.assert_close(LogMSE()(e, y) - SNR()(e, y), level, rtol=0, atol=1e-4)


@pytest.mark.parametrize("loss", LOSSES, ids=IDS)
def test_pairwise_holds_what_the_waveforms_give(loss: Loss) -> None:
    est, ref, mix = signals(2, 4, 700), signals(2, 3, 700, seed=1), signals(2, 700, seed=2)
    ref[0, 1] = 0
    table = loss.pairwise(est, ref, mix)
    assert table.shape == (2, 3, 4)
    direct = loss(est[:, None], ref[:, :, None], mix[:, None, None])
    torch.testing.assert_close(table.float(), direct, rtol=0, atol=2e-4)


@pytest.mark.parametrize("silent", [False, True], ids=["sounding", "silent"])
@pytest.mark.parametrize("loss", [*LOSSES, MultiResolutionL1()], ids=[*IDS, "multi_resolution_l1"])
def test_outputs_that_are_dealt_out_cost_what_their_sums_do(loss: Loss, silent: bool) -> None:
    est, ref = (signals(2, n, 9000, seed=n).double() for n in (4, 2))
    ref[1, 0] *= not silent
    est.requires_grad_()
    mix, owner = ref.sum(1), torch.tensor([[0, 1, 1, 0], [1, 1, 1, 1]])
    energies = ratios.energy(ref), ratios.energy(mix)[:, None]
    expected = loss(assign.remix(est, owner, 2), ref, mix[:, None])
    found = loss.dealt(est, owner, ref, *energies)
    torch.testing.assert_close(found, expected)
    slopes = [torch.autograd.grad(loss_of.sum(), est)[0] for loss_of in (found, expected)]
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("loss", LOSSES, ids=IDS)
def test_silent_reference_costs_the_zero_reference_loss(loss: Loss) -> None:
    mix, est = signals(1, 1, 900), 0.1 * signals(1, 1, 900, seed=1)
    silent = torch.zeros_like(est)
    expected = 10 * torch.log10(est.square().sum(-1) + 1e-3 * mix.square().sum(-1))
    torch.testing.assert_close(loss(est, silent, mix), expected, rtol=0, atol=1e-4)
    floor = 10 * torch.log10(1e-3 * mix.square().sum(-1))
    torch.testing.assert_close(loss(silent, silent, mix), floor, rtol=0, atol=1e-4)


@pytest.mark.parametrize("loss", LOSSES, ids=IDS)
def test_silence_everywhere_stays_finite_with_gradient(loss: Loss) -> None:
    est = torch.zeros(2, 3, 50, requires_grad=True)
    value = loss(est, torch.zeros(2, 3, 50), torch.zeros(2, 1, 50))
    value.sum().backward()
    assert torch.isfinite(value).all() and torch.isfinite(est.grad).all()


def test_nearly_silent_reference_counts_as_silent_on_request() -> None:
    mix, ref, est = signals(1, 400), 1e-4 * signals(1, 400, seed=1), signals(1, 400, seed=2)
    expected = SNR()(est, torch.zeros_like(ref), mix)
    torch.testing.assert_close(SNR(inactive_db=-60.0)(est, ref, mix), expected)
    assert float((SNR(inactive_db=-90.0)(est, ref, mix) - expected).abs()) > 1


def test_a_reference_counts_as_sounding_from_the_level_that_was_asked_for() -> None:
    mix = torch.ones(1, 1000)
    ref = torch.stack([10 ** (-59.9 / 20) * mix[0], 10 ** (-60.1 / 20) * mix[0], 1e-9 * mix[0]])
    loss = SNR(inactive_db=-60.0)
    ref_energy, mix_energy = ref.square().sum(-1), mix.square().sum(-1)
    assert loss.active(ref_energy, mix_energy, 1000).tolist() == [True, False, False]
    assert SNR().active(ref_energy, mix_energy, 1000).tolist() == [True, True, False]


@pytest.mark.parametrize("loss", [SNR(), LogMSE()], ids=["snr", "log_mse"])
def test_silent_references_subtract_no_level(loss: SNR) -> None:
    mix = signals(1, 300)
    expected = 10 * torch.log10((0.25 + 1e-2) * mix.square().sum(-1))
    loss = type(loss)(zero_snr_max_db=20.0)
    torch.testing.assert_close(loss(0.5 * mix, torch.zeros_like(mix), mix), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("loss", LOSSES, ids=IDS)
def test_the_unlimited_view_has_no_threshold_and_leaves_the_loss_alone(loss: Loss) -> None:
    est, ref, mix = signals(1, 2, 900), signals(1, 2, 900), signals(1, 900, seed=1)
    est = est + 1e-4 * signals(1, 2, 900, seed=2)
    ref[0, 1] = est[0, 1] = 0
    before, free = loss(est, ref, mix[:, None]), loss.unlimited()
    table = free.pairwise(est, ref, mix)[0].diagonal()
    assert type(free) is type(loss)
    level = 10 * torch.log10(ref[0, 0].square().sum()) if isinstance(loss, LogMSE) else 0.0
    assert float(table[0] - level) == pytest.approx(-80, abs=0.5)
    assert float(table[1]) == pytest.approx(-80, abs=1e-6)  # eps alone
    torch.testing.assert_close(loss(est, ref, mix[:, None]), before, rtol=0, atol=0)


@pytest.mark.parametrize("loss", LOSSES, ids=IDS)
def test_leading_dimensions_broadcast(loss: Loss) -> None:
    est, ref = signals(2, 3, 100), signals(2, 3, 100, seed=1)
    whole = loss(est, ref)
    assert whole.shape == (2, 3)
    torch.testing.assert_close(loss(est[1, 2], ref[1, 2]), whole[1, 2])
    torch.testing.assert_close(loss(est[:, :1], ref)[:, 0], whole[:, 0])


@pytest.mark.parametrize("loss", LOSSES, ids=IDS)
def test_autocast_does_not_touch_the_arithmetic(loss: Loss) -> None:
    est, ref = signals(2, 2, 4000), signals(2, 2, 4000, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        inside, table = loss(est, ref), loss.pairwise(est, ref)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, loss(est, ref), rtol=0, atol=0)
    torch.testing.assert_close(table, loss.pairwise(est, ref), rtol=0, atol=0)
    assert loss(est.bfloat16(), ref).dtype == torch.float32


def naive(loss: SNR, est: Tensor, ref: Tensor) -> Tensor:
    energy = ref.square().sum(-1)
    value = 10 * torch.log10((ref - est).square().sum(-1) + loss.tau * energy + loss.eps)
    return value if isinstance(loss, LogMSE) else value - 10 * torch.log10(energy + loss.eps)


@pytest.mark.parametrize("loss", [SNR(), LogMSE()], ids=["snr", "log_mse"])
def test_gradient_is_that_of_the_formula(loss: SNR) -> None:
    est, ref = signals(3, 600).double(), signals(3, 600, seed=1).double()
    ours, plain = est.clone().requires_grad_(), est.clone().requires_grad_()
    loss(ours, ref).sum().backward()
    naive(loss, plain, ref).sum().backward()
    torch.testing.assert_close(ours.grad, plain.grad, rtol=1e-9, atol=1e-12)


def test_bad_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"loss\.eps: found 0\.0"):
        SNR(eps=0.0)
    with pytest.raises(ConfigError, match=r"loss\.snr_max_db: found inf"):
        SNR(snr_max_db=float("inf"))
