"""Losses on masked magnitudes: closed forms, the best real mask, and PIT over them."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from usepcli import registry
from usepcli.data.batch import Batch
from usepcli.dsp.parts import Parts
from usepcli.errors import ConfigError
from usepcli.losses.base import Views
from usepcli.losses.spectral import TARGETS, SpectralMSE
from usepcli.losses.thresholded import SNR
from usepcli.models.conformer_mask import ConformerMask
from usepcli.models.convtasnet import ConvTasNet
from usepcli.objectives.base import Shared
from usepcli.objectives.mixcycle import MixCycle
from usepcli.objectives.pit import PIT, framed, match, seen


def tiny() -> ConformerMask:
    torch.manual_seed(0)
    return ConformerMask(**{**ConformerMask.PRESETS["tiny"], "mask": "sigmoid", "input_norm": "none"})


@pytest.mark.parametrize(("target", "want"), [("am", 2.0), ("psm", 2 * math.cos(2.0)), ("npsm", 0.0), ("tpsm", 0.0)])
def test_one_bin(target: str, want: float) -> None:
    spectrum = torch.tensor([[[3.0 * complex(math.cos(0.3), math.sin(0.3))]]])
    ref = torch.tensor([[[[2.0 * complex(math.cos(2.3), math.sin(2.3))]]]])
    parts = Parts(torch.zeros(1, 1, 1), torch.full((1, 1, 1, 1), 0.5), spectrum)
    found = SpectralMSE(target).views(parts, torch.zeros(1, 1, 1), torch.zeros(1, 1), lambda wave: ref)
    assert float(found.est) == pytest.approx(1.5) and float(found.ref) == pytest.approx(want, abs=1e-6)


def test_targets_are_cut_off_at_nothing_and_at_the_mixture() -> None:
    spectrum = torch.full((1, 3, 1), 1j)
    ref = torch.tensor([0.5j, 3j, -2j]).view(1, 1, 3, 1)
    parts = Parts(torch.zeros(1, 1, 1), torch.ones(1, 1, 3, 1), spectrum)
    for target, want in (("psm", [0.5, 3, -2]), ("npsm", [0.5, 3, 0]), ("tpsm", [0.5, 1, 0])):
        found = SpectralMSE(target).views(parts, torch.zeros(1, 1, 1), torch.zeros(1, 1), lambda wave: ref)
        assert found.ref.flatten().tolist() == pytest.approx(want)


@pytest.mark.parametrize("target", TARGETS)
def test_the_mask_that_gives_the_target_costs_nothing_in_any_order(target: str) -> None:
    model, loss = tiny(), SpectralMSE(target)
    ref = torch.randn(2, 2, 800)
    mix = ref.sum(1)
    parts = model.parts(mix)
    views = loss.views(parts, ref, mix, model.transform)
    ideal = views.ref.unflatten(-1, parts.spectrum.shape[1:]) / parts.spectrum.abs()[:, None].clamp_min(1e-9)
    views = loss.views(parts._replace(masks=ideal.flip(1)), ref, mix, model.transform)
    found = match(loss, views.est, views.ref, views.mix)
    assert found.chosen.tolist() == [[1, 0], [1, 0]]
    # Division and product round once each: squares of n eps of the largest bin.
    bound = (8 * torch.finfo(torch.float32).eps * float(views.ref.abs().max())) ** 2
    assert float(found.loss.detach().max()) <= bound


def test_pit_learns_by_it_and_the_level_of_the_input_does_not_matter() -> None:
    model = ConformerMask(**{**ConformerMask.PRESETS["tiny"], "mask": "softmax", "input_norm": "std"})
    objective, ref = PIT(model, SpectralMSE()), torch.randn(4, 2, 1200)
    values = []
    for gain in (1.0, 100.0):
        batch = Batch(gain * ref.sum(1), gain * ref, list("abcd"))
        values.append(float(objective.losses(batch)["pit"].detach()))
    assert values[1] == pytest.approx(values[0], rel=1e-3)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    batch = Batch(ref.sum(1), ref, list("abcd"))
    for _ in range(15):
        optimizer.zero_grad()
        (total,) = objective.steps()[0].terms(batch, Shared(True)).losses.values()
        total.backward()
        optimizer.step()
    assert float(total.detach()) < 0.95 * values[0]


def test_waveform_losses_see_waveforms() -> None:
    model, ref = tiny(), torch.randn(1, 2, 500)
    views = seen(SNR(), model, ref.sum(1), ref)
    assert torch.equal(views.ref, ref) and views.est.shape == (1, 2, 500)


def test_models_without_a_spectrum_and_objectives_on_waveforms_refuse_it() -> None:
    with pytest.raises(ConfigError, match=r"loss\.name: a loss in the spectrum, and ConvTasNet has none"):
        PIT(ConvTasNet(**ConvTasNet.PRESETS["tiny"]), SpectralMSE())
    with pytest.raises(ConfigError, match=r"loss\.name: .* MixCycle compares in: wave"):
        MixCycle(tiny(), SpectralMSE())
    with pytest.raises(ConfigError, match=r"loss\.target: unknown target 'pms' \(did you mean"):
        registry.load("loss", "spectral_mse")("pms")


@pytest.mark.parametrize(("sources", "outputs"), [(2, 2), (2, 3)])
def test_frames_are_assigned_each_by_itself(sources: int, outputs: int) -> None:
    model = ConformerMask(**{**ConformerMask.PRESETS["tiny"], "n_src": outputs})
    loss, ref = SpectralMSE(), torch.randn(2, sources, 900)
    batch = Batch(ref.sum(1), ref, list("ab"))
    parts = model.parts(batch.mix)
    est, aim, _ = seen(loss, model, batch.mix, ref, parts)
    est, aim = (wave.detach().unflatten(-1, parts.spectrum.shape[1:]) for wave in (est, aim))
    aim = torch.cat([aim, aim.new_zeros(2, outputs - sources, *aim.shape[2:])], 1)
    best = [
        min(
            sum(float((est[b, n, :, t] - aim[b, k, :, t]).square().mean()) for k, n in enumerate(order)) / outputs
            for order in itertools.permutations(range(outputs))
        )
        for b in range(2)
        for t in range(est.shape[-1])
    ]
    found = PIT(model, loss, permutation="frame").losses(batch)["pit"]
    assert float(found.detach()) == pytest.approx(sum(best) / len(best), rel=1e-5)
    assert float(found.detach()) < float(PIT(model, loss).losses(batch)["pit"].detach())
    found.backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


def test_an_exchange_of_outputs_costs_frames_nothing() -> None:
    aim = torch.rand(1, 2, 5, 8)  # (B, K, F, L)
    est = torch.cat([aim[..., :4], aim.flip(1)[..., 4:]], -1)
    whole = Views(est.flatten(2), aim.flatten(2), torch.ones(1, 40))
    each = framed(whole, 8)
    assert torch.equal(each.est[3], aim[0, :, :, 3]) and torch.equal(each.mix, torch.ones(8, 5))
    assert float(match(SpectralMSE(), *each).loss.abs().max()) < 1e-12
    half = (aim - aim.flip(1))[..., 4:].square().sum() / (2 * 40)  # half of the frames are wrong
    assert float(match(SpectralMSE(), *whole).loss) <= float(half) * (1 + 1e-5)


@pytest.mark.parametrize(
    ("loss", "settings", "said"),
    [
        (SNR(), {"permutation": "frame"}, "does not add up over frames"),
        (SpectralMSE(), {"permutation": "fram"}, "did you mean 'frame'"),
        (SpectralMSE(), {"permutation": "frame", "zero_refs": "ignore"}, "zero_refs: match"),
    ],
)
def test_frames_want_a_loss_that_adds_up(loss, settings: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PIT(tiny(), loss, **settings)
