"""MixIT against the naive formulation, and its options one by one."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import one_hot

from usepcli.data.batch import Batch
from usepcli.dsp import ratios
from usepcli.dsp.assign import Rules
from usepcli.dsp.consistency import project
from usepcli.errors import BadInput, ConfigError
from usepcli.losses.multires import MultiResolutionL1
from usepcli.losses.scale_invariant import SISNR
from usepcli.losses.thresholded import SNR
from usepcli.objectives.base import Shared
from usepcli.objectives.dealing import deal
from usepcli.objectives.mixit import MixIT
from usepcli.objectives.sparsity import covariance, levels, sparsity
from usepcli.objectives.supervised import Place


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


@settings(max_examples=25)
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


@pytest.mark.parametrize("level", [1e-3, 0.3])
@pytest.mark.parametrize("quiet", [1.0, 1e-3, 0.0])
def test_float32_search_finds_what_float64_finds(level: float, quiet: float, monkeypatch) -> None:
    clean = signals(8, 6, 5000)
    owner = torch.randint(2, (8, 6), generator=torch.Generator().manual_seed(1))
    mixtures = one_hot(owner, 2).mT.float() @ clean
    est = clean + level * signals(8, 6, 5000, seed=2)
    est[:, 4:] *= quiet
    kinds: list[bool] = []
    inner = ratios.inner

    def watched(given, pairs, narrow=False):
        kinds.append(narrow)
        return inner(given, pairs, narrow)

    monkeypatch.setattr(ratios, "inner", watched)
    for loss in (SNR(), SNR(snr_max_db=None), SISNR()):
        found = deal(loss, est, mixtures, mixtures.sum(1))
        with monkeypatch.context() as patch:
            patch.setattr(ratios, "rounding", lambda given: 0.0)
            exact = deal(loss, est, mixtures, mixtures.sum(1))
        assert torch.equal(found.owner, exact.owner)
        torch.testing.assert_close(found.pair_db, exact.pair_db, rtol=0, atol=1e-4)
        torch.testing.assert_close(found.snr_db, exact.snr_db, rtol=0, atol=0.05)
        torch.testing.assert_close(found.energy, exact.energy, rtol=ratios.rounding([est]), atol=0)
    # Outputs that are silent may go anywhere: float64 has the last word. Nothing hangs by it where all of them sound.
    if quiet != 1e-3:
        assert kinds[: len(kinds) // 3] == ([True, False] if quiet else [True, False, False])


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
    with pytest.raises(ConfigError, match=r"131072 assignments; .* set objective\.assign to ls"):
        MixIT(make_model(17), SNR())
    with pytest.raises(ConfigError, match=r"objective\.n_mix: found 1"):
        MixIT(make_model(4), SNR(), n_mix=1)
    with pytest.raises(ConfigError, match=r"objective\.p0: found 1\.5"):
        MixIT(make_model(4), SNR(), p0=1.5)
    with pytest.raises(BadInput, match="no references"):
        MixIT(make_model(4), SNR(), supervised_fraction=1.0).losses(Batch(signals(2, 9), None, ["a", "b"]))
    with pytest.raises(BadInput, match="a batch of 1 mixtures"):
        MixIT(make_model(4), SNR()).losses(Batch(signals(1, 9), None, ["a"]))


@settings(max_examples=6)
@given(n_mix=st.integers(2, 3), seed=st.integers(0, 999))
def test_equal_shares_are_the_best_of_all_such_subsets(n_mix: int, seed: int) -> None:
    clean = signals(2, 2 * n_mix, 100, seed=seed)
    owner = torch.randint(n_mix, (2, 2 * n_mix), generator=torch.Generator().manual_seed(seed))
    mixtures = one_hot(owner, n_mix).mT.float() @ clean
    rules = Rules(torch.ones(n_mix, 2 * n_mix, dtype=torch.bool), 2)
    found = deal(SNR(), clean, mixtures, mixtures.sum(1), rules=rules)
    all_values = naive(SNR(), clean, mixtures, mixtures.sum(1))
    equal = [sorted(q) == sorted(2 * list(range(n_mix))) for q in itertools.product(range(n_mix), repeat=2 * n_mix)]
    torch.testing.assert_close(found.loss, all_values[:, torch.tensor(equal)].min(-1).values)
    assert all(row.bincount(minlength=n_mix).tolist() == [2] * n_mix for row in found.owner)


def test_restrictions_come_from_the_profile(make_model, make_batch) -> None:
    batch = make_batch()
    mixtures = torch.stack([batch.mix[:2], batch.mix[2:]], 1)
    values = {q: [] for q in itertools.product(range(2), repeat=4)}
    for options, keeps in (
        ({"generalized": False}, lambda q: sum(q) == 2),
        ({"allow": [[0], [1], [0, 1], [0, 1]]}, lambda q: q[:2] == (0, 1)),
        ({"allow": [[0], [1], [0, 1], [1]], "generalized": False}, lambda q: q == (0, 1, 0, 1)),
    ):
        objective = MixIT(make_model(4), SNR(), **options)
        est = objective.student(mixtures.sum(1))
        table = naive(SNR(), est, mixtures, mixtures.sum(1))
        best = table[:, torch.tensor([keeps(q) for q in values])].min(-1).values.mean()
        torch.testing.assert_close(objective.losses(batch)["mixit"], best)
        least = MixIT(make_model(4), SNR(), assign="ls", **options).losses(batch)["mixit"]
        assert float(least.detach()) >= float(best.detach()) - 1e-4


def test_least_squares_agrees_at_20_db_and_never_beats_the_search() -> None:
    clean = signals(20, 6, 2000)
    owner = torch.randint(2, (20, 6), generator=torch.Generator().manual_seed(1))
    mixtures = one_hot(owner, 2).mT.float() @ clean
    for noise, same in ((0.1, True), (2.0, False)):
        est = (clean + noise * signals(20, 6, 2000, seed=2)).requires_grad_()
        exact, near = (deal(SNR(), est, mixtures, mixtures.sum(1), assign=how) for how in ("exact", "ls"))
        assert torch.equal(exact.owner, near.owner) == same
        assert (near.loss >= exact.loss - 1e-5).all()
        # One of the mixtures is silent by chance.
        truth = SNR()(one_hot(near.owner, 2).mT.float() @ est, mixtures, mixtures.sum(1)[:, None]).mean(-1)
        torch.testing.assert_close(near.loss, truth)


def test_least_squares_trains_more_outputs_than_a_search_can_try(make_model, make_batch) -> None:
    objective = MixIT(make_model(24), SNR(), n_mix=3, assign="ls")
    objective.check(6)
    loss = objective.losses(make_batch(size=6))["mixit"]
    loss.backward()
    assert objective.student.taps.weight.grad.any()


def test_mixtures_are_searched_by_the_whole_loss_on_request() -> None:
    sizes = {"n_fft": (64,), "win": (40,), "hop": (10,)}
    whole, by_snr = MultiResolutionL1(**sizes), MultiResolutionL1(**sizes, select_by="snr")
    differ = 0
    for seed in range(4):
        est, mixtures = signals(2, 6, 120, seed=seed).double(), signals(2, 2, 120, seed=seed + 100).double()
        mom = mixtures.sum(1)
        found, plain = deal(whole, est, mixtures, mom), deal(by_snr, est, mixtures, mom)
        torch.testing.assert_close(found.loss, naive(whole, est, mixtures, mom).min(-1).values)
        snr = naive(SNR(), est, mixtures, mom)
        torch.testing.assert_close(deal(SNR(), est, mixtures, mom).owner, plain.owner)
        assert (found.loss <= plain.loss + 1e-9).all() and (snr.min(-1).values <= found.pair_db.mean(-1)).all()
        differ += int((found.owner != plain.owner).any(-1).sum())
    assert differ > 0


def test_logs_are_the_snr_and_the_loudest_output() -> None:
    mixtures = torch.stack([signals(1, 500), 2 * signals(1, 500, seed=1)], 1)
    found = deal(MultiResolutionL1(), 0.9 * mixtures, mixtures, mixtures.sum(1))
    torch.testing.assert_close(found.snr_db, torch.full((1, 2), 20.0).double(), rtol=0, atol=1e-3)
    torch.testing.assert_close(found.energy.float(), 0.81 * mixtures.square().sum(-1))
    spread = torch.cat([mixtures, mixtures + signals(1, 2, 500, seed=2)], 1)
    found = deal(SNR(snr_max_db=None), spread / 2, mixtures, mixtures.sum(1))
    torch.testing.assert_close(found.snr_db, -found.pair_db.double(), rtol=0, atol=1e-3)
    perfect = deal(SNR(), mixtures, mixtures, mixtures.sum(1))
    torch.testing.assert_close(perfect.snr_db, torch.full((1, 2), 120.0).double(), rtol=0, atol=1e-2)


@pytest.mark.parametrize("kind", ["l1_l2", "l1"])
@pytest.mark.parametrize("consistent", [False, True])
def test_sparsity_is_that_of_consistent_outputs(kind: str, consistent: bool, make_model, make_batch) -> None:
    batch = make_batch()
    batch.mix *= 1e-3
    model = make_model(4)
    model.consistency = "magsq" if consistent else "none"
    objective = MixIT(model, SNR(), sparsity=kind, sparsity_weight=3.0, covariance_weight=0.5)
    terms = objective.losses(batch)
    mom = batch.mix[:2] + batch.mix[2:]
    with torch.no_grad():
        est = model(mom)
        est = est if consistent else project(est, mom, "uniform")
        value = sparsity(levels(est, mom.std(-1)), kind).mean()
        alike = covariance(est, mom.std(-1)).mean()
    assert set(terms) == {"mixit", "weighted_sparsity", "weighted_covariance"}
    torch.testing.assert_close(terms["weighted_sparsity"].detach(), 3 * value)
    torch.testing.assert_close(terms["weighted_covariance"].detach(), 0.5 * alike)
    assert float(objective.step_logs["sparsity"]) == pytest.approx(float(value))
    assert float(objective.step_logs["covariance"]) == pytest.approx(float(alike))
    assert 0.25 <= float(objective.step_logs["loudest_share"]) <= 1


def test_sparsity_means_the_same_whether_moms_are_normalised_or_not(make_model, make_batch) -> None:
    batch = make_batch()
    batch.mix *= 1e-3
    model = make_model(4)
    with torch.no_grad():
        model.taps.bias.zero_()
    plain, unit = (MixIT(model, SNR(), sparsity="l1", normalize_mom=norm).losses(batch) for norm in (False, True))
    torch.testing.assert_close(plain["weighted_sparsity"], unit["weighted_sparsity"], rtol=1e-4, atol=0)


def test_a_second_stage_with_weight_zero_is_the_first_stage(make_model, make_batch) -> None:
    gradients = []
    for options in ({}, {"sparsity": "l1_l2", "sparsity_weight": 0.0}):
        objective = MixIT(make_model(4), SNR(), **options)
        sum(objective.losses(make_batch()).values()).backward()
        gradients.append(objective.student.taps.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)


def test_sparsity_leaves_supervised_and_silent_moms_alone(make_model, make_batch) -> None:
    batch = make_batch(size=8)
    options = {"sparsity": "l1_l2", "sparsity_weight": 1.0}
    assert set(MixIT(make_model(4), SNR(), supervised_fraction=1.0, **options).losses(batch)) == {"supervised"}
    half = MixIT(make_model(4), SNR(), supervised_fraction=0.5, **options)
    share = half.losses(batch)["weighted_sparsity"]
    rest = Batch(torch.cat([batch.mix[2:4], batch.mix[6:]]), None, [""] * 4)
    alone = MixIT(make_model(4), SNR(), **options)
    torch.testing.assert_close(share, alone.losses(rest)["weighted_sparsity"] / 2)
    rest.mix[[1, 3]] = 0
    torch.testing.assert_close(
        alone.losses(rest)["weighted_sparsity"],
        alone.losses(Batch(rest.mix[[0, 2]], None, [""] * 2))["weighted_sparsity"],
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"assign": "lsq"}, r"objective\.assign: unknown assignment 'lsq'"),
        ({"generalized": False, "n_mix": 3}, r"objective\.generalized: .* found model\.n_src 4"),
        ({"allow": [[0], [1]]}, r"objective\.allow: found .*a list for each of 4 outputs"),
        ({"allow": [[0], [1], [2], [0]]}, r"objective\.allow: .*mixtures from 0 to 1"),
        ({"allow": [[0], [1], [], [0]]}, r"objective\.allow: found"),
        ({"allow": [[0], [0], [0], [1]], "generalized": False}, r"objective\.allow: .*each of 2 mixtures 2 outputs"),
        ({"sparsity": "l2"}, r"objective\.sparsity: unknown sparsity 'l2'"),
        ({"sparsity_weight": -1.0}, r"objective\.sparsity_weight: found -1"),
        ({"covariance_weight": float("nan")}, r"objective\.covariance_weight: found nan"),
    ],
)
def test_faults_of_the_variants_name_the_setting(options, message: str, make_model) -> None:
    with pytest.raises(ConfigError, match=message):
        MixIT(make_model(4), SNR(), **options)


def known_in(objective: MixIT, batch: Batch, place: Place) -> int:
    """Return how many MoMs the objective trained with references at a place, read off the weights of its terms."""
    terms = objective.steps()[0].terms(batch, Shared(True, place)).losses
    assert set(terms) == {"mixit", "supervised"}
    objective.place = place
    return objective._n_supervised(len(batch.mix) // 2)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.3, 0.5, 1 / 3, 0.9])
@pytest.mark.parametrize("parts", [1, 2, 8])
def test_the_supervised_share_is_exact_over_time_on_micro_batches_of_any_size(
    make_model, make_batch, share: float, parts: int
) -> None:
    objective = MixIT(make_model(4), SNR(), supervised_fraction=share)
    batch, steps = make_batch(size=4, length=20), 20
    objective.place = Place(parts=parts)
    objective.check(4)
    found = [[known_in(objective, batch, Place(s, p, parts)) for p in range(parts)] for s in range(1, steps + 1)]
    total = 0
    for step, each in enumerate(found, 1):
        total += sum(each)
        # The whole share of all MoMs so far, to half a MoM; and no micro-batch has two more than another.
        assert abs(total - share * 2 * parts * step) <= 0.5
        assert max(each) - min(each) <= 1


def test_micro_batches_without_one_kind_of_mom_say_so_and_weigh_nothing(make_model, make_batch) -> None:
    objective = MixIT(make_model(4), SNR(), supervised_fraction=0.25, sparsity="l1_l2", sparsity_weight=1.0)
    batch = make_batch(size=4)
    every = [objective.steps()[0].terms(batch, Shared(True, Place(1, p, 2))) for p in range(2)]
    one, none = sorted(every, key=lambda terms: math.isnan(terms.logs["supervised_snr_db"]))
    assert set(one.losses) == set(none.losses) == {"mixit", "weighted_sparsity", "supervised"}
    assert float(none.losses["supervised"]) == 0 and math.isnan(none.logs["supervised_snr_db"])
    assert float(one.losses["supervised"].detach()) != 0 and math.isfinite(one.logs["supervised_snr_db"])
    assert math.isfinite(none.logs["snr_db"]) and math.isfinite(none.logs["loudest_share"])


def test_least_squares_deal_outputs_out_and_the_whole_loss_of_a_spectral_one_is_theirs(make_model, make_batch) -> None:
    loss = MultiResolutionL1(n_fft=(64,), win=(40,), hop=(10,))
    MixIT(make_model(3), loss, assign="ls")
    batch = make_batch(size=4, length=300)
    mixtures = torch.stack([batch.mix[:2], batch.mix[2:]], 1)
    est, mom = make_model(3)(mixtures.sum(1)), mixtures.sum(1)
    found = deal(loss, est, mixtures, mom, "ls")
    assert torch.equal(found.owner, deal(SNR(), est, mixtures, mom, "ls").owner)
    dealt = (found.owner[:, None] == torch.arange(2)[:, None]).float() @ est
    torch.testing.assert_close(found.loss, loss(dealt, mixtures, mom[:, None]).mean(-1), rtol=1e-4, atol=1e-4)
