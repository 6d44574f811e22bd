"""Outputs that each have their own kind of source: closed forms, and where no order can be known."""

from __future__ import annotations

import pytest
import torch

from usepcli.data.batch import Batch
from usepcli.errors import BadInput, ConfigError
from usepcli.losses.spectral import SpectralMSE
from usepcli.losses.thresholded import SNR, LogMSE
from usepcli.models.upit import UPIT
from usepcli.objectives.fixed import FixedOrder
from usepcli.objectives.pit import PIT


class Given(torch.nn.Module):
    """Answers with what it was given."""

    def __init__(self, est):
        super().__init__()
        self.est, self.n_src = est, est.shape[1]

    def forward(self, mix):
        return self.est


def batch_of(sources, queries=()):
    return Batch(sources.sum(1), sources, [f"item{k}" for k in range(len(sources))], queries=list(queries))


def test_every_output_is_compared_with_its_own_source_alone():
    sources = torch.randn(3, 2, 500)
    batch = batch_of(sources)
    est = sources + 0.1 * torch.randn(3, 2, 500)
    value = FixedOrder(Given(est), SNR()).losses(batch)["fixed"]
    torch.testing.assert_close(value, SNR()(est, sources).mean())
    swapped = FixedOrder(Given(est.flip(1)), SNR()).losses(batch)["fixed"]
    torch.testing.assert_close(swapped, SNR()(est.flip(1), sources).mean())
    assert swapped > value + 10, "no order is looked for"
    assert PIT(Given(est.flip(1)), SNR()).losses(batch)["pit"] < value + 1e-4


def test_of_a_single_kind_are_all_sources_and_no_words_are_asked_for():
    sources = torch.randn(2, 3, 400)
    est = torch.randn(2, 2, 400)
    objective = FixedOrder(Given(est), SNR(), kinds=("speech",), residual=True)
    assert "queries" not in objective.needs
    batch = Batch(sources.sum(1) + 0.1, sources, ["a", "b"])
    ref = torch.stack([sources.sum(1), torch.full((2, 400), 0.1)], 1)
    torch.testing.assert_close(objective.losses(batch)["fixed"], SNR()(est, ref).mean())


def test_sources_of_one_kind_are_added_up_and_a_kind_that_is_absent_is_silence():
    sources = torch.randn(2, 3, 400)
    sources[1, 2] = 0.0
    batch = batch_of(sources, [("voice", "rain", "voice"), ("rain", "rain")])
    est = torch.randn(2, 2, 400)
    ref = torch.stack([
        torch.stack([sources[0, 0] + sources[0, 2], sources[0, 1]]),
        torch.stack([torch.zeros(400), sources[1, 0] + sources[1, 1]]),
    ])  # fmt: skip
    objective = FixedOrder(Given(est), LogMSE(), kinds=("voice", "rain"))
    assert "queries" in objective.needs
    want = LogMSE()(est, ref, batch.mix[:, None])
    torch.testing.assert_close(objective.losses(batch)["fixed"], want.mean())
    ignoring = FixedOrder(Given(est), LogMSE(), kinds=("voice", "rain"), zero_refs="ignore")
    torch.testing.assert_close(ignoring.losses(batch)["fixed"], (want[0].mean() + want[1, 1]) / 2)


def test_noise_is_what_the_references_leave():
    speech, noise = torch.randn(2, 2, 1, 400)
    batch = Batch((speech + noise)[:, 0], speech, ["a", "b"])
    est = torch.randn(2, 2, 400)
    want = SNR()(est, torch.cat([speech, noise], 1), batch.mix[:, None]).mean()
    found = FixedOrder(Given(est), SNR(), residual=True).losses(batch)["fixed"]
    torch.testing.assert_close(found, want, atol=1e-4, rtol=1e-5)


def test_of_two_that_may_change_places_half_of_their_sum_is_where_learning_ends():
    """With either order equally likely both pull with the same force at the mean of them: no separation at all."""
    first, second = torch.nn.functional.normalize(torch.randn(2, 400), dim=-1)  # of one energy, as the limit knows it
    both = torch.stack([torch.stack([first, second]), torch.stack([second, first])])

    def slope(sources):
        est = ((first + second) / 2).expand(1, 2, -1).clone().requires_grad_()
        value = FixedOrder(Given(est.expand(len(sources), -1, -1)), LogMSE()).losses(batch_of(sources))["fixed"]
        return torch.autograd.grad(value, est)[0].norm()

    assert slope(both) < 1e-4 * slope(both[:1])


@pytest.mark.slow
def test_a_network_told_what_may_be_either_says_half_of_the_sum_twice():
    generator = torch.Generator().manual_seed(0)

    def draw():
        time = torch.arange(400) / 8000
        low = torch.sin(2 * torch.pi * (500 * time + torch.rand(8, 1, generator=generator)))
        high = torch.sin(2 * torch.pi * (2500 * time + torch.rand(8, 1, generator=generator)))
        swap = torch.rand(8, generator=generator) < 0.5
        sources = torch.stack([low, high], 1)
        return batch_of(torch.where(swap[:, None, None], sources.flip(1), sources))

    def learned(objective):
        torch.manual_seed(0)
        model = UPIT(**{**UPIT.PRESETS["tiny"], "consistency": "none"})
        taught, optimizer = objective(model, SpectralMSE("am")), torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(80):
            optimizer.zero_grad()
            sum(taught.losses(draw()).values()).backward()
            optimizer.step()
        with torch.no_grad():
            return PIT(model, SNR()).losses(draw())["pit"], SNR()(model(batch.mix), batch.mix[:, None] / 2).mean()

    batch = draw()
    apart, _ = learned(PIT)
    guessed, half = learned(FixedOrder)
    assert apart < -8 and guessed > -4 and half < -6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kinds": ("a", "b", "c")}, "3 kinds for 2 outputs"),
        ({"kinds": ("a", "b"), "residual": True}, "model.n_src to 3"),
        ({"kinds": ("a", "a")}, "different words"),
        ({"zero_refs": "drop"}, "objective.zero_refs"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        FixedOrder(Given(torch.zeros(1, 2, 4)), SNR(), **options)


def test_a_kind_without_an_output_is_named_with_its_item_before_the_first_step():
    objective = FixedOrder(Given(torch.zeros(1, 2, 4)), SNR(), kinds=("voice", "rain"))
    objective.knows(lambda: {"voice": "x", "rain": "y"})
    with pytest.raises(BadInput, match=r"item z: a source 'dog'; objective.kinds has voice, rain"):
        objective.knows(lambda: {"voice": "x", "dog": "z"})
    objective.holds(5)
    with pytest.raises(BadInput, match="objective fixed: 3 references for 2 outputs"):
        FixedOrder(Given(torch.zeros(1, 2, 4)), SNR()).holds(3)
