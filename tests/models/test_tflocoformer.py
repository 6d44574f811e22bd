from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from usepcli.errors import ConfigError
from usepcli.models import mapped
from usepcli.models.attention import turned
from usepcli.models.tflocoformer import ConvSwiGLU, GroupRms, Path, RotaryAttention, TFLocoformer


# The makers' class counts 32 more: two tables of angles, which no training changes.
@pytest.mark.parametrize(("preset", "size"), [
    ("paper_s", 5_031_012), ("paper", 14_975_620), ("paper_l", 22_459_780), ("small", 431_140),
])  # fmt: skip
def test_sizes(preset, size):
    with torch.device("meta"):
        assert TFLocoformer(**TFLocoformer.PRESETS[preset]).n_params == size


def test_arithmetic_of_a_size():
    # 501 frames in two seconds of 33 bins; a path multiplies each with its convolutions, in which kernel - 1 zeros go
    # with every sequence, and its four square matrices, and attends to all other bins, or frames.
    dim, hidden, kernel, frames, bins = 16, 16, 4, 501, 33
    inside = 2 * 3 * kernel * dim * hidden
    across = frames * ((bins + kernel - 1) * inside + bins * (4 * dim * dim + 2 * dim * bins))
    along = bins * ((frames + kernel - 1) * inside + frames * (4 * dim * dim + 2 * dim * frames))
    around = frames * bins * 9 * dim * (2 + 4)
    got = TFLocoformer(**TFLocoformer.PRESETS["tiny"]).flops_per_second()
    assert got == 2 * (across + along + around) / 2


@pytest.mark.parametrize(("kernel", "steps"), [(1, 5), (3, 1), (4, 2), (4, 9)])
def test_one_product_is_a_convolution_and_its_transpose(kernel, steps):
    layer, x = ConvSwiGLU(5, 7, kernel).double(), torch.randn(3, steps, 5, dtype=torch.float64)
    wide = F.conv1d(F.pad(x.mT, (kernel - 1, kernel - 1)), layer.weight_in.permute(2, 1, 0), layer.bias_in)
    gated = wide[:, :7] * F.silu(wide[:, 7:])
    want = F.conv_transpose1d(gated, layer.weight_out.permute(0, 2, 1), layer.bias_out)
    torch.testing.assert_close(layer(x), want[..., kernel - 1 : kernel - 1 + steps].mT)


def test_attention_sees_distances_alone():
    torch.manual_seed(0)
    layer = RotaryAttention(8, 2)
    q, k = torch.randn(2, 1, 4).double().expand(2, 30, 4)
    scores = turned(q, layer.turns) @ turned(k, layer.turns).mT
    torch.testing.assert_close(scores[5:, 5:], scores[:-5, :-5], atol=1e-4, rtol=0)
    assert (scores[0, 1] - scores[0, 0]).abs() > 1e-3
    # Pairs lie side by side; the first turns by one radian a step.
    found = turned(torch.tensor([[1.0, 0.0, 1.0, 0.0]]).expand(3, 4), layer.turns)
    want = torch.tensor([2.0, 0.02])
    torch.testing.assert_close(found[2, ::2], want.cos())
    torch.testing.assert_close(found[2, 1::2], want.sin())


def test_attention_against_its_formula():
    layer, x = RotaryAttention(8, 2), torch.randn(1, 6, 8)
    q, k, v = (part.view(6, 2, 4).transpose(0, 1) for part in layer.qkv(x)[0].split(8, -1))
    weights = (turned(q, layer.turns) @ turned(k, layer.turns).mT / 2).softmax(-1)
    torch.testing.assert_close(layer(x)[0], layer.out((weights @ v).transpose(0, 1).flatten(1)))


def test_groups_have_one_level():
    norm, x = GroupRms(6, 2, eps=0.0), torch.randn(4, 6)
    with torch.no_grad():
        norm.weight.copy_(torch.arange(6.0))
    want = torch.cat([half / half.square().mean(-1, keepdim=True).sqrt() for half in x.split(3, -1)], -1)
    torch.testing.assert_close(norm(x), want * torch.arange(6.0))


@torch.no_grad()
def test_sequences_know_nothing_of_each_other():
    path, x = Path(8, 6, 4, 2, 2), torch.randn(5, 7, 8)
    other = x.clone()
    other[2] += 1
    rest = [0, 1, 3, 4]
    torch.testing.assert_close(path(other)[rest], path(x)[rest])
    assert not torch.allclose(path(other)[2], path(x)[2])


def test_slabs_change_nothing(monkeypatch):
    torch.manual_seed(0)
    model, mix = TFLocoformer(**TFLocoformer.PRESETS["tiny"]).eval(), torch.randn(2, 3001)
    want = model(mix).detach()
    monkeypatch.setattr(mapped, "_STEPS", 200)
    with torch.no_grad():
        torch.testing.assert_close(model(mix), want, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("key", "value"), [
    ("dim", 20), ("dim", 0), ("heads", 0), ("layers", 0), ("hidden", 0), ("kernel", 0), ("groups", 0),
    ("hop", 40), ("causal", True),
])  # fmt: skip
def test_wrong_settings(key, value):
    with pytest.raises(ConfigError, match=rf"model\.{key}"):
        TFLocoformer(**{**TFLocoformer.PRESETS["tiny"], "groups": 8, key: value})


def test_heads_may_be_wider_than_the_features():
    layer, x = RotaryAttention(6, 2, 8), torch.randn(1, 5, 6)
    assert layer.qkv.weight.shape == (24, 6) and layer(x).shape == x.shape
    with pytest.raises(ConfigError, match=r"model\.width: found 6"):
        TFLocoformer(**{**TFLocoformer.PRESETS["tiny"], "width": 6})
