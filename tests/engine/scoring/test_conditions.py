from __future__ import annotations

import math
from typing import Any

import pytest

from usepcli.engine.scoring import conditions, scoring


def rows(**scores: list[float]) -> list[dict[str, Any]]:
    return [{"id": item, "source": f"s{n}", "snr": v} for item, of in scores.items() for n, v in enumerate(of)]


def by_name(table: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["condition"]: row for row in table}


def test_runs_share_their_mixtures_so_the_spread_is_within_them() -> None:
    """Items of mean 10 and 20 under both runs, the second better by 1 and 3: what is left is +-0.5, times sqrt(2)."""
    runs = {"this": rows(a=[9.0, 11.0], b=[20.0]), "old": rows(a=[9.0], b=[17.0], c=[5.0])}
    found = by_name(conditions.spreads("run", runs, ["snr"]))
    assert list(found) == ["this", "old", "pooled"]
    assert (found["this"]["mean"], found["old"]["mean"], found["pooled"]["mean"]) == (15.0, 13.0, 14.0)
    for row in found.values():
        assert (row["kind"], row["n"], row["dropped"], row["by"]) == ("within", 2, 1, "run")
        assert row["sd"] == pytest.approx(math.sqrt(2) * math.sqrt(0.5)) and row["band95"] == 1.96 * row["sd"]


def test_kinds_of_mixtures_have_their_own_and_the_spread_is_between_them() -> None:
    kinds = conditions.split_by(
        rows(a=[0.0], b=[2.0], c=[9.0], d=[11.0], e=[math.nan]),
        {("a", ""): "x", ("b", ""): "x", ("c", ""): "y", ("d", ""): "y"},
    )
    found = by_name(conditions.spreads("label", kinds, ["snr"]))
    assert list(found) == ["x", "y", "pooled"]
    assert [(row["kind"], row["n"], row["mean"]) for row in found.values()] == [
        ("between", 2, 1.0), ("between", 2, 10.0), ("between", 4, 5.5),
    ]  # fmt: skip
    assert all(row["sd"] == pytest.approx(math.sqrt(2)) for row in found.values())


def test_sources_of_every_mixture_are_crossed_with_it() -> None:
    table = rows(a=[1.0, 2.0], b=[3.0, 4.5])
    labels = {(row["id"], row["source"]): row["source"] for row in table}
    found = by_name(conditions.spreads("source", conditions.split_by(table, labels), ["snr"]))
    assert {row["kind"] for row in found.values()} == {"within"} and found["s1"]["mean"] == 3.25


def test_one_condition_is_its_own_pool() -> None:
    (row,) = conditions.spreads("n_src", {"2": rows(a=[1.0], b=[3.0])}, ["snr"])
    assert (row["condition"], row["kind"]) == ("2", "between") and tuple(row).__len__() == len(conditions.COLUMNS)
    assert set(row) == set(conditions.COLUMNS)


@pytest.mark.parametrize("items", [1, 2, 5])
def test_intervals_are_those_of_the_summary(items: int) -> None:
    table = rows(**{f"i{n}": [float(n * n), n + 0.5] for n in range(items)})
    (spread,), (whole,) = conditions.spreads("n_src", {"2": table}, ["snr"]), scoring.summary(table, ["snr"])
    for name in ("mean", "ci95_low", "ci95_high"):
        assert spread[name] == pytest.approx(whole[name], nan_ok=True)
    assert math.isnan(spread["ci95_low"]) == (items == 1)


def test_scores_that_nobody_has_leave_no_row() -> None:
    assert conditions.spreads("n_src", {"2": rows(a=[math.nan])}, ["snr"]) == []


def test_unlabelled_items_are_unnamed() -> None:
    assert list(conditions.split_by(rows(a=[1.0]), {})) == ["unnamed"]
