"""The L1 distance of magnitudes: closed forms, sums of estimates, and pairs against single values."""

from __future__ import annotations

import math

import pytest
import torch

from usepcli.dsp.parts import Parts
from usepcli.losses.base import products
from usepcli.losses.magnitude import LEAST, MOST, MagnitudeL1, loudness
from usepcli.objectives.pit import match


def seen(loss: MagnitudeL1, masks: torch.Tensor, spectrum: torch.Tensor, refs: torch.Tensor):
    waves = torch.zeros(len(masks), masks.shape[1], 1)
    return loss.views(Parts(waves, masks, spectrum), waves, waves[:, 0], lambda wave: refs)


def test_the_weight_of_a_bin_is_its_level_within_bounds_and_has_no_gradient() -> None:
    heard = torch.tensor([[0.0, 1.0, 1e9]], requires_grad=True)
    found = loudness(heard)
    assert found.tolist()[0] == pytest.approx([LEAST, math.log(2), MOST], rel=1e-6) and not found.requires_grad


@pytest.mark.parametrize("weighted", [True, False])
def test_two_bins_by_hand(weighted: bool) -> None:
    spectrum = torch.tensor([[[3.0 + 4.0j], [0.5j]]])  # magnitudes 5 and 0.5
    refs = torch.tensor([[[[1.0 + 0.0j], [-2.0 + 0.0j]]]])  # magnitudes 1 and 2
    view = seen(MagnitudeL1(weighted), torch.tensor([[[[0.5], [1.0]]]]), spectrum, refs)
    weights = (math.log1p(5), math.log1p(0.5)) if weighted else (1.0, 1.0)
    expected = (weights[0] * abs(2.5 - 1) + weights[1] * abs(0.5 - 2)) / 2
    assert float(MagnitudeL1(weighted)(view.est, view.ref)) == pytest.approx(expected, rel=1e-6)


def test_estimates_may_be_added_up_before_they_are_compared() -> None:
    draw = torch.Generator().manual_seed(0)
    masks, spectrum = torch.rand(2, 3, 5, 7, generator=draw), torch.randn(2, 5, 7, generator=draw) * (1 + 0.5j)
    loss, share = MagnitudeL1(), torch.tensor([1.0, 0.5, 0.25])
    refs = spectrum[:, None]
    view = seen(loss, masks, spectrum, refs)
    once = seen(loss, torch.einsum("k,bkfl->bfl", share, masks)[:, None], spectrum, refs)
    torch.testing.assert_close(loss(torch.einsum("k,bkr->br", share, view.est)[:, None], view.ref), loss(*once[:2]))


def test_pairs_cost_what_each_costs_alone_and_pit_finds_the_order() -> None:
    draw = torch.Generator().manual_seed(1)
    masks, spectrum = torch.rand(2, 3, 4, 6, generator=draw), torch.randn(2, 4, 6, generator=draw) * (1 + 1j)
    loss = MagnitudeL1()
    view = seen(loss, masks, spectrum, (masks * spectrum.abs()[:, None])[:, [2, 0, 1]])
    table = loss.from_products(products(view.est, view.ref, view.mix))
    for k in range(3):
        for n in range(3):
            expected = loss(view.est[:, n], view.ref[:, k])
            torch.testing.assert_close(table[:, k, n], expected.double(), rtol=1e-6, atol=1e-9)
    found = match(loss, view.est, view.ref, view.mix)
    assert found.chosen.tolist() == [[2, 0, 1]] * 2
    with pytest.raises(ValueError, match="signals of the pairs"):
        loss.from_products(products(view.est, view.ref)._replace(waves=None))
