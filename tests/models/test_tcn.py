from __future__ import annotations

import pytest
import torch

from usepcli.models.tcn import (
    ChannelNorm,
    CumulativeNorm,
    GlobalNorm,
    ScalarNorm,
    ScaledDense,
    view_frames,
    view_samples,
)


def test_cumulative_norm_equals_the_global_norm_of_every_prefix():
    torch.manual_seed(0)
    x = 3 * torch.randn(2, 5, 40) + 100
    cumulative, whole = CumulativeNorm(5), GlobalNorm(5)
    for layer in (cumulative, whole):
        layer.weight.data = torch.arange(1.0, 6.0)
        layer.bias.data = torch.arange(5.0)
    got = cumulative(x)
    for stop in (1, 2, 17, 40):
        want = whole(x[..., :stop].double().float())[..., -1]
        torch.testing.assert_close(got[..., stop - 1], want, atol=2e-3, rtol=1e-3)


def test_cumulative_norm_keeps_precision_far_from_zero():
    x = torch.randn(1, 8, 5000) + 1000
    assert abs(CumulativeNorm(8)(x)[..., -1000:].std().item() - 1) < 0.05


@pytest.mark.parametrize(("groups", "dims"), [(None, (2,)), (1, (1, 2))])
def test_scalar_norm(groups, dims):
    x = 4 * torch.randn(2, 3, 50) + 7
    layer = ScalarNorm(groups, eps=1e-3)
    layer.weight.data.fill_(2.0)
    layer.bias.data.fill_(-1.0)
    mean, var = x.mean(dims, keepdim=True), x.var(dims, correction=0, keepdim=True)
    torch.testing.assert_close(layer(x), 2 * (x - mean) / (var + 1e-3).sqrt() - 1, atol=1e-4, rtol=1e-4)
    assert sum(p.numel() for p in layer.parameters()) == 2
    assert layer(x[:1, :, :1]).isfinite().all()


@pytest.mark.parametrize("bias", [True, False])
def test_scaled_dense_scales_its_output(bias):
    layer, x = ScaledDense(4, 6, scale=0.25, bias=bias), torch.randn(2, 4, 9)
    want = 0.25 * torch.nn.functional.conv1d(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), want)


def test_views():
    assert view_frames(3, 8, 3) == 1531 and view_frames(4, 8, 3) == 2041
    # One frame of 20 samples, 10 apart: a sample lies in two frames, which together span 30.
    assert view_samples(1, 20, 10) == 30


@pytest.mark.parametrize("shape", [(2, 5, 7), (2, 5, 3, 4)])
def test_channel_norm_sees_one_frame_at_a_time(shape):
    layer, x = ChannelNorm(5), 3 * torch.randn(shape) + 2
    got = layer(x)
    torch.testing.assert_close(got.mean(1), torch.zeros(got[:, 0].shape), atol=1e-5, rtol=0)
    torch.testing.assert_close(got.std(1, correction=0), torch.ones(got[:, 0].shape), atol=1e-4, rtol=0)
    other = x.clone()
    other[..., 2:] = torch.randn(x[..., 2:].shape)
    assert torch.equal(layer(other)[..., :2], got[..., :2])


def test_views_with_a_hop_that_does_not_divide_the_window():
    # 21 samples, 8 apart: frames that start at 0, 8, 16 hold one sample in common.
    assert view_samples(1, 21, 8) == 16 + 21


@torch.no_grad()
def test_the_cumulative_norm_goes_on_where_it_stopped():
    norm, x = CumulativeNorm(4), torch.randn(2, 4, 30) * 5 + 2
    past, parts = None, []
    for part in x.split([1, 9, 2, 18], -1):
        y, past = norm.step(part, past)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, -1), norm(x), atol=1e-6, rtol=0)
    assert float(past.frames) == 30
    torch.testing.assert_close(past.total, x.double().sum((1, 2)))
    torch.testing.assert_close(past.power, x.double().square().sum((1, 2)))
