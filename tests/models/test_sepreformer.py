from __future__ import annotations

import pytest
import torch

from usepcli.errors import ConfigError
from usepcli.models.batch_norm import BatchNorm
from usepcli.models.sepreformer import SepReformer
from usepcli.models.sepreformer_parts import Among, Far, Split


def tiny(**options: object) -> SepReformer:
    torch.manual_seed(0)
    return SepReformer(**{**SepReformer.PRESETS["tiny"], **options}).eval()


def test_published_size():
    with torch.device("meta"):
        # 14.2 M and 55.3 M in the paper; without the heads that only a training asks.
        assert SepReformer(**SepReformer.PRESETS["base"]).n_params == 14_147_840
        assert SepReformer(**SepReformer.PRESETS["large"]).n_params == 55_222_016


def test_every_weight_has_its_part():
    model, mix = tiny(), torch.randn(1, 2000)
    (model(mix) * torch.randn(1, 2, 2000)).sum().backward()
    # A constant on all keys of an attention moves no softmax, so that a third of these biases has none.
    assert not [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]


@torch.no_grad()
def test_far_frames_by_hand():
    torch.manual_seed(0)
    layer, x, keys = Far(4, 2, 0.0).eval(), torch.randn(2, 6, 4), torch.randn(5, 2)
    layer.gain.normal_()
    layer.feed.gain.zero_()
    low = layer.norm(torch.stack([x[:, 2 * k : 2 * k + 2].mean(1) for k in range(3)], 1))
    heard = layer.gain * layer.attention(low, keys)
    want = torch.stack([x[:, t] + layer.gate(x[:, t]) * heard[:, t // 2] for t in range(6)], 1)
    torch.testing.assert_close(layer(x, keys), want)


@torch.no_grad()
def test_outputs_hear_each_other_frame_by_frame():
    torch.manual_seed(0)
    layer, x = Among(8, 2, 0.0).eval(), torch.randn(1, 3, 9, 8)
    layer.gain.fill_(1.0)
    layer.feed.gain.zero_()
    torch.testing.assert_close(layer(x[:, :, 4:5]), layer(x)[:, :, 4:5])
    torch.testing.assert_close(layer(x.flip(1)), layer(x).flip(1))
    other = x.clone()
    other[:, 0] = 0
    assert (layer(x) - layer(other))[:, 1].abs().max() > 1e-3


@torch.no_grad()
def test_a_split_norms_each_output():
    torch.manual_seed(0)
    found = Split(5, 3)(torch.randn(2, 1, 40, 5))
    assert found.shape == (2, 3, 40, 5)
    torch.testing.assert_close(found.mean((2, 3)), torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.var((2, 3), correction=0), torch.ones(2, 3), atol=1e-4, rtol=0)


def test_norm_over_the_batch_is_torchs_own():
    torch.manual_seed(0)
    ours, theirs = BatchNorm(3), torch.nn.BatchNorm1d(3)
    for _ in range(3):
        x = torch.randn(4, 3, 6)
        torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
    ours.train()
    assert ours(torch.randn(1, 3, 1)).isfinite().all()


@pytest.mark.parametrize(
    ("key", "value"),
    [("heads", 5), ("heads", 0), ("stages", 0), ("stages", 11), ("near", 8), ("taps", 4), ("dropout", 1.0),
     ("reach", 0), ("splits", "none"), ("stride", 100), ("dim", 0)],
)  # fmt: skip
def test_wrong_settings(key: str, value: object):
    with pytest.raises(ConfigError, match=rf"model\.{key}"):
        tiny(**{key: value})


def test_it_is_not_causal():
    with pytest.raises(ConfigError, match=r"model\.causal.*convtasnet"):
        tiny(causal=True, input_norm="none")
