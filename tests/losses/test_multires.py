"""SNR with amplitudes and spectra: closed forms, a slow reference, levels, and the search by the whole loss."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from usepcli.errors import ConfigError
from usepcli.losses.base import Products
from usepcli.losses.multires import MultiResolutionL1
from usepcli.losses.thresholded import SNR
from usepcli.objectives.pit import match

SMALL = {"n_fft": (64, 128), "win": (40, 100), "hop": (10, 50)}


def signals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small(**options: object) -> MultiResolutionL1:
    return MultiResolutionL1(**SMALL, **options)


def magnitudes(x: Tensor, n_fft: int, win: int, hop: int) -> Tensor:
    """Frame by frame: the window stands in the middle of n_fft samples, the signal between zeros."""
    window = torch.zeros(n_fft, dtype=x.dtype)
    start = (n_fft - win) // 2
    window[start : start + win] = torch.hann_window(win, dtype=x.dtype)
    frames = 1 + -(-len(x) // hop)
    padded = torch.zeros((frames - 1) * hop + n_fft, dtype=x.dtype)
    padded[n_fft // 2 : n_fft // 2 + len(x)] = x
    return torch.stack([torch.fft.rfft(window * padded[i * hop : i * hop + n_fft]).abs() for i in range(frames)])


def slow(est: Tensor, ref: Tensor, level: Tensor | float, logarithm: bool = False, common: bool = False) -> Tensor:
    total = SNR()(est, ref) + (ref - est).abs().mean() / level
    for sizes in zip(*SMALL.values(), strict=True):
        y, e = magnitudes(ref, *sizes) / level, magnitudes(est, *sizes) / level
        if logarithm:
            y, e = (y + 1e-8).log(), (e + 1e-8).log()
            y, e = (y / math.log(10), e / math.log(10)) if common else (y, e)
        total = total + (y - e).abs().mean() / 2
    return total


@pytest.mark.parametrize(("logarithm", "base"), [(False, "e"), (True, "e"), (True, "10")])
@pytest.mark.parametrize("length", [1, 37, 503])
def test_value_and_gradient_are_those_of_the_slow_form(logarithm: bool, base: str, length: int) -> None:
    ref, mix = signals(length).double(), 3 * signals(length, seed=2).double()
    level = mix.square().mean().sqrt()
    est = (ref + 0.3 * signals(length, seed=1)).requires_grad_()
    plain = est.detach().clone().requires_grad_()
    ours, theirs = (
        small(logarithm=logarithm, log_base=base)(est, ref, mix),
        slow(plain, ref, level, logarithm, base == "10"),
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(est.grad, plain.grad, rtol=1e-4, atol=1e-5)


def test_a_perfect_estimate_and_a_turned_one() -> None:
    y = signals(2, 8000)
    loss = MultiResolutionL1()
    torch.testing.assert_close(loss(y, y), torch.full((2,), -30.0), rtol=0, atol=1e-4)
    # -y has the spectra of y: what is left is 10 log10(4 + tau) and twice the mean amplitude.
    expected = 10 * torch.log10(torch.tensor(4 + 1e-3)) + 2 * y.abs().mean(-1)
    torch.testing.assert_close(loss(-y, y), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("base", "decade"), [("e", math.log(10)), ("10", 1.0)])
def test_a_gain_of_ten_is_one_decade_of_magnitude_at_every_frequency(base: str, decade: float) -> None:
    y = signals(2, 4000)
    expected = SNR()(10 * y, y) + 9 * y.abs().mean(-1) + decade
    torch.testing.assert_close(small(logarithm=True, log_base=base)(10 * y, y), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("logarithm", [False, True])
def test_the_level_of_the_recording_does_not_matter(logarithm: bool) -> None:
    est, ref, mix = signals(2, 3, 600), signals(2, 3, 600, seed=1), signals(2, 1, 600, seed=2)
    loss = small(logarithm=logarithm)
    whole = loss(est, ref, mix)
    torch.testing.assert_close(loss(1e-2 * est, 1e-2 * ref, 1e-2 * mix), whole, rtol=1e-4, atol=1e-4)
    loud, quiet = small(relative=False)(est, ref, mix), small(relative=False)(1e-2 * est, 1e-2 * ref, 1e-2 * mix)
    snr = SNR()(est, ref, mix)
    torch.testing.assert_close(quiet - snr, 1e-2 * (loud - snr), rtol=1e-2, atol=1e-4)


def test_silent_references_cost_the_quiet_loss_and_what_sounds_in_their_place() -> None:
    mix, est = signals(1, 500).double(), 0.1 * signals(1, 500, seed=1).double()
    silent = torch.zeros_like(est)
    level = mix.square().mean().sqrt()
    amplitudes = slow(est[0], silent[0], level) - SNR()(est[0], silent[0])
    torch.testing.assert_close(small()(est, silent, mix)[0], SNR()(est, silent, mix)[0] + amplitudes)
    zeros = torch.zeros(1, 3, 500, requires_grad=True)
    value = small(logarithm=True)(zeros, torch.zeros(1, 3, 500), torch.zeros(1, 1, 500))
    value.sum().backward()
    assert torch.isfinite(value).all() and torch.isfinite(zeros.grad).all()


def test_pairs_are_searched_by_snr_or_by_everything() -> None:
    est, ref, mix = signals(2, 4, 300), signals(2, 3, 300, seed=1), signals(2, 300, seed=2)
    ref[1, 2] = 0
    torch.testing.assert_close(small(select_by="snr").pairwise(est, ref, mix), SNR().pairwise(est, ref, mix))
    whole = small()
    direct = whole(est[:, None], ref[:, :, None], mix[:, None, None])
    torch.testing.assert_close(whole.pairwise(est, ref, mix).float(), direct, rtol=0, atol=2e-4)
    alone = whole(est[:, None], ref[:, :, None])
    torch.testing.assert_close(whole.pairwise(est, ref).float(), alone, rtol=0, atol=1e-3)


@settings(max_examples=20)
@given(seed=st.integers(0, 999))
def test_permutations_are_the_best_of_the_whole_loss(seed: int) -> None:
    est, ref = signals(2, 3, 200, seed=seed).double(), signals(2, 3, 200, seed=seed + 1).double()
    mix, loss = ref.sum(1), small()
    orders = [loss(est[:, list(p)], ref, mix[:, None]).mean(-1) for p in itertools.permutations(range(3))]
    found = match(loss, est, ref, mix)
    torch.testing.assert_close(found.loss, torch.stack(orders).min(0).values)
    assert (match(small(select_by="snr"), est, ref, mix).loss >= found.loss - 1e-9).all()


def test_products_without_waveforms_are_refused() -> None:
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match="waveforms beside their products"):
        small(select_by="full").from_products(Products(one, one, one, one, 10))


def test_autocast_does_not_touch_the_arithmetic() -> None:
    est, ref = signals(2, 2, 400), signals(2, 2, 400, seed=1)
    loss = small(select_by="full")
    with torch.autocast("cpu", torch.bfloat16):
        inside, table = loss(est, ref), loss.pairwise(est, ref)
    torch.testing.assert_close(inside, loss(est, ref), rtol=0, atol=0)
    torch.testing.assert_close(table, loss.pairwise(est, ref), rtol=0, atol=0)
    assert loss(est.bfloat16(), ref.bfloat16()).dtype == torch.float32


def test_bad_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"loss\.n_fft: found 3 sizes, 2 of win, 3 of hop"):
        MultiResolutionL1(win=(400, 800))
    with pytest.raises(ConfigError, match=r"loss\.n_fft: found n_fft 64, win 40, hop 30"):
        MultiResolutionL1(n_fft=(64,), win=(40,), hop=(30,))
    with pytest.raises(ConfigError, match=r"loss\.select_by: unknown search 'ful' \(did you mean 'full'\?\)"):
        MultiResolutionL1(select_by="ful")
