from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from usepcli.errors import ConfigError
from usepcli.models.hdemucs import HDemucs
from usepcli.models.hybrid_parts import Grow, Level
from usepcli.models.nearby import HEADS, Nearby, Windowed


def tiny(**options: object) -> HDemucs:
    torch.manual_seed(0)
    return HDemucs(**{**HDemucs.PRESETS["tiny"], **options}).eval()


def test_published_size():
    with torch.device("meta"):
        model = HDemucs(**HDemucs.PRESETS["published"])
        assert model.n_params == 83_637_832  # the makers' class with its own defaults has as many
        assert model.stems == ("drums", "bass", "other", "vocals") and model.segment_s == 44
        assert 1_000_000 < HDemucs(**HDemucs.PRESETS["small"]).n_params < 10_000_000


def test_every_weight_has_its_part():
    """Nothing that is learned stands beside the way from the mixture to the stems."""
    model, mix = tiny(), torch.randn(1, 2, 1000)
    (model(mix) * torch.randn(1, 4, 2, 1000)).sum().backward()
    assert not [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 199, 200, 201, 300, 301, 777])
def test_windows_give_their_middles(length: int):
    torch.manual_seed(0)
    layer, x = Windowed(3).eval(), torch.randn(2, 3, length)
    if length <= 200:
        want = layer.out(layer.rnn(x.mT)).mT
    else:
        want = torch.zeros(2, 3, length)
        for start in range(0, length, 100):
            piece = F.pad(x[..., start : start + 200], (0, 200 - len(range(start, min(start + 200, length)))))
            found = layer.out(layer.rnn(piece.mT)).mT
            low, high = (0 if start == 0 else 50), (200 if start + 100 >= length else 150)
            last = min(start + high, length)
            want[..., start + low : last] = found[..., low : last - start]
    torch.testing.assert_close(layer(x), x + want, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_attention_by_its_sum():
    torch.manual_seed(0)
    dim, steps = 8, 5
    layer, x = Nearby(dim).eval(), torch.randn(1, dim, steps)
    layer.fade.weight *= 100
    q, k, v = layer.asked(x[0].T).chunk(3, 1)
    rates = torch.sigmoid(layer.fade(x[0].T))
    size = dim // HEADS
    heard = torch.zeros(steps, dim)
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        for s in range(steps):
            fade = sum((f + 1) * rates[s, 4 * head + f] / 4 for f in range(4))
            others = [t for t in range(steps) if t != s]
            scores = torch.stack([q[s, part] @ k[t, part] / size**0.5 - abs(t - s) * fade for t in others])
            heard[s, part] = torch.softmax(scores, 0) @ v[others][:, part]
    torch.testing.assert_close(layer(x)[0], x[0] + layer.out(heard).T, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_norm_hears_what_is_cut_off():
    torch.manual_seed(0)
    layer, y = Grow(3, 4, Level(4, 2, False, 1, 0, groups=2), last=True), torch.randn(1, 3, 6)
    whole = F.group_norm(F.conv_transpose1d(y, layer.conv.weight, layer.conv.bias, 4), 2)
    torch.testing.assert_close(layer.grow(y, 21), whole[..., 2:23])
    tall = Grow(3, 4, Level(4, 2, True, 1, 0, groups=2), last=True)
    assert tall.grow(torch.randn(1, 3, 6, 7), 7).shape == (1, 4, 24, 7)


@pytest.mark.parametrize(
    ("key", "value"),
    [("stems", ("a", "b")), ("n_fft", 60), ("n_fft", 1024), ("n_fft", 4), ("stride", 3), ("compress", 9),
     ("groups", 3), ("branched", "sideways"), ("segment_s", 0.5), ("bag", 0), ("depth", 0), ("norm_from", -1),
     ("weights", [[1.0, 1.0]])],
)  # fmt: skip
def test_wrong_settings(key: str, value: object):
    with pytest.raises(ConfigError, match=rf"model\.{key}"):
        tiny(**{key: value})


def test_branches_too_narrow_for_their_heads():
    with pytest.raises(ConfigError, match=r"model\.compress: 8 leaves 2 features .* multiple of 4"):
        tiny(compress=8)


def test_it_is_not_causal():
    with pytest.raises(ConfigError, match=r"model\.causal.*convtasnet"):
        tiny(causal=True, input_norm="none")


def test_no_segment_takes_gigabytes_of_attention():
    with pytest.raises(ConfigError, match=r"model\.segment_s: 300000 frames of a segment .* at most 11585"):
        tiny(segment_s=600.0)
