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


@settings(max_examples=40, deadline=None)
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


@settings(max_examples=20, deadline=None)
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


@settings(max_examples=40, deadline=None)
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
