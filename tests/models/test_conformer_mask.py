from __future__ import annotations

import pytest
import torch

from usepcli.errors import ConfigError
from usepcli.models.conformer_mask import ConformerMask, ScalarPointwise


@pytest.mark.parametrize(("n_src", "count"), [
    (2, 21_544_034), (3, 21_610_083), (4, 21_676_132), (6, 21_808_230), (8, 21_940_328),
])  # fmt: skip
def test_published_sizes(n_src, count):
    with torch.device("meta"):
        assert ConformerMask(n_src=n_src).n_params == count


def test_small_size():
    with torch.device("meta"):
        assert ConformerMask(**ConformerMask.PRESETS["small"]).n_params == 2_455_300


def test_scalar_pointwise_is_a_one_channel_convolution():
    layer, x = ScalarPointwise(2), torch.randn(3, 5, 4)
    conv = torch.nn.functional.conv2d(x[:, None], layer.weight.view(2, 1, 1, 1), layer.bias)  # (B, 2, L, C)
    torch.testing.assert_close(layer(x), torch.cat([conv[:, 0], conv[:, 1]], -1))
    one = ScalarPointwise(1)
    torch.testing.assert_close(one(x), x * one.weight + one.bias)


@pytest.mark.parametrize("mask", ["sigmoid", "tanh_complex"])
def test_zero_last_starts_with_equal_shares(mask):
    options = {**ConformerMask.PRESETS["tiny"], "mask": mask, "zero_last": True, "consistency": "none"}
    mix = torch.randn(2, 777)
    est = ConformerMask(**options).eval()(mix)
    torch.testing.assert_close(est, mix[:, None].repeat(1, 2, 1) / 2, atol=1e-4, rtol=1e-4)


def test_inputs_longer_than_the_table_of_offsets():
    options = {**ConformerMask.PRESETS["tiny"], "max_offset": 4}
    assert ConformerMask(**options).eval()(torch.randn(1, 3000)).isfinite().all()


@pytest.mark.parametrize(("key", "value"), [
    ("dim", 36), ("heads", 3), ("kernel", 8), ("conv", "half"), ("features", "phase"),
    ("max_offset", 0), ("look_back", -1), ("activation", "gelu"),
])  # fmt: skip
def test_wrong_settings(key, value):
    with pytest.raises(ConfigError, match=rf"model\.{'dim' if key == 'heads' else key}"):
        ConformerMask(**{**ConformerMask.PRESETS["tiny"], key: value})


def test_a_causal_model_that_keeps_all_frames_takes_no_blocks():
    options = {**ConformerMask.PRESETS["tiny"], "causal": True, "input_norm": "none"}
    assert ConformerMask(**options, look_back=9).live
    with pytest.raises(ConfigError, match=r"no live separation: model\.look_back 0"):
        ConformerMask(**options).begin()


@torch.no_grad()
def test_levelled_hears_what_a_model_hears_whose_input_is_normalised():
    """Of noise, whose level is the same at all times, both make the same of any loudness."""
    options = {**ConformerMask.PRESETS["tiny"], "max_offset": 4, "consistency": "none"}
    told, heard = (
        ConformerMask(**{**options, "input_norm": norm, "levelled": norm == "none"}).eval() for norm in ("std", "none")
    )
    heard.load_state_dict(told.state_dict())
    mix = 0.02 * torch.randn(1, 40_000)
    one, other = told(mix)[..., 20_000:], heard(mix)[..., 20_000:]
    assert (one - other).square().mean() < 1e-3 * one.square().mean()
