"""The page of an evaluation: which items are chosen."""

from __future__ import annotations

import math

import pytest

from usepcli.engine.scoring import evaluate_report


def rows(means: list[float]) -> list[dict]:  # type: ignore[type-arg]
    return [
        {"id": f"i{k}", "source": source, "score": mean + off}
        for k, mean in enumerate(means)
        for source, off in (("s1", -1.0), ("s2", 1.0))
    ]


def names(means: list[float], higher: bool = True) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"Best": [], "Median": [], "Worst": []}
    for rank, item in evaluate_report.chosen(rows(means), "score", higher):
        found[rank].append(item)
    return found


def test_best_median_and_worst_by_the_mean_over_sources() -> None:
    means = [5.0, 9.0, 1.0, 7.0, 3.0, 8.0, 2.0, 6.0, 4.0, 0.0]
    assert names(means) == {"Best": ["i1", "i5"], "Median": ["i0", "i8"], "Worst": ["i9", "i2"]}
    assert names(means, higher=False)["Best"] == ["i9", "i2"]


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (4, (2, 0, 2)), (5, (2, 1, 2)), (6, (2, 2, 2))]
)
def test_no_item_comes_twice_however_few_there_are(count: int, sizes: tuple[int, int, int]) -> None:
    found = names([float(k) for k in range(count)])
    assert tuple(map(len, found.values())) == sizes
    assert len({item for items in found.values() for item in items}) == sum(sizes)


def test_items_without_a_value_are_not_chosen() -> None:
    table = rows([1.0, 2.0, 3.0])
    table[0]["score"] = math.nan  # one source of two: the other one speaks for the item
    table[2]["score"] = table[3]["score"] = math.nan
    assert {item for _, item in evaluate_report.chosen(table, "score")} == {"i0", "i2"}


def test_protocols_are_ranked_by_what_most_items_have() -> None:
    table = [{"id": f"i{k}", "source": "", "1S": 1.0 if k == 0 else math.nan, "MSi": float(k)} for k in range(3)]
    assert evaluate_report._commonest(table, ["1S", "MSi"]) == "MSi"
