"""Order of estimates for scoring, against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usepcli.dsp import decibels
from usepcli.errors import BadInput
from usepcli.metrics import align


@settings(max_examples=40)
@given(n_ref=st.integers(1, 4), extra=st.integers(0, 2), seed=st.integers(0, 10_000))
def test_permutation_maximises_the_mean_si_snr(n_ref: int, extra: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ref = rng.standard_normal((n_ref, 50))
    est = rng.standard_normal((n_ref + extra, n_ref)) @ ref + 0.1 * rng.standard_normal((n_ref + extra, 50))

    def mean(order: tuple[int, ...]) -> float:
        return float(decibels.si_snr_db(est[list(order)], ref).mean())

    best = max(mean(order) for order in itertools.permutations(range(len(est)), n_ref))
    assert mean(tuple(align.permutation(est, ref))) == pytest.approx(best, abs=1e-9)


def test_gain_and_sign_do_not_matter() -> None:
    ref = np.random.default_rng(0).standard_normal((3, 200))
    est = np.array([1e-4, -50.0, 3.0])[:, None] * ref[[2, 0, 1]]
    assert align.permutation(est, ref).tolist() == [1, 2, 0]


def test_silent_signals_take_what_is_left() -> None:
    ref = np.random.default_rng(0).standard_normal((3, 200))
    est = ref[[2, 1, 0]].copy()
    est[1] = 0
    ref[1] = 0
    assert align.permutation(est, ref).tolist() == [2, 1, 0]


def test_broken_estimate_is_avoided() -> None:
    ref = np.random.default_rng(0).standard_normal((2, 200))
    est = np.concatenate([np.full((1, 200), np.nan), ref[::-1]])
    assert align.permutation(est, ref).tolist() == [2, 1]


def test_fewer_estimates_than_references_are_refused() -> None:
    with pytest.raises(BadInput, match="1 estimates for 2 references"):
        align.permutation(np.ones((1, 5)), np.ones((2, 5)))
