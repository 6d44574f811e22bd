"""Which weights MoMi keeps where its pairs cannot tell validations apart: by series that one can follow."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from usepcli.engine.training import choice
from usepcli.engine.training.average import BestStates
from usepcli.weights.store import Card


def items(*values: float) -> dict[str, float]:
    return {f"pair{i}": value for i, value in enumerate(values)}


def mean(held: dict[str, float]) -> float:
    return sum(held.values()) / len(held)


def kept(folder: Path, series: list[dict[str, float]], keep: int = 2, average: int = 1) -> BestStates:
    """Return the states after validations at steps 1, 2, ... of which each scored these items."""
    best = BestStates(folder, keep, average)
    for step, held in enumerate(series, 1):
        best.offer(mean(held), step, {"w": torch.tensor([float(step)])}, Card(), held)
    return best


def test_the_gap_is_a_students_t_interval_of_paired_differences() -> None:
    # Differences 1, 2, 3: mean 2, standard error 1 / sqrt(3), t(2, 0.975) = 4.3027.
    found = choice.gap(items(2, 4, 6), items(1, 2, 3))
    assert found.mean == pytest.approx(2) and found.ci95_low == pytest.approx(2 - 4.3027 / math.sqrt(3), abs=1e-4)
    assert choice.undecided(items(0.2, 0.4, 0.6), items(0.1, 0.2, 0.3))
    assert not choice.undecided(items(0.2, 0.4, 0.6), items(0.01, 0.2, 0.4))
    # The interval of three pairs that fall apart by 2 dB reaches zero, too, and would hold a collapse.
    assert not choice.undecided(items(2, 4, 6), items(1, 2, 3))
    # What both vary by from pair to pair says nothing of their difference.
    assert not choice.undecided(items(20.1, -39.9, 0.11, 7.1), items(20.0, -40.0, 0.0, 7.0))


@pytest.mark.parametrize(
    ("best", "other"), [({}, {}), (items(3), items(1)), (items(1, 2), {}), (items(1, 2), items(0))]
)
def test_fewer_than_two_common_pairs_leave_the_choice_to_the_score(best, other) -> None:
    assert not choice.undecided(best, other)


def test_of_weights_that_pairs_cannot_tell_apart_the_latest_are_kept(tmp_path: Path) -> None:
    # Step 1 is highest by luck in one pair; 4 is as good for all that can be told, 5 is plainly worse in every pair.
    series = [items(6, 1, 1, 1), items(1, 1, 1, 0), items(2, 2, 2, 1), items(2, 2, 2, 2), items(-3, -3, -3, -3)]
    best = kept(tmp_path, series)
    assert best.top == (2.25, 1)
    assert best.scores[0] == (2.0, 4)
    assert best.mean()["w"].item() == 4
    for _ in range(2):  # a file stands until neither of the run's two saved states names it
        best.saved()
    names = sorted(path.name for path in (tmp_path / "best").iterdir())
    assert names == [f"step{step:08d}.safetensors" for step in sorted(step for _, step in best.scores)]


def test_a_plain_rise_and_a_plain_fall_choose_as_the_score_does(tmp_path: Path) -> None:
    rise = [items(*(level + 0.01 * i for i in range(5))) for level in (1.0, 2.0, 3.0)]
    assert kept(tmp_path / "rise", rise).scores == [(pytest.approx(3.02), 3), (pytest.approx(2.02), 2)]
    # The collapse of a teacher that follows too fast: every pair falls.
    assert kept(tmp_path / "fall", rise[::-1]).scores[0] == (pytest.approx(3.02), 1)


def test_without_items_the_highest_score_is_first_and_the_later_of_equals(tmp_path: Path) -> None:
    best = BestStates(tmp_path, 3, 1)
    for step, score in enumerate((1.0, 5.0, 2.0, 5.0, -math.inf), 1):
        best.offer(score, step, {"w": torch.tensor([score])}, Card())
    assert best.scores == [(5.0, 4), (5.0, 2), (2.0, 3)]


@pytest.mark.parametrize("keep", [1, 3, 50])
def test_the_choice_is_one_of_all_validations_however_few_are_kept_and_wherever_it_stops(
    tmp_path: Path, keep: int
) -> None:
    draw = np.random.default_rng(1)
    levels = 2 - 2 * np.exp(-np.arange(24) / 6) - 0.02 * np.arange(24)
    pairs = draw.normal(0, 3, 12)
    series = [items(*(level + pairs + draw.normal(0, 0.8, 12))) for level in levels]
    whole = kept(tmp_path / "whole", series, keep)
    # By the definition, over the whole history at once.
    means = [mean(held) for held in series]
    top = max(range(24), key=lambda i: (means[i], i))
    equal = [i for i in range(24) if i == top or choice.undecided(series[top], series[i])]
    assert whole.scores[0] == (means[equal[-1]], equal[-1] + 1) and len(equal) > 1
    # Stopped after every validation, its state written and read.
    parts = BestStates(tmp_path / "parts", keep, 1)
    for step, held in enumerate(series, 1):
        again = BestStates(tmp_path / "parts", keep, 1)
        again.load(parts.state())
        parts = again
        parts.offer(mean(held), step, {"w": torch.tensor([float(step)])}, Card(), held)
    assert parts.state() == whole.state()


def test_the_state_of_an_earlier_version_has_scores_alone(tmp_path: Path) -> None:
    best = BestStates(tmp_path, 2, 1)
    best.load({"best_states": [[3.0, 10], [2.0, 20]]})
    assert best.top == (3.0, 10)
    best.offer(2.9, 30, {"w": torch.zeros(1)}, Card(), items(2.8, 3.0))
    # Nothing to compare pair by pair: the score decides.
    assert best.scores == [(3.0, 10), (2.9, 30)]
