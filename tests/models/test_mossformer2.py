from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from usepcli.errors import ConfigError
from usepcli.models.attention import turned
from usepcli.models.cost import flops_per_second
from usepcli.models.mossformer2 import Filter, FilterNorm, GatedAttention, Memory, MossFormer2, UnitLength


# 55.7 million in the paper; clearvoice 0.1.2 counts 16 more, a table of angles.
@pytest.mark.parametrize(("preset", "size"), [("paper", 55_735_394), ("small", 734_554)])
def test_sizes(preset, size):
    with torch.device("meta"):
        assert MossFormer2(**MossFormer2.PRESETS[preset]).n_params == size


@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("frames", [1, 2, 5, 30])
def test_a_filter_is_a_depthwise_convolution(dilation, frames):
    layer, x = Filter(4, 7, dilation).double(), torch.randn(2, frames, 4, dtype=torch.float64)
    want = F.conv1d(x.mT, layer.weight[:, None], None, 1, 3 * dilation, dilation, 4).mT
    torch.testing.assert_close(layer(x), want)


def test_the_second_filters_take_channels_in_pairs():
    memory = FilterNorm(4, 2, 3, 2)
    both = torch.randn(1, 9, 8)
    grouped = torch.stack([f.weight for f in memory.filters], 1)  # (C, 2, kernel)
    y = F.conv1d(both.mT, grouped, None, 1, 2, 2, 4)
    want = F.prelu(F.instance_norm(y), memory.slope).mT
    torch.testing.assert_close(memory(both[..., ::2], both[..., 1::2]), want, atol=1e-5, rtol=1e-5)


def test_frames_have_one_length():
    norm, x = UnitLength(), torch.randn(3, 5)
    torch.testing.assert_close(norm(x).square().mean(-1), torch.ones(3))
    assert norm(torch.zeros(1, 5)).abs().max() == 0


@pytest.mark.parametrize("frames", [1, 6, 7, 19])
def test_attention_against_its_formula(frames):
    torch.manual_seed(0)
    layer = GatedAttention(4, 8, 6, 3, 0.0).double().eval()
    with torch.no_grad():
        layer.gain.mul_(50)
    asking, said = torch.randn(1, frames, 8).double(), torch.randn(1, frames, 16).double()
    q1, q2, k1, k2 = (
        torch.cat([turned(x[:, :2], layer.turns), x[:, 2:]], -1)
        for x in (asking[0] * layer.gain[i] + layer.offset[i] for i in range(4))
    )
    group = torch.arange(frames) // 6
    near = torch.relu(q1 @ k1.mT / 6) ** 2 * (group[:, None] == group)
    want = (near + q2 @ k2.mT / frames) @ said[0]
    torch.testing.assert_close(layer._hear(asking, said)[0], want, atol=1e-4, rtol=1e-4)  # turned in float32


def test_half_the_channels_come_a_frame_late():
    torch.manual_seed(0)
    layer = GatedAttention(4, 8, 6, 1, 0.0)
    seen = []
    layer.hidden.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    x = torch.randn(1, 5, 4)
    layer(x)
    assert torch.equal(seen[0][0, 1:, :2], x[0, :-1, :2]) and torch.equal(seen[0][..., 2:], x[..., 2:])
    assert seen[0][0, 0, :2].abs().max() == 0


def test_memory_is_residual():
    layer, x = Memory(4, 3, 3, 5, 0.0), torch.randn(1, 6, 4)
    torch.nn.init.zeros_(layer.out[1].weight)
    torch.testing.assert_close(layer(x), x + layer.out[1].bias)


def test_operations_grow_with_the_length():
    model = MossFormer2(**MossFormer2.PRESETS["tiny"])
    assert flops_per_second(model, 8) == pytest.approx(flops_per_second(model, 2), rel=0.01)


@pytest.mark.parametrize(("key", "value"), [
    ("dim", 15), ("dim", 0), ("keys", 12), ("block_kernel", 4), ("memory", 6), ("memory", 0), ("layers", 0),
    ("filters", 0), ("group", 0), ("width", 0), ("mask", "half"), ("kernel", 15), ("causal", True),
])  # fmt: skip
def test_wrong_settings(key, value):
    with pytest.raises(ConfigError, match=rf"model\.{key}"):
        MossFormer2(**{**MossFormer2.PRESETS["tiny"], key: value})
