"""A few rows of every label: how many, which, and the same ones whatever stands beside them."""

from __future__ import annotations

import numpy as np

from usepcli.data.manifest import Row
from usepcli.data.shots import few


def rows(labels: str) -> list[Row]:
    return [Row(f"r{k}", "train", f"{k}.wav", label=label) for k, label in enumerate(labels)]


def test_so_many_of_each_label_and_all_of_a_rare_one() -> None:
    given = rows("aababbbcaa")
    for count in (1, 2, 3, 9):
        kept = few(given, count, 0)
        labels = [given[k].label for k in kept]
        assert kept.tolist() == sorted(set(kept.tolist()))
        assert {name: labels.count(name) for name in "abc"} == {"a": min(count, 5), "b": min(count, 4), "c": 1}


def test_of_more_shots_fewer_are_a_part_and_other_labels_do_not_matter() -> None:
    given = rows("aaaaaaaabbbb")
    ids = [{given[k].id for k in few(given, count, 3)} for count in (1, 2, 5)]
    assert ids[0] < ids[1] < ids[2]
    alone = few(given[:8], 2, 3)
    assert alone.tolist() == [k for k in few(given, 2, 3) if k < 8]
    assert any(few(given, 2, seed).tolist() != few(given, 2, 3).tolist() for seed in range(5))


def test_rows_without_labels_are_told_apart_by_their_queries() -> None:
    given = [Row(f"r{k}", queries=(f"q{k % 2}",)) for k in range(6)]
    assert sorted(given[k].queries for k in few(given, 1, 0)) == [("q0",), ("q1",)]
    assert few([], 2, 0).dtype == np.int64 and not len(few([], 2, 0))
