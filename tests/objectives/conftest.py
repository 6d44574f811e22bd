"""A separator small enough to train in a test, and batches for it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from usepcli import registry
from usepcli.data.batch import Batch
from usepcli.models.queried import QueriedModel
from usepcli.models.separator import SeparationModel


class Filters(SeparationModel):
    """One short filter per output."""

    def __init__(self, n_src: int = 2) -> None:
        super().__init__(n_src=n_src, sample_rate=8000, hop=1)
        self.taps = nn.Conv1d(1, n_src, 9, padding=4)

    def estimate(self, mix: Tensor) -> Tensor:
        """Return the mixture (B, T) through every filter, (B, N, T)."""
        return self.taps(mix[:, None])


@pytest.fixture
def make_model() -> Callable[[int], SeparationModel]:
    """Builds a tiny separator with a number of outputs, always with the same weights."""

    def make(n_src: int) -> SeparationModel:
        torch.manual_seed(7)
        return Filters(n_src)

    return make


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """Builds a batch of size B with K references of T samples."""

    def make(size: int = 4, n_ref: int = 2, length: int = 400, seed: int = 0) -> Batch:
        sources = torch.randn(size, n_ref, length, generator=torch.Generator().manual_seed(seed))
        return Batch(sources.sum(1), sources, [str(i) for i in range(size)])

    return make


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Make the modules of tests/parts importable, and a judge of theirs known by the name 'ear'."""
    monkeypatch.syspath_prepend(root / "tests")
    monkeypatch.setitem(registry.JUDGES, "ear", "parts.unopened:Ear")


@pytest.fixture
def constant(parts: None) -> type[QueriedModel]:
    """The network by query whose mask for a phrase is the number that its last word says."""
    found: type[QueriedModel] = importlib.import_module("parts.constant_masks").Constant
    return found
