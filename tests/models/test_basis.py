from __future__ import annotations

import pytest
import torch

from usepcli.dsp.masks import masks_of
from usepcli.errors import ConfigError
from usepcli.models.basis import LearnedBasis


def test_identity_basis_rebuilds_the_signal():
    basis = LearnedBasis(8, 8)
    for layer in (basis.encoder, basis.decoder):
        layer.weight.data = torch.eye(8)[:, None].clone()
    mix = torch.rand(2, 41)
    weights = basis.analyse(mix)
    assert weights.shape == (2, 8, 10)
    wave = basis.synthesise(weights[:, None], 41)[:, 0]
    # Two half-overlapping frames add up, except over the first half frame.
    torch.testing.assert_close(wave[:, 4:40], 2 * mix[:, 4:40])
    torch.testing.assert_close(wave[:, :4], mix[:, :4])


@pytest.mark.parametrize(("length", "frames"), [(1, 1), (8, 1), (9, 2), (12, 2), (13, 3)])
def test_frames_cover_every_sample(length, frames):
    assert LearnedBasis(3, 8).analyse(torch.rand(1, length)).shape[-1] == frames


def test_weights_are_not_negative_and_float32_under_autocast():
    basis = LearnedBasis(16, 8)
    with torch.autocast("cpu", torch.bfloat16):
        weights = basis.analyse(torch.randn(1, 99))
        wave = basis.synthesise(weights[:, None].bfloat16(), 99)
    assert weights.dtype == wave.dtype == torch.float32 and weights.min() >= 0


def test_odd_kernels_are_refused():
    with pytest.raises(ConfigError, match=r"model\.kernel"):
        LearnedBasis(4, 5)


@pytest.mark.parametrize(("padding", "frames"), [("end", 3), ("none", 2), ("both", 5)])
def test_frames_of_every_padding(padding, frames):
    assert LearnedBasis(3, 8, padding=padding).analyse(torch.rand(1, 13)).shape[-1] == frames


@pytest.mark.parametrize("padding", ["end", "none", "both"])
def test_where_the_signal_is_rebuilt(padding):
    basis = LearnedBasis(8, 8, 4, "linear", padding)
    for layer in (basis.encoder, basis.decoder):
        layer.weight.data = torch.eye(8)[:, None].clone()
    mix = torch.randn(2, 41)  # not only positive: the encoder is linear
    wave = basis.synthesise(basis.analyse(mix)[:, None], 41)[:, 0]
    times = torch.full((41,), 2.0)
    if padding != "both":
        times[:4] = 1
    if padding == "none":
        times[36:40], times[40:] = 1, 0
    if padding == "end":
        times[40:] = 1
    torch.testing.assert_close(wave, mix * times)


def test_strides():
    assert LearnedBasis(4, 5, 2).analyse(torch.rand(1, 9)).shape[-1] == 3
    with pytest.raises(ConfigError, match=r"model\.stride"):
        LearnedBasis(4, 8, 9)
    assert masks_of(torch.randn(2, 3, 4, 5), "softmax").sum(1).allclose(torch.ones(2, 4, 5))
