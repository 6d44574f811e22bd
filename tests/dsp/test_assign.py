"""Solvers against brute force."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from usepcli.dsp import assign


def brute_permutation(cost: Tensor) -> float:
    n_ref, n_est = cost.shape
    return min(
        sum(float(cost[k, n]) for k, n in enumerate(choice)) for choice in itertools.permutations(range(n_est), n_ref)
    )


@settings(max_examples=40)
@given(n_ref=st.integers(1, 6), extra=st.integers(0, 2), seed=st.integers(0, 10_000))
def test_permutation_is_the_brute_force_minimum(n_ref: int, extra: int, seed: int) -> None:
    cost = torch.randn(3, n_ref, n_ref + extra, generator=torch.Generator().manual_seed(seed))
    chosen = assign.permutation(cost)
    assert chosen.shape == (3, n_ref)
    for c, row in zip(cost.double(), chosen, strict=True):
        assert len(set(row.tolist())) == n_ref
        assert float(c[torch.arange(n_ref), row].sum()) == pytest.approx(brute_permutation(c), abs=1e-9)


def test_exhaustive_and_hungarian_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = torch.randn(50, 4, 4, generator=torch.Generator().manual_seed(1))
    tried = assign.permutation(cost)
    monkeypatch.setattr(assign, "MAX_EXHAUSTIVE", 0)
    assert torch.equal(tried, assign.permutation(cost))


@pytest.mark.parametrize("n", [3, 6])
def test_permutation_avoids_non_finite_costs(n: int, caplog: pytest.LogCaptureFixture) -> None:
    cost = torch.full((1, n, n), 5.0)
    cost[0, torch.arange(n), torch.arange(n).flip(0)] = 0.0
    cost[0, 0, 0], cost[0, 1, 0] = float("nan"), float("-inf")
    assert assign.permutation(cost)[0].tolist() == list(range(n))[::-1]
    assert "2 of" in caplog.text


def test_ties_go_to_the_first_permutation() -> None:
    assert assign.permutation(torch.zeros(2, 3, 3)).tolist() == [[0, 1, 2]] * 2


def test_invert_undoes_a_permutation() -> None:
    chosen = torch.tensor([[2, 0, 1], [1, 0, 2]])
    assert assign.invert(chosen).tolist() == [[1, 2, 0], [1, 0, 2]]


def test_more_references_than_estimates_are_refused() -> None:
    with pytest.raises(ValueError, match="3 references for 2 estimates"):
        assign.permutation(torch.zeros(1, 3, 2))


@settings(max_examples=20)
@given(n=st.integers(1, 7), seed=st.integers(0, 10_000))
def test_subset_tables_hold_every_sum_and_energy(n: int, seed: int) -> None:
    e = torch.randn(2, n, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    sums = assign.subset_sums(e.transpose(1, 2))
    energies = assign.subset_energies(e @ e.mT)
    for index in range(2**n):
        members = [i for i in range(n) if index >> i & 1]
        total = e[:, members].sum(1)
        torch.testing.assert_close(sums[..., index], total)
        torch.testing.assert_close(energies[:, index], total.square().sum(-1))


def squared_error(mixtures: Tensor):
    reference = mixtures.square().sum(-1)[..., None]
    return lambda energy, cross: reference - 2 * cross + energy


@settings(max_examples=40)
@given(n_mix=st.integers(2, 4), n_est=st.integers(1, 5), seed=st.integers(0, 10_000))
def test_mixit_is_the_brute_force_minimum(n_mix: int, n_est: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    e = torch.randn(2, n_est, 20, dtype=torch.float64, generator=rng)
    x = torch.randn(2, n_mix, 20, dtype=torch.float64, generator=rng)
    owner = assign.mixit(e @ e.mT, x @ e.mT, squared_error(x))

    def error(b: int, dealt: tuple[int, ...]) -> float:
        parts = [e[b][[n for n in range(n_est) if dealt[n] == p]].sum(0) for p in range(n_mix)]
        return float((torch.stack(parts) - x[b]).square().sum())

    for b in range(2):
        least = min(error(b, a) for a in itertools.product(range(n_mix), repeat=n_est))
        assert error(b, tuple(owner[b].tolist())) == pytest.approx(least, rel=1e-9)


def test_mixit_finds_the_truth_among_65536_assignments() -> None:
    rng = torch.Generator().manual_seed(0)
    e = torch.randn(2, 16, 200, dtype=torch.float64, generator=rng)
    truth = torch.randint(2, (2, 16), generator=rng)
    x = torch.stack([(e * (truth == p)[..., None]).sum(1) for p in range(2)], 1)
    assert torch.equal(assign.mixit(e @ e.mT, x @ e.mT, squared_error(x)), truth)


def test_mixit_refuses_more_assignments() -> None:
    with pytest.raises(ValueError, match=r"2\^17 assignments"):
        assign.mixit(torch.zeros(1, 17, 17), torch.zeros(1, 2, 17), lambda energy, cross: cross)


def drawn_rules(n_mix: int, n_est: int, each: int, rng: torch.Generator) -> tuple[assign.Rules, list[tuple[int, ...]]]:
    """Random rules, each output allowed one mixture at least, and all assignments that keep them."""
    may = torch.rand(n_mix, n_est, generator=rng) < 0.6
    may[torch.randint(n_mix, (n_est,), generator=rng), torch.arange(n_est)] = True
    whole = [
        owner
        for owner in itertools.product(range(n_mix), repeat=n_est)
        if all(bool(may[p, n]) for n, p in enumerate(owner))
        and (not each or all(owner.count(p) == each for p in range(n_mix)))
    ]
    return assign.Rules(may, each), whole


@settings(max_examples=40)
@given(n_mix=st.integers(2, 3), each=st.integers(0, 2), seed=st.integers(0, 10_000))
def test_rules_leave_the_best_of_what_they_allow(n_mix: int, each: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    n_est = each * n_mix if each else 4
    rules, whole = drawn_rules(n_mix, n_est, each, rng)
    assert rules.possible() == bool(whole)
    if not whole:
        return
    e = torch.randn(2, n_est, 20, dtype=torch.float64, generator=rng)
    x = torch.randn(2, n_mix, 20, dtype=torch.float64, generator=rng)
    exact = assign.mixit(e @ e.mT, x @ e.mT, squared_error(x), rules)
    near = assign.mixit_ls(e @ e.mT, x @ e.mT, rules)
    for b in range(2):
        weights = torch.linalg.lstsq(e[b].mT, x[b].mT).solution.mT  # (P, N)
        matrices = {owner: torch.eye(n_mix, dtype=torch.float64)[list(owner)].T for owner in whole}
        error = {owner: float((m @ e[b] - x[b]).square().sum()) for owner, m in matrices.items()}
        distance = {owner: float((m - weights).square().sum()) for owner, m in matrices.items()}
        assert error[tuple(exact[b].tolist())] == pytest.approx(min(error.values()), rel=1e-9)
        assert distance[tuple(near[b].tolist())] == pytest.approx(min(distance.values()), rel=1e-3)


def test_rules_need_as_many_outputs_as_their_mixtures_take() -> None:
    assert not assign.Rules(torch.ones(2, 5, dtype=torch.bool), 2).possible()
    assert not assign.Rules(torch.tensor([[True, True], [False, True]]), 0).subsets()[1, 1]
    assert not assign.Rules(torch.tensor([[True, False], [True, False]])).possible()


def test_least_squares_is_exact_at_20_db() -> None:
    rng = torch.Generator().manual_seed(0)
    clean = torch.randn(50, 8, 4000, dtype=torch.float64, generator=rng)
    owner = torch.randint(2, (50, 8), generator=rng)
    x = torch.nn.functional.one_hot(owner, 2).mT.double() @ clean
    e = clean + 0.1 * torch.randn(50, 8, 4000, dtype=torch.float64, generator=rng)
    gram, cross = e @ e.mT, x @ e.mT
    assert torch.equal(assign.mixit_ls(gram, cross), owner)
    assert torch.equal(assign.mixit(gram, cross, squared_error(x)), owner)


def test_least_squares_gives_silent_and_repeated_outputs_to_one_mixture(caplog: pytest.LogCaptureFixture) -> None:
    rng = torch.Generator().manual_seed(0)
    e = torch.randn(1, 5, 300, dtype=torch.float64, generator=rng)
    e[0, 2] = 0
    e[0, 4] = e[0, 3]
    x = torch.stack([e[0, :2].sum(0), 2 * e[0, 3]])[None]
    assert assign.mixit_ls(e @ e.mT, x @ e.mT)[0].tolist() == [0, 0, 0, 1, 1]
    silent = torch.zeros(1, 5, 5)
    assert assign.mixit_ls(silent, torch.zeros(1, 2, 5))[0].tolist() == [0] * 5
    assert not caplog.text  # all weights were finite


def test_least_squares_takes_forty_outputs_and_survives_a_broken_model(caplog: pytest.LogCaptureFixture) -> None:
    rng = torch.Generator().manual_seed(0)
    e = torch.randn(2, 40, 2000, dtype=torch.float64, generator=rng)
    owner = torch.randint(3, (2, 40), generator=rng)
    x = torch.nn.functional.one_hot(owner, 3).mT.double() @ e
    assert torch.equal(assign.mixit_ls(e @ e.mT, x @ e.mT), owner)
    broken = torch.full((1, 3, 3), float("nan"))
    assert set(assign.mixit_ls(broken, torch.zeros(1, 2, 3))[0].tolist()) <= {0, 1}
    assert "not finite" in caplog.text


def test_remixed_outputs_take_the_gradient_of_their_mixture() -> None:
    est = torch.randn(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    owner = torch.tensor([[0, 1, 2, 1], [2, 2, 0, 2]])
    expected = torch.nn.functional.one_hot(owner, 3).mT.double() @ est
    torch.testing.assert_close(assign.remix(est, owner, 3), expected)
    assert torch.autograd.gradcheck(lambda e: assign.remix(e, owner, 3), (est,))


def test_what_dealt_outputs_miss_is_the_energy_of_the_difference() -> None:
    rng = torch.Generator().manual_seed(0)
    est = torch.randn(2, 4, 5, dtype=torch.float64, generator=rng, requires_grad=True)
    x = torch.randn(2, 3, 5, dtype=torch.float64, generator=rng)
    owner = torch.tensor([[0, 1, 2, 1], [2, 2, 0, 2]])  # nothing for the second mixture of the second example
    expected = (assign.remix(est, owner, 3) - x).square().sum(-1)
    torch.testing.assert_close(assign.missed(est, owner, x), expected)
    assert torch.autograd.gradcheck(lambda e: assign.missed(e, owner, x), (est,))
    narrow = assign.missed(est.detach().half(), owner, x.half())
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow.double(), assign.missed(est.half().double(), owner, x.half().double()))
