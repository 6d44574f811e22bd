from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from usepcli.errors import ConfigError
from usepcli.models import tfgridnet
from usepcli.models.tfgridnet import Block, FrameAttention, FrameViews, Path, TFGridNet


# 14.4 million in the papers; the small size as its authors' configuration with three outputs counts it.
@pytest.mark.parametrize(("preset", "n_src", "size"), [("paper", 2, 14_398_162), ("small", 3, 2_316_842)])
def test_sizes(preset, n_src, size):
    with torch.device("meta"):
        assert TFGridNet(**{**TFGridNet.PRESETS[preset], "n_src": n_src}).n_params == size


@pytest.mark.parametrize(("kernel", "stride", "count"), [(4, 1, 9), (4, 4, 3), (3, 2, 1), (1, 1, 5), (5, 3, 4)])
def test_a_path_unfolds_and_adds_up(kernel, stride, count):
    torch.manual_seed(0)
    path, steps = Path(3, 5, kernel, stride), kernel + (count - 1) * stride
    x = torch.randn(2, steps, 3)
    near = path.norm(x).unfold(1, kernel, stride).transpose(2, 3).flatten(2)  # (S, count, kernel C)
    y = path.lstm(near)[0]
    want = F.conv_transpose1d(y.mT, path.weight.permute(0, 2, 1), stride=stride).mT
    bias = path.bias.repeat(count, 1) if kernel == stride else path.bias
    torch.testing.assert_close(path(x), x + want + bias, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("kernel", "stride"), [(4, 1), (4, 4), (3, 2), (5, 3), (1, 1)])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 8])
def test_neighbourhoods_cover_every_step_alike(kernel, stride, steps):
    block = Block(4, 2, kernel, stride, 2, steps, 1, margins=True)
    before, after = kernel - stride, block._after(steps)
    whole = before + steps + after
    assert (whole - kernel) % stride == 0 and after - before in range(stride) and whole >= kernel
    assert block(torch.randn(1, 3, steps, 4)).shape == (1, 3, steps, 4)


@pytest.mark.parametrize(
    ("kernel", "stride", "steps", "want"), [(4, 1, 9, 9), (3, 2, 8, 9), (4, 4, 9, 12), (4, 1, 2, 4)]
)
def test_without_margins_zeros_fill_the_last_neighbourhood_alone(kernel, stride, steps, want):
    block = Block(4, 2, kernel, stride, 2, steps, 1, margins=False)
    assert steps + block._after(steps) == want
    x = torch.randn(1, steps, steps, 4)
    assert block(x).shape == x.shape


def test_views_are_normalised_as_wholes_of_a_frame():
    torch.manual_seed(0)
    views, x = FrameViews(4, 2, 5, 3), torch.randn(2, 6, 5, 4)
    got = views(x)
    assert got.shape == (2, 2, 6, 15)
    torch.testing.assert_close(got.mean(-1), torch.zeros(2, 2, 6), atol=1e-6, rtol=0)
    head = F.prelu(views.point(x)[..., 3:], torch.tensor([0.25])).flatten(2)  # (B, L, 15)
    torch.testing.assert_close(got[:, 1], F.layer_norm(head, (15,)), atol=1e-6, rtol=1e-5)


def test_frames_ask_as_wholes(monkeypatch):
    torch.manual_seed(0)
    layer, x = FrameAttention(4, 2, 5, 3), torch.randn(1, 11, 5, 4)
    q, k, v = layer.queries(x), layer.keys(x), layer.values(x)
    heard = (q @ k.mT / 15**0.5).softmax(-1) @ v  # (1, 2, 11, 5 * 2)
    want = layer.out(torch.cat([heard[:, h].unflatten(-1, (5, 2)) for h in range(2)], -1))
    torch.testing.assert_close(layer(x), want)
    # Rows that ask by turns get the same answers.
    monkeypatch.setattr(tfgridnet, "_ASKING", 4)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), want)


@torch.no_grad()
def test_a_bin_hears_its_own_frames_without_attention():
    torch.manual_seed(0)
    block, x = Block(4, 3, 1, 1, 2, 6, 1, margins=True), torch.randn(1, 9, 6, 4)
    along = block.along(x[0].transpose(0, 1))
    other = x.clone()
    other[:, :, 2] += 1
    moved = (block.along(other[0].transpose(0, 1)) - along).abs().amax((1, 2)) > 0
    assert moved.tolist() == [False, False, True, False, False, False]
    # Attention carries a change to every frame and bin.
    assert ((block(other) - block(x)).abs().amax(-1) > 0).all()


@pytest.mark.parametrize(("key", "value"), [
    ("dim", 9), ("dim", 0), ("heads", 0), ("layers", 0), ("hidden", 0), ("kernel", 2), ("stride", 0), ("keys", 0),
    ("hop", 40), ("causal", True),
])  # fmt: skip
def test_wrong_settings(key, value):
    with pytest.raises(ConfigError, match=rf"model\.{key}"):
        TFGridNet(**{**TFGridNet.PRESETS["tiny"], "stride": 3, key: value})
