"""Which outputs count as silent: the limit found on scenes, kept on the card."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from usepcli.engine.scoring import silences
from usepcli.weights import cards


def test_the_best_limit_is_in_the_middle_of_the_widest_stretch_that_is_right_most_often() -> None:
    gaps = [(1, [0.0, 20.0, 25.0]), (2, [1.0, 12.0, 40.0]), (3, [0.0, 5.0, 7.0])]
    # Right: 3 to 20, 12 to 40, 7 upwards; all of them from 12 to 20.
    assert silences.best(gaps) == 16.0
    assert silences.right(gaps, 16.0) == 1.0 and silences.right(gaps, 30.0) == 2 / 3
    # By hand: every tenth of a dB is tried.
    draw = np.random.default_rng(0)
    many = [(int(draw.integers(1, 5)), draw.uniform(0, 50, 4).tolist()) for _ in range(40)]
    shares = [silences.right(many, limit) for limit in np.arange(3, 60, 0.01)]
    assert silences.right(many, silences.best(many)) == max(shares)


def test_an_output_that_is_as_loud_as_the_whole_always_counts() -> None:
    assert silences.right([(1, [9.0, 9.0])], 3.0) == 1.0  # something is left
    assert silences.best([(2, [0.0, 1.0, math.inf])]) == pytest.approx((3 + 60) / 2)


@pytest.mark.parametrize("held", [{"own_db": 2.0}, {"own_db": "9"}, {"own_db": math.nan}, {"right": 1}])
def test_a_card_with_another_limit_is_refused(held: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="silence: own_db"):
        cards.Card.from_json(cards.Card(silence=held).to_json().replace("NaN", "null"))
    assert cards.silent_db(cards.Card()) is None
    assert cards.silent_db(cards.Card(silence={"own_db": 12})) == 12.0
    assert cards.silent_db(cards.Card(silence={"active_db": 12})) is None  # measured by something else
