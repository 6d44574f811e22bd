"""MixIT against the naive formulation, and its options one by one."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import one_hot

from usepcli.data.batch import Batch
from usepcli.errors import BadInput, ConfigError
from usepcli.losses.scale_invariant import SISNR
from usepcli.losses.thresholded import SNR
from usepcli.objectives.mixit import MixIT, deal


def signals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def naive(loss, est: Tensor, mixtures: Tensor, mom: Tensor) -> Tensor:
    """Every assignment on waveforms: (B, P^N)."""
    n_mix, n_est = mixtures.shape[1], est.shape[1]
    values = []
    for owner in itertools.product(range(n_mix), repeat=n_est):
        matrix = one_hot(torch.tensor(owner), n_mix).T.to(est.dtype)
        values.append(loss(matrix @ est, mixtures, mom[:, None]).mean(-1))
    return torch.stack(values, -1)


@settings(max_examples=25, deadline=None)
@given(
    n_mix=st.integers(2, 3),
    n_est=st.integers(1, 5),
    noise=st.sampled_from([0.01, 0.3, 2.0]),
    seed=st.integers(0, 999),
)
def test_value_and_gradient_are_those_of_the_naive_form(n_mix: int, n_est: int, noise: float, seed: int) -> None:
    clean = signals(2, n_est, 150, seed=seed).double()
    owner = torch.randint(n_mix, (2, n_est), generator=torch.Generator().manual_seed(seed))
    mixtures = one_hot(owner, n_mix).mT.double() @ clean + 0.01 * signals(2, n_mix, 150, seed=seed + 1)
    mom = mixtures.sum(1)
    for loss in (SNR(), SISNR()):
        est = (clean + noise * signals(2, n_est, 150, seed=seed + 2)).requires_grad_()
        plain = est.detach().clone().requires_grad_()
        ours, theirs = deal(loss, est, mixtures, mom).loss, naive(loss, plain, mixtures, mom)
        assert (ours[:, None] <= theirs + 1e-9).all()
        torch.testing.assert_close(ours, theirs.min(-1).values)
        ours.sum().backward()
        theirs.min(-1).values.sum().backward()
        torch.testing.assert_close(est.grad, plain.grad, rtol=1e-5, atol=1e-9)


def test_eight_outputs_find_the_true_owner_at_60_db() -> None:
    clean = signals(4, 8, 16_000)
    owner = torch.randint(2, (4, 8), generator=torch.Generator().manual_seed(1))
    mixtures = one_hot(owner, 2).mT.float() @ clean
    est = clean + 1e-3 * signals(4, 8, 16_000, seed=2)
    loss = SNR(snr_max_db=None)
    found = deal(loss, est, mixtures, mixtures.sum(1))
    assert torch.equal(found.owner, owner)
    truth = loss(one_hot(owner, 2).mT.double() @ est.double(), mixtures.double()).mean(-1)
    torch.testing.assert_close(found.loss.double(), truth, rtol=0, atol=1e-3)


def test_silent_mixture_costs_the_zero_reference_loss() -> None:
    mixtures = torch.cat([signals(1, 1, 400), torch.zeros(1, 1, 400)], 1)
    est = torch.cat([signals(1, 1, 400), torch.zeros(1, 2, 400)], 1)
    found = deal(SNR(), est, mixtures, mixtures.sum(1))
    floor = 10 * torch.log10(1e-3 * mixtures[0, 0].square().sum())
    torch.testing.assert_close(found.pair_db[0], torch.stack([torch.tensor(-30.0), floor]), rtol=0, atol=1e-3)
    assert found.active.tolist() == [[True, False]]


class Watch:
    """Stands in for the model: keeps the mixtures that it was given and returns fixed estimates."""

    def __init__(self, objective: MixIT) -> None:
        self.seen: list[Tensor] = []
        self.n_src = objective.n_src
        objective.student.register_forward_pre_hook(lambda _, inputs: self.seen.append(inputs[0].detach()))


@pytest.mark.parametrize("n_mix", [2, 3])
def test_moms_add_the_parts_of_the_batch(n_mix: int, make_model, make_batch) -> None:
    objective = MixIT(make_model(4), SNR(), n_mix=n_mix)
    watch, batch = Watch(objective), make_batch(size=6)
    assert set(objective.losses(batch)) == {"mixit"}
    expected = sum(batch.mix.chunk(n_mix))
    torch.testing.assert_close(watch.seen[0], expected)


def test_normalised_mom_has_unit_deviation_and_the_same_snr(make_model, make_batch) -> None:
    batch = make_batch()
    batch.mix *= 0.01
    objective = MixIT(make_model(4), SNR(), normalize_mom=True)
    watch = Watch(objective)
    objective.losses(batch)
    torch.testing.assert_close(watch.seen[0].std(-1), torch.ones(2))
    # A linear model without bias separates a scaled MoM into scaled outputs.
    with torch.no_grad():
        objective.student.taps.bias.zero_()
    scaled = float(objective.losses(batch)["mixit"].detach())
    objective.normalize_mom = False
    assert float(objective.losses(batch)["mixit"].detach()) == pytest.approx(scaled, abs=1e-3)


def test_supervised_share_is_pit_on_the_union_of_references(make_model, make_batch) -> None:
    batch = make_batch(size=8)
    objective = MixIT(make_model(4), SNR(), supervised_fraction=0.5)
    terms = objective.losses(batch)
    assert set(terms) == {"mixit", "supervised"}
    mom = batch.mix[:4] + batch.mix[4:]
    refs = torch.cat([batch.sources[:4], batch.sources[4:]], 1)
    est = objective.student(mom)
    table = SNR()(est[:2, None], refs[:2, :, None], mom[:2, None, None])
    best = torch.stack([table[:, torch.arange(4), list(p)].mean(-1) for p in itertools.permutations(range(4))])
    torch.testing.assert_close(terms["supervised"], best.min(0).values.sum() / 4)
    mixtures = torch.stack([batch.mix[2:4], batch.mix[6:]], 1)
    expected = naive(SNR(), est[2:], mixtures, mom[2:]).min(-1).values.sum() / 4
    torch.testing.assert_close(terms["mixit"], expected)


def test_p0_silences_one_mixture_of_supervised_moms_only(make_model, make_batch) -> None:
    batch = make_batch(size=8)
    objective = MixIT(make_model(4), SNR(), supervised_fraction=0.5, p0=1.0)
    watch = Watch(objective)
    objective.losses(batch)
    seen = watch.seen[0]
    for i in range(2):
        assert torch.equal(seen[i], batch.mix[i]) or torch.equal(seen[i], batch.mix[4 + i])
    torch.testing.assert_close(seen[2:], batch.mix[2:4] + batch.mix[6:])


def test_p0_is_drawn_as_often_as_asked(make_model, make_batch) -> None:
    batch = make_batch(size=1000, length=8)
    objective = MixIT(make_model(4), SNR(), supervised_fraction=1.0, p0=0.2)
    objective.rng.manual_seed(0)
    watch = Watch(objective)
    objective.losses(batch)
    whole = (watch.seen[0] - batch.mix[:500] - batch.mix[500:]).abs().amax(-1) < 1e-5
    assert 1 - float(whole.float().mean()) == pytest.approx(0.2, abs=0.06)


def test_single_source_mixtures_are_one_of_the_sounding_sources(make_model, make_batch) -> None:
    batch = make_batch(size=200, n_ref=3, length=20)
    batch.sources[:, 2] = 0
    batch.mix = batch.sources.sum(1)
    objective = MixIT(make_model(4), SNR(), single_source_prob=1.0)
    assert objective.needs == {"mix", "sources"}
    mix, kept = objective._single_sources(batch.mix, batch.sources)
    torch.testing.assert_close(mix, kept.sum(1))
    which = kept.square().sum(-1) > 0
    assert (which.sum(1) == 1).all() and not which[:, 2].any()
    assert 60 < int(which[:, 0].sum()) < 140
    assert torch.equal(mix[which[:, 0]], batch.sources[which[:, 0], 0])


def test_silent_moms_teach_nothing(make_model, make_batch) -> None:
    batch = make_batch(size=4)
    objective = MixIT(make_model(4), SNR(), normalize_mom=True)
    alone = objective.losses(Batch(batch.mix[[0, 2]], None, ["0", "2"]))["mixit"]
    batch.mix[[1, 3]] = 0
    torch.testing.assert_close(objective.losses(batch)["mixit"], alone)
    batch.mix.zero_()
    assert float(objective.losses(batch)["mixit"].detach()) == 0.0


def test_silent_references_do_not_count_against_the_outputs(make_model, make_batch) -> None:
    batch = make_batch(n_ref=3)
    objective = MixIT(make_model(4), SNR(), supervised_fraction=1.0)
    with pytest.raises(BadInput, match=r"6 references for 4 outputs; set model\.n_src to 6"):
        objective.losses(batch)
    batch.sources[:, 1] = 0
    assert torch.isfinite(objective.losses(batch)["supervised"])


def test_faults_name_the_setting(make_model) -> None:
    with pytest.raises(ConfigError, match=r"batch_size: found 5; expected a multiple of objective\.n_mix 2"):
        MixIT(make_model(4), SNR()).check(5)
    with pytest.raises(ConfigError, match=r"supervised_fraction: 0\.1 of 2 MoMs is none"):
        MixIT(make_model(4), SNR(), supervised_fraction=0.1).check(4)
    with pytest.raises(ConfigError, match="131072 assignments"):
        MixIT(make_model(17), SNR())
    with pytest.raises(ConfigError, match=r"objective\.n_mix: found 1"):
        MixIT(make_model(4), SNR(), n_mix=1)
    with pytest.raises(ConfigError, match=r"objective\.p0: found 1\.5"):
        MixIT(make_model(4), SNR(), p0=1.5)
    with pytest.raises(BadInput, match="no references"):
        MixIT(make_model(4), SNR(), supervised_fraction=1.0).losses(Batch(signals(2, 9), None, ["a", "b"]))
    with pytest.raises(BadInput, match="a batch of 1 mixtures"):
        MixIT(make_model(4), SNR()).losses(Batch(signals(1, 9), None, ["a"]))
