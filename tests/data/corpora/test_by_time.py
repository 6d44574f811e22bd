"""Few and long recordings: no sample in two splits, every split has something, whole recordings where they suffice."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from usepcli.data.corpora.by_time import deal
from usepcli.data.manifest import Row

RATIOS = (0.8, 0.1, 0.1)


def rows(*lengths_s: float, text: str = "") -> list[Row]:
    return [
        Row(f"r{k}", mixture=f"{k}.wav", sample_rate=8000, frames=round(8000 * s), text=text)
        for k, s in enumerate(lengths_s)
    ]


def dealt(found: list[Row], *more: float) -> tuple[list[Row], list[str]]:
    return deal(found, more or RATIOS, 0, [row.mixture for row in found])


@pytest.mark.parametrize(
    ("lengths", "timed"),
    [
        ([6.0] * 10, 0),  # ten short ones: whole
        ([300.0] * 3, 3),  # three long ones: whole would leave one for training
        ([300.0] * 30, 0),
        ([36000.0], 1),
        ([20.0], 1),
        ([6.0, 6.0], 2),
        ([2.0], 0),  # a tenth of it is no validation
        ([6.0] * 9 + [36000.0], 1),  # whole, the ten hours might be the validation
        ([6.0] * 30 + [600.0] * 2, 2),
    ],
)
def test_few_or_long_recordings_are_split_by_time(lengths: list[float], timed: int) -> None:
    given = rows(*lengths)
    found, remarks = dealt(given)
    assert len({row.mixture for row in found if row.start is not None}) == timed
    assert len(remarks) == (timed > 0)
    for row in given:
        mine = sorted((r for r in found if r.mixture == row.mixture), key=lambda r: r.start or 0)
        assert sum(r.frames for r in mine) == row.frames  # nothing is lost
        assert all(a.start is not None and a.start + a.frames == b.start for a, b in pairwise(mine))  # nor comes twice
    if timed:
        seconds = Counter[str]()
        for row in found:
            seconds[row.split] += row.frames
        assert {row.split for row in found} == {"train", "valid", "test"}
        assert seconds["train"] >= 0.79 * sum(seconds.values())
        assert all(row.frames <= 80_000 for row in found if row.split != "train" and row.start is not None)
        assert min(Counter(row.split for row in found).values()) >= 1 and Counter(r.split for r in found)["valid"] >= 2
    assert len({row.id for row in found}) == len(found)


def test_what_has_a_split_or_words_stays_whole() -> None:
    named = [Row("a", "test", "a.wav", sample_rate=8000, frames=8_000_000)]
    assert dealt(named) == (named, [])
    assert all(row.start is None for row in dealt(rows(900.0, 900.0, text="she said"))[0])


def test_splits_that_nobody_wants_get_nothing() -> None:
    found, remarks = dealt(rows(900.0), 0.9, 0.1, 0.0)
    assert {row.split for row in found} == {
        "train",
        "valid",
    } and "0 to 90 % for train, 90 to 100 % for valid" in remarks[0]
    assert [row.start for row in dealt(rows(900.0), 1.0, 0.0, 0.0)[0]] == [None]
