"""Averages of weights by their arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from usepcli.engine.training.average import BestStates, MovingAverage, mean_state
from usepcli.weights.store import Card


def test_moving_average_forgets_the_start_first_and_then_decays() -> None:
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(module.weight)
    average = MovingAverage(module, 0.5)
    torch.nn.init.ones_(module.weight)
    average.update(module)  # decay 2/11
    assert average.state["weight"].item() == pytest.approx(1 - 2 / 11)
    for _ in range(20):
        average.update(module)
    before = average.state["weight"].item()
    torch.nn.init.zeros_(module.weight)
    average.update(module)
    assert average.state["weight"].item() == pytest.approx(0.5 * before)


def test_mean_state_is_the_arithmetic_mean_and_keeps_types() -> None:
    states = [{"w": torch.tensor([x], dtype=torch.float32), "n": torch.tensor(7)} for x in (1.0, 2.0, 6.0)]
    mean = mean_state(states)
    assert mean["w"].item() == 3.0 and mean["w"].dtype == torch.float32
    assert mean["n"].item() == 7


def test_best_states_keeps_the_best_and_averages_the_top(tmp_path: Path) -> None:
    best = BestStates(tmp_path, keep=3, average=2)
    for step, score in enumerate([1.0, 5.0, 2.0, 4.0, 0.0]):
        kept = best.offer(score, step, {"w": torch.tensor([score])}, Card())
        assert kept == (score > 0)
    assert [s for s, _ in best.scores] == [5.0, 4.0, 2.0]
    assert sorted(p.name for p in (tmp_path / "best").iterdir()) == [f"step{n:08d}.safetensors" for n in (1, 2, 3)]
    assert best.mean()["w"].item() == 4.5
    assert not best.offer(5.0, 1, {"w": torch.tensor([5.0])}, Card())
