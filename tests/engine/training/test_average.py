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
    best.saved()
    best.saved()
    assert _kept(tmp_path) == [1, 2, 3]
    assert best.mean()["w"].item() == 4.5
    assert not best.offer(5.0, 1, {"w": torch.tensor([5.0])}, Card())


def _kept(folder: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("step")) for path in (folder / "best").iterdir())


def test_best_states_stand_as_long_as_one_of_the_two_saved_states_names_them(tmp_path: Path) -> None:
    best = BestStates(tmp_path, keep=1, average=1)
    best.offer(1.0, 1, {"w": torch.ones(1)}, Card())
    best.saved()
    best.offer(2.0, 2, {"w": torch.ones(1)}, Card())
    assert _kept(tmp_path) == [1, 2]  # no state on the disk names the second yet
    best.saved()
    assert _kept(tmp_path) == [1, 2]  # the state before names the first
    best.saved()
    assert _kept(tmp_path) == [2]


def test_best_states_whose_files_are_gone_or_damaged_are_left_out_and_named(tmp_path: Path) -> None:
    best = BestStates(tmp_path, keep=3, average=3)
    for step in (1, 2, 3):
        best.offer(float(step), step, {"w": torch.full((1,), float(step))}, Card())
    best.path(1).unlink()
    raw = bytearray(best.path(3).read_bytes())
    raw[-1] ^= 1
    best.path(3).write_bytes(raw)
    said = best.lost()
    assert [s for _, s in best.scores] == [2] and best.mean()["w"].item() == 2.0
    assert len(said) == 2 and all(best.path(n).name in line for n, line in zip((3, 1), said, strict=True))
