"""MixIT and MixPIT by magnitudes: the same searches, on what the masks leave of the spectrum."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from usepcli import registry
from usepcli.data.batch import Batch
from usepcli.errors import ConfigError
from usepcli.losses.magnitude import MagnitudeL1
from usepcli.losses.spectral import SpectralMSE
from usepcli.models.convtasnet import ConvTasNet
from usepcli.models.uncond_unet import UncondUNet
from usepcli.objectives.mixit import MixIT
from usepcli.objectives.mixpit import MixPIT


def network(n_src: int) -> UncondUNet:
    torch.manual_seed(0)
    net = UncondUNet(**{**UncondUNet.PRESETS["tiny"], "n_src": n_src}).eval()
    with torch.no_grad():
        net.heads.weight.mul_(20.0)  # masks that differ
    return net


def magnitudes(net: UncondUNet, mixtures: Tensor) -> tuple[Tensor, Tensor]:
    """What is left of the sums' magnitudes (M, N, R), and the mixtures' (M, P, R), at the level of the network."""
    mom = mixtures.sum(1)
    parts, level = net.parts(mom), net.input_level(mom)[1][:, None]
    assert parts.masks is not None and parts.spectrum is not None
    est = parts.masks * parts.spectrum.abs()[:, None]
    return est.flatten(2), net.transform(mixtures / level).abs().flatten(2)


@pytest.mark.parametrize("loss", [MagnitudeL1(weighted=False), SpectralMSE("am")])
def test_mixit_deals_masked_magnitudes_out_in_the_best_of_all_ways(loss: Any, make_batch: Any) -> None:
    net, batch = network(4), make_batch(length=1200)
    found = MixIT(net, loss).losses(batch)["mixit"].detach()
    est, aims = magnitudes(net, torch.stack([batch.mix[:2], batch.mix[2:]], 1))
    error = torch.abs if isinstance(loss, MagnitudeL1) else torch.square
    costs = []
    for owner in itertools.product(range(2), repeat=4):
        dealt = torch.stack([est[:, [n for n in range(4) if owner[n] == p]].sum(1) for p in range(2)], 1)
        costs.append(error(dealt - aims).mean(-1).mean(-1))
    torch.testing.assert_close(found, torch.stack(costs).amin(0).mean())


def test_mixpit_finds_the_best_order_of_masked_magnitudes(make_batch: Any) -> None:
    net, batch = network(2), make_batch(length=1200)
    found = MixPIT(net, MagnitudeL1(weighted=False)).losses(batch)["mixpit"].detach()
    est, aims = magnitudes(net, torch.stack([batch.mix[:2], batch.mix[2:]], 1))
    costs = torch.stack([(est[:, list(order)] - aims).abs().mean((1, 2)) for order in ((0, 1), (1, 0))])
    torch.testing.assert_close(found, costs.amin(0).mean())


def test_a_supervised_share_learns_by_magnitudes_too(make_batch: Any) -> None:
    net, batch = network(4), make_batch(length=1200)
    terms = MixIT(net, MagnitudeL1(weighted=False), supervised_fraction=0.5).losses(batch)
    one = Batch(batch.mix[[0, 2]].sum(0, keepdim=True), batch.sources[[0, 2]].flatten(0, 1)[None], ["both"])
    alone = registry.load("objective", "pit")(net, MagnitudeL1(weighted=False)).losses(one)["pit"]
    torch.testing.assert_close(terms["supervised"], alone / 2)  # one of two sums


@pytest.mark.parametrize("objective", [MixIT, MixPIT])
def test_a_network_without_a_spectrum_is_refused_at_once(objective: Any) -> None:
    with pytest.raises(ConfigError, match=r"loss\.name: a loss in the spectrum"):
        objective(ConvTasNet(**ConvTasNet.PRESETS["tiny"]), MagnitudeL1())
