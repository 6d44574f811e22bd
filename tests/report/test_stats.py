from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usepcli.report import scatter, stats

SCORES = np.array([[10.0, 12.0], [20.0, 21.0], [0.0, 3.0]])  # 3 examples, 2 conditions


def test_within_example_deviation_by_hand() -> None:
    """Normalised to the grand mean 11: 10, 12 | 10.5, 11.5 | 9.5, 12.5; variance 0.25 in both columns, times 2."""
    each, all_ = stats.within(SCORES)
    assert [s.mean for s in each] == [10.0, 12.0] and all_.mean == 11.0
    assert [s.sd for s in each] == pytest.approx([math.sqrt(0.5)] * 2)
    assert all_.sd == pytest.approx(math.sqrt(0.5)) and all_.band95 == pytest.approx(1.96 * math.sqrt(0.5))
    half = 4.302653 * math.sqrt(0.5 / 3)  # Student's t with 2 degrees of freedom
    assert (each[0].ci95_low, each[0].ci95_high) == pytest.approx((10 - half, 10 + half))


def test_intervals_of_few_are_students() -> None:
    """The 97.5 % quantiles of Student's t with 1, 2, 3 and 10 degrees of freedom, from the tables."""
    for free, t in ((1, 12.7062), (2, 4.3027), (3, 3.1824), (10, 2.2281)):
        values = np.arange(free + 1.0)
        half = t * values.std(ddof=1) / math.sqrt(free + 1)
        assert stats.spread(values).ci95_high - values.mean() == pytest.approx(half, rel=1e-4)
    assert math.isnan(stats.t95(0)) and stats.t95(10**9) == pytest.approx(1.959964, abs=1e-6)
    pooled = stats.pooled([[0.0, 2.0], [9.0, 10.0, 11.0]])  # 5 values about 2 means: 3 degrees of freedom
    assert pooled.ci95_high - pooled.mean == pytest.approx(3.1824 * pooled.sd / math.sqrt(5), rel=1e-4)
    _, whole = stats.within(np.array([[0.0, 1.0, 5.0], [2.0, 2.5, 1.0]]))  # (2-1)(3-1) degrees of freedom
    assert whole.ci95_high - whole.mean == pytest.approx(4.3027 * whole.sd / math.sqrt(2), rel=1e-4)


def test_within_finds_the_residual_and_forgets_the_examples() -> None:
    """Examples spread by 4 dB, conditions 1 dB apart, residual 2.1 dB: the residual comes back, the 4 dB do not."""
    draw = np.random.default_rng(0)
    scores = 10 + 4 * draw.standard_normal((4000, 1)) + np.arange(4) + 2.1 * draw.standard_normal((4000, 4))
    each, all_ = stats.within(scores)
    assert all_.sd == pytest.approx(2.1, abs=0.05) and all(s.sd == pytest.approx(2.1, abs=0.12) for s in each)
    assert stats.spread(scores[:, 0]).sd == pytest.approx(math.hypot(4, 2.1), abs=0.15)


@settings(max_examples=30)
@given(st.lists(st.floats(-50, 50), min_size=3, max_size=3), st.floats(-100, 100))
def test_within_is_blind_to_what_an_example_adds_to_every_condition(shifts: list[float], all_of_them: float) -> None:
    moved = SCORES + np.array(shifts)[:, None] + all_of_them
    assert stats.within(moved)[1].sd == pytest.approx(stats.within(SCORES)[1].sd, abs=1e-9)


@pytest.mark.parametrize("scores", [SCORES[:1], SCORES[:, :1], np.array([[1.0, math.nan], [2.0, 3.0]])])
def test_within_refuses_what_has_no_answer(scores: np.ndarray) -> None:
    with pytest.raises(ValueError, match="at least two of each"):
        stats.within(scores)


def test_pooled_deviation_is_about_each_groups_own_mean() -> None:
    """Sums of squares 2 + 2, degrees of freedom 5 - 2."""
    found = stats.pooled([[0.0, 2.0], [9.0, 10.0, 11.0], []])
    assert found.sd == pytest.approx(math.sqrt(4 / 3)) and found.n == 5 and found.mean == pytest.approx(6.4)
    assert stats.pooled([[], []]).n == 0 and math.isnan(stats.pooled([[1.0]]).sd)


def test_spread_of_little() -> None:
    assert stats.spread([]).n == 0 and math.isnan(stats.spread([]).mean)
    assert stats.spread([4.0]).mean == 4.0 and math.isnan(stats.spread([4.0]).ci95_low)
    assert stats.spread([1.0, 3.0]).sd == pytest.approx(math.sqrt(2))


def test_bootstrap_interval_is_that_of_all_draws() -> None:
    """Three groups have 27 draws; their percentiles are known without chance."""
    groups = {"a": [1.0, 2.0], "b": [5.0], "c": [0.0, 0.0, 3.0]}
    every = [[v for g in draw for v in groups[g]] for draw in itertools.product(groups, repeat=3)]
    exact = np.percentile([np.mean(values) for values in every], [2.5, 97.5], method="inverted_cdf")
    names, values = zip(*((g, v) for g, of in groups.items() for v in of), strict=True)
    found = stats.paired(values, names, seed=1)
    assert found.mean == pytest.approx(11 / 6) and (found.n, found.groups) == (6, 3)
    assert (found.ci95_low, found.ci95_high) == pytest.approx(tuple(exact), abs=1e-9)
    assert found == stats.paired(values, names, seed=1)


def test_members_of_a_group_are_no_further_evidence() -> None:
    draw = np.random.default_rng(3)
    once = draw.standard_normal(40)
    names = [f"m{i}" for i in range(40)]
    alone, thrice = stats.paired(once, names), stats.paired(np.repeat(once, 3), np.repeat(names, 3).tolist())
    assert (alone.ci95_low, alone.ci95_high) == pytest.approx((thrice.ci95_low, thrice.ci95_high))
    assert alone.p_wilcoxon == pytest.approx(thrice.p_wilcoxon)
    half = (alone.ci95_high - alone.ci95_low) / 2
    assert half == pytest.approx(1.96 * once.std() / math.sqrt(40), rel=0.1)


def test_blocks_of_draws_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values, names = np.arange(30.0), [str(i) for i in range(30)]
    whole = stats.paired(values, names, resamples=200)
    monkeypatch.setattr(stats, "_BLOCK", 1000)
    assert stats.paired(values, names, resamples=200) == whole


def test_signed_rank_by_hand() -> None:
    """Ranks 1 to 5 all positive: 2 of 32 sign patterns are as extreme."""
    assert stats.signed_rank(np.array([1.0, 2.0, 3.0, 4.0, 5.0])) == pytest.approx(2 / 32)
    assert stats.signed_rank(np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])) == pytest.approx(2 / 32)
    assert stats.signed_rank(np.zeros(4)) == 1.0


def test_nothing_and_one_group() -> None:
    assert stats.paired([], []).n == 0 and math.isnan(stats.paired([], []).mean)
    lone = stats.paired([1.0, 3.0], ["a", "a"])
    assert lone.mean == 2.0 and math.isnan(lone.ci95_low) and lone.groups == 1


def test_correlations_against_numpy_and_by_hand() -> None:
    """Ranks of y: 1, 2.5, 2.5, 4."""
    x, y = np.array([1.0, 2.0, 3.0, 10.0]), np.array([0.0, 5.0, 5.0, 6.0])
    found = stats.correlation(x, y)
    assert found.pearson == pytest.approx(np.corrcoef(x, y)[0, 1]) and found.n == 4
    assert found.spearman == pytest.approx(np.corrcoef([1, 2, 3, 4], [1, 2.5, 2.5, 4])[0, 1])
    assert stats.correlation(x, np.exp(x)).spearman == pytest.approx(1.0)
    assert stats.correlation([1.0, math.nan, 2.0, 3.0], [1.0, 5.0, math.inf, 2.0]).n == 2
    assert math.isnan(stats.correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]).pearson)


def test_scatter_is_a_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = scatter.scatter([1, 2, 3], [2, 4, 5], tmp_path / "new" / "s.png", x_label="x", y_label="y")
    assert picture.read_bytes().startswith(b"\x89PNG")
