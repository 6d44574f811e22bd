"""Which side wins between a critic and the separator, and when that is told."""

from __future__ import annotations

import pytest
import torch

from usepcli.objectives.contest import LEAST_STEPS, Contest


def epoch(contest: Contest, real: float, fake: float, steps: int = LEAST_STEPS) -> list[str]:
    for _ in range(steps):
        contest.health("ctx_wave", torch.tensor([real, 1.0]), torch.tensor([fake, 0.0]))
    return contest.ended("ctx_wave")


def test_health_is_in_closed_form():
    real, fake = torch.tensor([1.0, 2.0, 3.0, 0.0]), torch.tensor([0.0, 3.0, 3.0, -1.0])
    found = Contest().health("inst_mask", real, fake)
    # Right twice, wrong once, and once the same of both.
    assert found == {"real_inst_mask": 1.5, "fake_inst_mask": 1.25, "accuracy_inst_mask": 0.625}


@pytest.mark.parametrize(("real", "fake", "said"), [(1.0, 0.0, "it has won"), (0.0, 1.0, "no more than by chance")])
def test_a_winner_of_two_epochs_is_told(real, fake, said):
    contest = Contest()
    assert epoch(contest, real, fake) == []
    (line,) = epoch(contest, real, fake)
    assert "critic ctx_wave told" in line and "for 2 epochs" in line and said in line
    assert "optim.groups.ctx_wave.lr" in line
    assert epoch(contest, real, fake)  # as long as it lasts


def test_an_even_contest_and_short_epochs_are_left_alone():
    contest = Contest()
    found = [epoch(contest, 1.0, 0.0, LEAST_STEPS - 1) for _ in range(4)]
    for _ in range(LEAST_STEPS):  # three of four
        contest.health("ctx_wave", torch.tensor([1.0, 1.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, 0.0, 1.0]))
    assert found == [[]] * 4 and contest.ended("ctx_wave") == []
    assert epoch(contest, 1.0, 0.0) == []  # the first of a new row
