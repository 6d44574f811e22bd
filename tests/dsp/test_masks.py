"""Masks by name: their ranges, and where a network starts."""

from __future__ import annotations

import pytest
import torch

from usepcli.dsp import masks
from usepcli.errors import ConfigError

BOUNDS = {"sigmoid": (0, 1), "relu": (0, 9), "softmax": (0, 1), "tanh": (-1, 1), "linear": (-9, 9)}


@pytest.mark.parametrize("kind", masks.REAL)
def test_ranges(kind: str) -> None:
    scores = torch.linspace(-8, 8, 60).view(2, 3, 10)
    found = masks.masks_of(scores, kind)
    low, high = BOUNDS[kind]
    assert found.shape == scores.shape and found.min() >= low and found.max() <= high


@pytest.mark.parametrize("axis", [1, 2])
def test_softmax_shares_add_up_over_the_sources(axis: int) -> None:
    found = masks.masks_of(torch.randn(2, 3, 4), "softmax", axis=axis)
    torch.testing.assert_close(found.sum(axis), torch.ones_like(found.sum(axis)))


def test_a_complex_mask_reaches_to_its_scale() -> None:
    found = masks.masks_of(torch.tensor([[40.0, -40.0]]), "tanh_complex", 1.5)
    assert found.tolist() == [1.5 - 1.5j]


@pytest.mark.parametrize("kind", masks.KINDS)
@pytest.mark.parametrize("n_src", [2, 3])
def test_every_mask_but_the_sigmoid_starts_at_equal_shares(kind: str, n_src: int) -> None:
    start = torch.full((1, n_src, 1), masks.equal_score(kind, n_src, 1.5))
    if kind == "tanh_complex":
        start = torch.stack([start, torch.zeros_like(start)], -1)
    want = 0.5 if kind == "sigmoid" else 1 / n_src
    found = masks.masks_of(start, kind, 1.5)
    torch.testing.assert_close(found, torch.full_like(found, want))


def test_an_unknown_mask_is_named() -> None:
    with pytest.raises(ConfigError, match=r"model\.mask: unknown mask 'softmaxx' \(did you mean 'softmax'"):
        masks.check("softmaxx")
