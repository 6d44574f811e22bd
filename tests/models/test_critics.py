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


def told(judge, critic: critics.Critic, x: torch.Tensor, by_input: bool) -> list[torch.Tensor]:
    """Return what a critic says and the gradients of a sum of it, also at its input where that is asked for."""
    critic.zero_grad()
    x = x.clone().requires_grad_(by_input)
    said = judge(x)
    (said * torch.linspace(1, 2, len(said)).to(said).view(-1, *[1] * (said.dim() - 1))).sum().backward()
    grads = [p.grad.clone() for p in critic.body.parameters()]
    return [said.detach(), *grads, *([x.grad] if by_input else [])]


@pytest.mark.parametrize("length", [365, 366, 367, 1000])
@pytest.mark.parametrize("by_input", [True, False])
def test_waves_are_convolved_whatever_way_the_products_are_taken(length: int, by_input: bool) -> None:
    torch.manual_seed(0)
    critic, x = critics.wave(2, width=0.1).double(), torch.randn(3, 2, length, dtype=torch.float64)
    ours, theirs = (told(judge, critic, x, by_input) for judge in (critic._heard, critic.body))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("made", [critics.wave(1, width=0.1), critics.spec(1, width=0.1)])
@pytest.mark.parametrize("by_input", [True, False])
def test_silence_looked_at_once_counts_as_often_as_it_is_there(made, by_input: bool) -> None:
    torch.manual_seed(0)
    critic = made.double()
    x = torch.randn(5, 1, *[400] * critic.axes, dtype=torch.float64)
    x[[1, 2, 4]] = 0
    ours = told(critic, critic, x, by_input)
    theirs = told(lambda x: critic.body(x).flatten(1).mean(1), critic, x, by_input)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
