"""The terms of weak supervision against loops and closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from usepcli.objectives.text_terms import told_apart


def _loop(heard: torch.Tensor, read: torch.Tensor, own: list[int], scale: float) -> float:
    total = 0.0
    for m, k in enumerate(own):
        logits = [scale * float(heard[m] @ q) for q in read]
        total -= logits[k] - math.log(sum(math.exp(x) for x in logits))
    return total / len(own)


@pytest.mark.parametrize("scale", [1.0, 14.2857])
def test_the_contrastive_term_is_the_mean_negative_log_share_of_the_own_phrase(scale: float) -> None:
    draw = torch.Generator().manual_seed(2)
    heard, read = (torch.nn.functional.normalize(torch.randn(n, 6, generator=draw), dim=-1) for n in (5, 4))
    own = [0, 1, 1, 3, 2]
    found = told_apart(heard, read, torch.tensor(own), scale)
    assert float(found) == pytest.approx(_loop(heard, read, own, scale), rel=1e-5)


def test_both_directions_agree_where_every_phrase_has_one_estimate_and_cosines_are_symmetric() -> None:
    heard = torch.nn.functional.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(3)), dim=-1)
    own = torch.arange(4)  # heard against itself: the table of cosines is its own transpose
    one, both = (told_apart(heard, heard, own, 5.0, symmetric) for symmetric in (False, True))
    assert float(one) == pytest.approx(float(both), rel=1e-6)


def test_a_phrase_that_nobody_asked_counts_as_a_negative_alone() -> None:
    heard = torch.eye(3)
    both = told_apart(heard[:2], heard, torch.tensor([0, 1]), 2.0, symmetric=True)
    share = lambda n: -math.log(math.exp(2) / (math.exp(2) + n))  # noqa: E731
    assert float(both) == pytest.approx((share(2) + share(1)) / 2, rel=1e-6)
