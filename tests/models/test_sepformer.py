from __future__ import annotations

import pytest
import torch
from torch import nn

from usepcli.errors import ConfigError
from usepcli.models import transformer
from usepcli.models.sepformer import SepFormer
from usepcli.models.transformer import EPS, TransformerStack, positions


# 26 million in the paper; speechbrain 1.0.3 counts the same for its recipe of two talkers.
def test_published_size():
    with torch.device("meta"):
        assert SepFormer().n_params == 25_679_361
        assert 100_000 < SepFormer(**SepFormer.PRESETS["small"]).n_params < 1_000_000


def test_arithmetic_of_the_published_size():
    # 8 kHz, hop 8: 1000 frames a second, each in two chunks; 2 x 2 stacks of 8 layers, in which a step costs the
    # products of 4 dim^2 and 2 dim ffn weights; attention within 250 frames adds 2 x 250 x 256 to half of them.
    step = 2 * (4 * 256**2 + 2 * 256 * 1024)
    stacks = 2 * 1000 * (4 * 8 * step + 2 * 8 * 2 * 2 * 250 * 256)
    with torch.device("meta"):
        got = SepFormer().flops_per_second()
    assert stacks < got < 1.2 * stacks


def tiny(**options):
    torch.manual_seed(0)
    return SepFormer(**{**SepFormer.PRESETS["tiny"], **options}).eval()


@pytest.mark.parametrize("chunk", [2, 12, 14])
@pytest.mark.parametrize("frames", [1, 6, 12, 18, 41])
def test_every_frame_lies_in_two_of_an_even_number_of_chunks(chunk, frames):
    model, x = tiny(chunk=chunk), torch.randn(2, frames, 16)
    chunks = model._cut(x)
    assert chunks.shape[2] == chunk and chunks.shape[1] % 2 == 0
    torch.testing.assert_close(model._join(chunks, frames), 2 * x)


def test_chunks_lie_in_the_order_of_time():
    # Six frames fill three halves of two: one zero at least follows them, up to whole chunks.
    frames = torch.arange(1.0, 7.0)[None, :, None]
    want = [[0, 0, 1, 2], [1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert tiny(chunk=4)._cut(frames)[0, :, :, 0].tolist() == want


def test_positions_are_sines_and_cosines_in_turn():
    found = positions(50, 6, torch.device("cpu")).double()
    t = torch.arange(50, dtype=torch.float64)
    for i in range(3):
        angle = t * 10000 ** (-2 * i / 6)
        # An angle of at most 50 in float32 is off by 50 eps.
        torch.testing.assert_close(found[:, 2 * i], angle.sin(), atol=1e-5, rtol=0)
        torch.testing.assert_close(found[:, 2 * i + 1], angle.cos(), atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_stack_is_that_of_torch():
    torch.manual_seed(0)
    ours = TransformerStack(16, 4, 24, 3)
    layer = nn.TransformerEncoderLayer(16, 4, 24, 0.0, batch_first=True, norm_first=True, layer_norm_eps=EPS)
    theirs = nn.TransformerEncoder(layer, 3, nn.LayerNorm(16, EPS), enable_nested_tensor=False)
    for mine, its in zip(ours.layers, theirs.layers, strict=True):
        its.self_attn.in_proj_weight.copy_(mine.qkv.weight)
        its.self_attn.in_proj_bias.copy_(mine.qkv.bias.normal_())
        for to, source in (
            (its.self_attn.out_proj, mine.out), (its.linear1, mine.wide), (its.linear2, mine.narrow),
            (its.norm1, mine.first), (its.norm2, mine.second),
        ):  # fmt: skip
            to.load_state_dict({"weight": source.weight.normal_(), "bias": source.bias.normal_()})
    x = torch.randn(5, 9, 16)
    want = theirs(x + positions(9, 16, x.device))
    torch.testing.assert_close(ours(x), want, atol=1e-4, rtol=1e-4)


def test_slabs_are_the_whole(monkeypatch):
    torch.manual_seed(0)
    stack, x = TransformerStack(16, 2, 32, 2), torch.randn(11, 6, 16)
    want = stack(x)  # with gradients: all sequences at once
    for steps in (1, 6, 13, 30, 1000):
        monkeypatch.setattr(transformer, "_SLAB_STEPS", steps)
        with torch.no_grad():
            torch.testing.assert_close(stack(x), want, atol=1e-5, rtol=0)


def test_dropout_acts_in_training_alone():
    model, mix = tiny(dropout=0.5), torch.randn(1, 600)
    assert torch.equal(model(mix), tiny()(mix))
    model.train()
    assert not torch.allclose(model(mix), model(mix))


@pytest.mark.parametrize(
    ("key", "value"),
    [("mask", "exp"), ("chunk", 13), ("chunk", 0), ("dim", 15), ("heads", 3), ("heads", 0), ("dropout", 1.0),
     ("kernel", 7), ("stride", 9), ("padding", "start"), ("activation", "elu")],
)  # fmt: skip
def test_wrong_settings(key, value):
    with pytest.raises(ConfigError, match=rf"model\.({key}|dim)"):
        tiny(**{key: value})


def test_it_is_not_causal():
    with pytest.raises(ConfigError, match=r"model\.causal.*convtasnet"):
        tiny(causal=True, input_norm="none", consistency="none")
