"""What profiles name by paths of the user's is not there when they are tried."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from usepcli import registry
from usepcli.encoders.prompts import Context

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folders_of_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a profile names by a path of the user's, an encoder or a judge, is made without it."""
    monkeypatch.syspath_prepend(ROOT / "tests")
    for table, stand_in in ((registry.CONDITIONERS, "Words"), (registry.JUDGES, "Ear")):
        for name in table:
            monkeypatch.setitem(table, name, f"parts.unopened:{stand_in}")
    monkeypatch.setattr("usepcli.objectives.weak_sup.phrases_of", lambda path: ("a dog", "rain"))
    monkeypatch.setattr("usepcli.encoders.prompts.context_of", lambda path: Context(torch.zeros(4, 16), "0" * 64))
