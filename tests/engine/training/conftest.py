"""Trainings of tests draw no curves: matplotlib would take as long as the steps. tests/test_readme.py sees some."""

from __future__ import annotations

import pytest

from usepcli.errors import MissingDependency
from usepcli.report import plots


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object) -> None:
        raise MissingDependency("matplotlib: not wanted here")

    monkeypatch.setattr(plots, "learning_curve", absent)
