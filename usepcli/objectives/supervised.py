"""How many examples of a micro-batch learn from references, where a share of all examples does.

The share f is one of the whole training, not of a micro-batch: of M examples in a step, on all ranks and in all
micro-batches together, the first s steps supervise
    c(s) = floor(f M s + 1/2)
and step s the c(s) - c(s - 1) of them that are due, dealt out evenly to the micro-batches, which take turns at those
left over. What a step rounds away the next ones make up for, and since all depends on the number of the step alone, a
resumed run goes on with the same ones.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple


class Place(NamedTuple):
    """Which step, from 1, and which of its micro-batches over all ranks, from 0."""

    step: int = 1
    part: int = 0
    parts: int = 1


ALL = Place()  # the first step, in one piece


def count(share: float, size: int, place: Place) -> int:
    """Return how many of the `size` examples of the micro-batch at a place learn from references."""
    each_step = Fraction(str(share)) * size * place.parts

    def until(steps: int) -> int:
        return math.floor(each_step * steps + Fraction(1, 2))

    due = until(place.step) - until(place.step - 1)
    turn = (place.part + place.step) % place.parts
    return due * (turn + 1) // place.parts - due * turn // place.parts


def most(share: float, size: int, parts: int) -> int:
    """Return the largest `count` that any micro-batch of `size` examples gets where a step has `parts` of them."""
    each_step = Fraction(str(share)) * size * parts
    return min(size, math.ceil(Fraction(math.ceil(each_step), parts)))
