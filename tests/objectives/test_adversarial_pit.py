"""Adversarial PIT: what critics are shown and told, and what reaches the separator."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from usepcli.data.batch import Batch
from usepcli.dsp.parts import Parts
from usepcli.errors import BadInput, ConfigError
from usepcli.losses.spectral import SpectralMSE
from usepcli.losses.thresholded import LogMSE
from usepcli.models.unet_mask import UNetMask
from usepcli.objectives import criticism
from usepcli.objectives.adversarial_pit import AdversarialPIT, last_weights
from usepcli.objectives.base import MAIN, Shared
from usepcli.objectives.criticism import Domain

ALL = ("ctx_stft", "ctx_wave_1", "ctx_mask_2_blind", "inst_stft", "inst_wave", "inst_mask", "metric_wave")


def separator() -> UNetMask:
    torch.manual_seed(0)
    return UNetMask(**UNetMask.PRESETS["tiny"])


def batch(size: int = 3, n_ref: int = 3, length: int = 1500) -> Batch:
    """Return mixtures of fewer and fewer sources, as scenes have them."""
    sources = torch.randn(size, n_ref, length, generator=torch.Generator().manual_seed(1))
    for b in range(size):
        sources[b, n_ref - b :] = 0
    return Batch(sources.sum(1), sources, [str(b) for b in range(size)])


def step(objective: AdversarialPIT, name: str):
    return next(one for one in objective.steps() if one.group == name)


class Says(nn.Module):
    """A critic that says the mean of what it is shown, and remembers that."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.shown: list[torch.Tensor] = []

    def forward(self, x):
        self.shown.append(x)
        return self.scale * x.flatten(1).mean(1)


def with_critic(name: str, monkeypatch: pytest.MonkeyPatch, **options) -> tuple[AdversarialPIT, Says]:
    said = Says()
    monkeypatch.setattr(criticism, "build", lambda *_: said)
    monkeypatch.setattr("usepcli.objectives.adversarial_pit.Critic", Says)
    return AdversarialPIT(separator(), LogMSE(), critics=(name,), **options), said


@pytest.mark.parametrize(
    ("name", "kind", "domain", "count", "mixture", "channels"),
    [
        ("inst_mask", "inst", "mask", 0, False, 1),
        ("ctx_wave", "ctx", "wave", 3, True, 5),
        ("ctx_stft_0", "ctx", "stft", 0, True, 5),
        ("ctx_mask_2_blind", "ctx", "mask", 2, False, 4),
        ("ctx_wave_blind", "ctx", "wave", 3, False, 4),
        ("metric_wave", "metric", "wave", 0, False, 8),
    ],
)
def test_names_say_what_is_seen(name, kind, domain, count, mixture, channels):
    found = criticism.sight(name, 4)
    assert found == (name, kind, domain, count, mixture)
    assert found.channels(4) == channels


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ctx_wave_4", "4 of 4 sources replaced; expected 0 to 3"),
        ("ctx_cepstrum_1", "unknown domain 'cepstrum'"),
        ("both_wave", "unknown kind of critic 'both'"),
        ("inst_wave_1", "expected inst_DOMAIN"),
        ("metric_mask", "expected metric_wave"),
        ("ctx_wave_-1", "expected ctx_wave"),
        ("ctx_wave_1_2", "expected ctx_wave"),
        ("ctx", "unknown domain ''"),
    ],
)
def test_names_that_say_nothing(name, said):
    with pytest.raises(ConfigError, match=r"objective\.critics: ") as raised:
        criticism.sight(name, 4)
    assert said in str(raised.value)


def test_exactly_so_many_are_replaced_each_as_often_as_the_others():
    rng = torch.Generator().manual_seed(0)
    for count in range(4):
        which = criticism.drawn((4000, 4), count, rng)
        assert (which.sum(1) == count).all()
        # The share of a source in 4000 draws: within six standard deviations of count / 4.
        share, p = which.double().mean(0), count / 4
        assert ((share - p).abs() <= 6 * math.sqrt(p * (1 - p) / 4000)).all()


def test_what_is_replaced_has_no_gradient():
    real, fake = torch.randn(5, 4, 7), torch.randn(5, 4, 7, requires_grad=True)
    which = criticism.drawn((5, 4), 3, torch.Generator().manual_seed(0))
    found = criticism.replaced(real, fake, which)
    assert torch.equal(found[which], real[which])
    found.square().sum().backward()
    assert (fake.grad[which] == 0).all()
    assert (fake.grad[~which] == 2 * fake[~which]).all()


def test_masks_of_silence_say_one_over_k():
    model = separator()
    ref = torch.zeros(1, 4, 1000)
    ref[:, :2, 400:] = torch.randn(1, 2, 600)
    there = Domain.of("mask", model, ref.sum(1), ref, model.parts(ref.sum(1)))
    torch.testing.assert_close(there.real.sum(1), torch.ones_like(there.real[:, 0]))
    torch.testing.assert_close(there.fake.sum(1), torch.ones_like(there.fake[:, 0]))
    # Frames of 64 samples every 32, the first ten of which end before sample 400.
    assert (there.real[..., :10] == 0.25).all()
    assert (there.real[:, 2:, :, 20:] < 1e-6).all()


def test_spectra_are_masked_magnitudes_at_the_level_of_the_network():
    model = separator()
    mix = 1e-3 * torch.randn(2, 1000)
    parts = model.parts(mix)
    there = Domain.of("stft", model, mix, None, parts)
    torch.testing.assert_close(there.mix, parts.spectrum[:, :-1, :-1].abs())
    torch.testing.assert_close(there.fake.sum(1), there.mix, rtol=1e-4, atol=1e-5)


def test_the_nearest_order_and_ties_of_silence():
    real = torch.zeros(1, 4, 3, 5)
    real[:, 0], real[:, 1] = 1, 2
    fake = real[:, [2, 1, 3, 0]]
    found = criticism.nearest(real, fake)[0].tolist()
    assert found[:2] == [3, 1]
    assert sorted(found) == [0, 1, 2, 3]


@pytest.mark.parametrize("domain", criticism.DOMAINS)
def test_a_perfect_estimate_is_shown_like_its_reference_in_any_order(domain, monkeypatch):
    objective, said = with_critic(f"ctx_{domain}_0", monkeypatch)
    data = batch()
    ref = nn.functional.pad(data.sources, (0, 0, 0, 1))
    spectrum = objective.student.transform(data.mix / objective.student.input_level(data.mix)[1])
    real = objective.student.transform(ref / objective.student.input_level(data.mix)[1][:, None]).abs()
    masks = (real / real.sum(1, keepdim=True).clamp_min(1e-8))[:, [2, 0, 3, 1]]
    monkeypatch.setattr(objective.student, "parts", lambda _: Parts(ref[:, [2, 0, 3, 1]], masks, spectrum))
    step(objective, f"ctx_{domain}_0").terms(data, Shared(True))
    seen_real, seen_fake = said.shown
    if domain != "stft":  # a masked magnitude is that of the source where the sources do not overlap
        torch.testing.assert_close(seen_real, seen_fake, rtol=1e-4, atol=1e-5)
    else:
        scale = seen_real[:, 1:].sum(1, keepdim=True).clamp_min(1e-8)
        torch.testing.assert_close(seen_real[:, 1:] / scale, seen_fake[:, 1:] / seen_fake[:, :1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("gan", "critic", "separator_"),
    [
        ("hinge", lambda r, f: (1 - r).relu().mean() + (1 + f).relu().mean(), lambda f: -f.mean()),
        ("least_squares", lambda r, f: ((r - 1) ** 2).mean() + (f**2).mean(), lambda f: ((f - 1) ** 2).mean()),
    ],
)
def test_losses_in_closed_form(gan, critic, separator_, monkeypatch):
    objective, said = with_critic("inst_wave", monkeypatch, gan=gan, pit="off")
    data, shared = batch(), Shared(True)
    found = step(objective, "inst_wave").terms(data, shared)
    real, fake = (x.flatten(1).mean(1) for x in said.shown)
    torch.testing.assert_close(found.losses["critic_inst_wave"], critic(real, fake))
    # Of twelve slots the last of each scene and those that batch() empties are silent: 3 + 0 + 1 + 2 of 12.
    torch.testing.assert_close(found.logs["silent_inst_wave"], torch.tensor(6 / 12))
    terms = step(objective, MAIN).terms(data, shared)
    torch.testing.assert_close(terms.losses["adversarial"], separator_(fake.detach()))
    assert list(terms.losses) == ["adversarial"]


def test_silent_sources_may_stay_out(monkeypatch):
    objective, said = with_critic("inst_wave", monkeypatch, inst_active_only=True, pit="off")
    data, shared = batch(), Shared(True)
    found = step(objective, "inst_wave").terms(data, shared)
    real, fake = (x.flatten(1).mean(1) for x in said.shown)
    sounds = said.shown[0].abs().flatten(1).amax(1) > 0

    def expected(each):  # the mean over examples, which hold three, two and one of four sources
        return torch.stack([e[s].mean() for e, s in zip(each.view(3, 4), sounds.view(3, 4), strict=True)]).mean()

    torch.testing.assert_close(found.losses["critic_inst_wave"], expected((1 - real).relu() + (1 + fake).relu()))
    torch.testing.assert_close(found.logs["real_inst_wave"], real[sounds].mean().detach())
    terms = step(objective, MAIN).terms(data, shared)
    torch.testing.assert_close(terms.losses["adversarial"], -expected(fake).detach())
    silence = Batch(data.mix, torch.zeros_like(data.sources), data.ids)
    silent = step(objective, "inst_wave").terms(silence, Shared(True))
    assert silent.losses["critic_inst_wave"] == 0 and torch.isnan(silent.logs["accuracy_inst_wave"])


@pytest.mark.parametrize("active", [False, True])
def test_micro_batches_add_up_to_the_batch(active, monkeypatch):
    """Every group's gradient, in 64 bits, where L_PIT has a fixed weight; a ratio is found in each micro-batch."""
    monkeypatch.setattr(torch.Tensor, "float", lambda x: x.double() if x.dtype == torch.bool else x)
    options = {"critics": ALL, "pit": "fixed", "critic_width": 0.1, "inst_active_only": active}
    objective = AdversarialPIT(separator(), LogMSE(), **options).double()
    whole = batch(size=4, n_ref=4)
    pieces = [
        Batch(whole.mix[at : at + n].double(), whole.sources[at : at + n].double(), whole.ids[at : at + n])
        for n in (4, 1)
        for at in range(0, 4, n)
    ]

    def gradients(micro):
        objective.rng.manual_seed(3)
        held = [(one, Shared(len(micro) == 1)) for one in micro]
        found = {}
        for one in objective.steps():
            weights = list(objective.groups()[one.group].parameters())
            each = [torch.autograd.grad(sum(one.terms(*of).losses.values()) / len(micro), weights) for of in held]
            found[one.group] = [torch.stack(parts).sum(0) for parts in zip(*each, strict=True)]
        return found

    for name, (a, b) in {k: (v, gradients(pieces[1:])[k]) for k, v in gradients(pieces[:1]).items()}.items():
        largest = max(float(g.abs().max()) for g in a)
        assert largest > 0, name
        for one, other in zip(a, b, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12 * largest)


def test_whose_fault_it_is_that_a_step_is_not_finite():
    objective = AdversarialPIT(separator(), LogMSE(), critics=("ctx_stft", "inst_wave"))
    with torch.no_grad():
        objective.critics["inst_wave"].body[0].weight.mul_(1e9)
    by = step(objective, MAIN).terms(batch(), Shared(True)).by
    assert [name for name, part in by.items() if not torch.isfinite(part)] == ["inst_wave"]
    with torch.no_grad():
        objective.student.head.weight.fill_(torch.nan)
    by = step(objective, "ctx_stft").terms(batch(), Shared(True)).by
    assert list(by) == [MAIN] and not torch.isfinite(by[MAIN])


def test_the_metric_predictor_learns_the_metric_and_is_asked_for_one(monkeypatch):
    objective, said = with_critic("metric_wave", monkeypatch, pit="off")
    data, shared = batch(), Shared(True)
    found = step(objective, "metric_wave").terms(data, shared)
    real, fake = (x.flatten(1).mean(1) for x in said.shown)
    assert torch.equal(said.shown[0][:, :4], said.shown[0][:, 4:])
    goal = criticism.quality(said.shown[1][:, :4], said.shown[1][:, 4:])
    torch.testing.assert_close(found.losses["critic_metric_wave"], ((real - 1) ** 2 + (fake - goal) ** 2).mean())
    terms = step(objective, MAIN).terms(data, shared)
    torch.testing.assert_close(terms.losses["adversarial"], ((fake - 1) ** 2).mean().detach())


def test_the_metric_is_a_share_of_thirty_decibels():
    time = torch.arange(800) * 2 * torch.pi / 100
    ref = torch.stack([time.sin(), torch.zeros(800)])[None]
    for snr_db, expected in ((-5.0, 0.0), (0.0, 0.0), (15.0, 0.5), (30.0, 1.0), (50.0, 1.0)):
        est = 3 * (ref + 10 ** (-snr_db / 20) * time.cos() * (ref.abs().amax(-1, keepdim=True) > 0))
        torch.testing.assert_close(criticism.quality(est, ref), torch.tensor([expected]), atol=1e-4, rtol=1e-4)
    assert criticism.quality(ref, torch.zeros_like(ref)).tolist() == [1.0]


@pytest.mark.parametrize("pit", ["fixed", "magnitude", "gradients"])
def test_how_pit_is_weighed(pit):
    objective = AdversarialPIT(separator(), LogMSE(), critics=("ctx_stft", "inst_wave"), pit=pit, pit_weight=0.5)
    objective.eval()
    terms = step(objective, MAIN).terms(batch(), Shared(True))
    last = last_weights(objective.student)
    assert last.shape == objective.student.head.weight.shape
    weight = terms.logs["pit_weight"]
    sep, pit_term = terms.losses["adversarial"], terms.losses["pit_weighed"]
    torch.testing.assert_close(pit_term, weight * terms.logs["pit"])
    if pit == "fixed":
        assert weight == 0.5
        return
    if pit == "magnitude":
        sizes = sep.abs(), terms.logs["pit"].abs()
    else:
        sizes = tuple(torch.autograd.grad(x, last, retain_graph=True)[0].norm() for x in (sep, pit_term / weight))
    torch.testing.assert_close(weight, 0.5 * sizes[0] / (sizes[1] + 1e-6), rtol=1e-4, atol=0)


def test_the_gradient_is_that_of_the_sum():
    """The terms are differentiated one by one at the outputs; the same in one piece, written out."""
    objective = AdversarialPIT(separator(), LogMSE(), critics=ALL, pit="fixed", pit_weight=0.1)
    data, shared = batch(), Shared(True)
    objective.rng.manual_seed(5)
    for one in objective.steps()[:-1]:
        one.terms(data, shared)
    terms = step(objective, MAIN).terms(data, shared)
    weights = list(objective.student.parameters())
    found = torch.autograd.grad(sum(terms.losses.values()), weights)
    parts = objective.student.parts(data.mix)
    whole = sum(objective._fooling(sight, data, shared, parts) for sight in objective.sights.values())
    loss = objective.loss
    ref = nn.functional.pad(data.sources, (0, 0, 0, 1))
    from usepcli.objectives.pit import match

    whole = whole + 0.1 * match(loss, parts.waves, ref, data.mix).loss.mean()
    expected = torch.autograd.grad(whole, weights)
    torch.testing.assert_close(sum(terms.losses.values()), whole, rtol=1e-4, atol=1e-5)
    largest = max(float(g.abs().max()) for g in expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5 * largest)


def test_a_step_in_micro_batches_is_the_step_in_one_piece():
    """Where no graph is kept the forward pass is made anew, and order and choice stay those of the critics."""
    objective = AdversarialPIT(separator(), LogMSE(), critics=ALL)
    found = []
    for graphs in (True, False):
        objective.rng.manual_seed(5)
        shared = Shared(graphs)
        terms = [one.terms(batch(), shared) for one in objective.steps()]
        found.append(torch.autograd.grad(sum(terms[-1].losses.values()), list(objective.student.parameters())))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_pit_on_spectra_and_any_model_on_waves(make_model):
    objective = AdversarialPIT(separator(), SpectralMSE(), critics=("ctx_stft_0",), gan="least_squares")
    assert torch.isfinite(sum(step(objective, MAIN).terms(batch(), Shared(True)).losses.values()))
    assert AdversarialPIT(make_model(4), LogMSE()).sights["ctx_wave"].replaced == 3
    with pytest.raises(ConfigError, match="ctx_mask looks at spectra, and Filters has none"):
        AdversarialPIT(make_model(4), LogMSE(), critics=("ctx_mask",))


def test_without_critics_it_is_pit():
    objective = AdversarialPIT(separator(), LogMSE(), critics=(), pit="fixed")
    terms = step(objective, MAIN).terms(batch(), Shared(True))
    assert list(objective.groups()) == [MAIN]
    torch.testing.assert_close(sum(terms.losses.values()), terms.logs["pit"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"critics": ("inst_wave", "inst_wave")}, "'inst_wave' twice"),
        ({"critics": ("ctx_wave", "inst_wave", "ctx_wave_3")}, "'ctx_wave' and 'ctx_wave_3' are the same"),
        ({"gan": "wasserstein"}, "objective.gan"),
        ({"pit": "auto"}, "objective.pit"),
        ({"pit_weight": -1.0}, "objective.pit_weight"),
        ({"critic_s": -1.0}, "objective.critic_s: found -1"),
        ({"critic_width": 0.0}, r"objective\.critic_width: found 0"),
        ({"critic_s": 0.01}, "0.01 s give ctx_wave 80; expected at least 364"),
        ({"critics": (), "pit": "off"}, "nothing is left to learn from"),
    ],
)
def test_settings_that_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        AdversarialPIT(separator(), LogMSE(), **options)


def test_critics_of_a_length_take_that_length():
    objective = AdversarialPIT(separator(), LogMSE(), critic_s=0.5, critics=("ctx_wave", "inst_wave"))
    objective.takes(0.5)
    with pytest.raises(ConfigError, match=r"critics for 0.5 s, and data.segment_s is 4"):
        objective.takes(4.0)
    terms = [one.terms(batch(length=4000), Shared(True)) for one in objective.steps()]
    assert all(torch.isfinite(sum(t.losses.values())) for t in terms)


def test_more_references_than_outputs_are_refused():
    objective = AdversarialPIT(separator(), LogMSE(), critics=("inst_wave",))
    with pytest.raises(BadInput, match="5 references for 4 outputs"):
        step(objective, MAIN).terms(batch(n_ref=5), Shared(True))
    objective.holds(4)
    with pytest.raises(BadInput, match="5 references for 4 outputs"):  # before the first step, as well
        objective.holds(5)
