"""Learning-rate schedules against their definitions."""

from __future__ import annotations

import math
from typing import Any

import pytest

from usepcli.engine.training.schedule import Schedule

BASE = {
    "name": "constant", "warmup_steps": 0, "hold_epochs": 0, "decay": 0.98, "every_epochs": 1, "min_lr": 0.0,
    "patience": 2, "factor": 0.5,
}  # fmt: skip


def made(lr: float = 1.0, total: int = 100, **options: Any) -> Schedule:
    return Schedule(lr, {**BASE, **options}, total)


def test_warm_up_is_linear_and_reaches_the_rate_at_its_last_step() -> None:
    schedule = made(warmup_steps=4)
    assert [schedule.at(s) for s in (1, 2, 4, 5)] == [0.25, 0.5, 1.0, 1.0]


def test_cosine_ends_at_min_lr() -> None:
    schedule = made(name="cosine", warmup_steps=10, min_lr=0.1, total=110)
    assert schedule.at(60) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2)))
    assert schedule.at(110) == pytest.approx(0.1)
    assert schedule.at(500) == pytest.approx(0.1)


def test_warmup_hold_decay_follows_the_published_recipe() -> None:
    # 2e-4, held for 100 epochs, x 0.98 every third epoch until 2e-5: 114 decays.
    schedule = made(lr=2e-4, name="warmup_hold_decay", hold_epochs=100, every_epochs=3, min_lr=2e-5)
    for epoch in range(100):
        schedule.epoch_end(epoch)
    assert schedule.at(1) == 2e-4
    for epoch in range(100, 103):
        schedule.epoch_end(epoch)
    assert schedule.at(1) == pytest.approx(2e-4 * 0.98)
    for epoch in range(103, 600):
        schedule.epoch_end(epoch)
    assert schedule.at(1) == pytest.approx(2e-4 * 0.98**114)
    assert 0.98 * 2e-5 < schedule.at(1) <= 2e-5


def test_plateau_waits_and_never_falls_below_min_lr() -> None:
    schedule = made(name="plateau", min_lr=0.3)
    for score in (1.0, 0.5, 0.9):
        schedule.validated(score)
    assert schedule.at(1) == 0.5
    for _ in range(4):
        schedule.validated(0.0)
    assert schedule.at(1) == pytest.approx(0.3)


def test_plateau_holds_for_as_many_epochs_as_told() -> None:
    schedule = made(name="plateau", hold_epochs=3, patience=2)
    rates = []
    for epoch in range(6):
        schedule.epoch_end(epoch)
        schedule.validated(-epoch)
        rates.append(schedule.at(1))
    # Epoch 0 is the best; 1 and 2 are held; 3 and 4 bring nothing, so that 5 runs at half the rate.
    assert rates == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]


def test_state_round_trip() -> None:
    first = made(name="plateau")
    for score in (1.0, 0.5):
        first.validated(score)
    second = made(name="plateau")
    second.load(first.state())
    first.validated(0.5)
    second.validated(0.5)
    assert first.at(1) == second.at(1) == 0.5
