"""Critics: their sizes, and the lengths that they take."""

from __future__ import annotations

import pytest
import torch

from usepcli.errors import BadInput
from usepcli.models import critics


def size(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("channels", "wave", "spec"), [(1, 923_189, 923_230), (4, 924_725, 926_302), (5, 925_237, 927_326)]
)
def test_sizes_for_ten_seconds(channels, wave, spec):
    assert size(critics.wave(channels, 160_000)) == wave
    assert size(critics.spec(channels, (256, 1250))) == spec
    # Without the linear layer over what is left of the length: 1971 samples, 2 x 14 cells, and its offset.
    assert size(critics.wave(channels)) == wave - 1972
    assert size(critics.spec(channels)) == spec - 29


def test_narrower_critics_have_fewer_channels():
    half = critics.wave(5, width=0.5)
    assert [layer.out_channels for layer in half.body if hasattr(layer, "out_channels")] == [64, 128, 128, 256, 1]
    assert [layer.out_channels for layer in critics.spec(1, width=1e-9).body[::2]] == [1, 1, 1, 1, 1]


def test_another_length_is_refused_or_pooled():
    fixed = critics.wave(1, 1000)
    assert fixed(torch.zeros(3, 1, 1000)).shape == (3,)
    with pytest.raises(BadInput, match=r"\(1000,\) was given \(999,\)"):
        fixed(torch.zeros(3, 1, 999))
    pooled = critics.wave(1)
    assert all(pooled(torch.zeros(3, 1, n)).shape == (3,) for n in (1, 363, 364, 365, 5000))


@pytest.mark.parametrize("made", [critics.wave(1), critics.spec(1)])
def test_the_shortest_length_leaves_something(made):
    least = made.shortest()
    assert made.left(least) == 1
    assert made.left(least - 1) < 1
