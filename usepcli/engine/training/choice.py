"""Which of the validated weights a run keeps, where scores of few items cannot tell them apart.

MoMi over n sums of two mixtures is a mean of n numbers. Two validations hear the same sums, so what counts between them
is the mean of the n differences, and its 95 % interval of Student's t. Weights whose interval against the best reaches
zero are as good as the best for all that can be told, and of these the latest are kept: training improves weights as a
rule, while the highest of many noisy scores is luck to a part. Where the score tells validations apart, it decides; and
so it does beyond MAX_GAP_DB, since of very few pairs the interval is so wide that it would hold a collapse.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from usepcli.engine import tables

Scored = tuple[float, int]  # a score, higher being better, and the step that it belongs to
Items = Mapping[str, float]  # the score of each item, by name

# With fewer items than this the interval is wide, and a run says so before it begins.
FEW = 20
# Set on two runs on 160 mixtures, one that rises by 2.1 dB and one that collapses, by 3 to 20 of their pairs.
MAX_GAP_DB = 0.5


def gap(best: Items, other: Items) -> tables.Summary:
    """Return by how much `best` is ahead of `other` over the items that both have, with its 95 % interval."""
    return tables.summarise(value - other[name] for name, value in best.items() if name in other)


def undecided(best: Items, other: Items) -> bool:
    """Say whether the items cannot tell `other` from the best; fewer than two have no interval and change nothing."""
    found = gap(best, other)
    return math.isfinite(found.ci95_low) and found.ci95_low <= 0 and found.mean <= MAX_GAP_DB


def ranked(scores: Sequence[Scored], items: Mapping[int, Items], best: Scored) -> list[Scored]:
    """Return validations from the one to keep downwards: those as good as the best, latest first, then by score.

    items: by step, where the score is a mean of several; `best` need not be among the scores any more.
    """
    reference = items.get(best[1], {})

    def key(scored: Scored) -> tuple[bool, float, int]:
        score, step = scored
        equal = step == best[1] or undecided(reference, items.get(step, {}))
        return equal, math.inf if equal else score, step

    return sorted(scores, key=key, reverse=True)
