from __future__ import annotations

import pytest
import torch

from usepcli.errors import ConfigError
from usepcli.models.band_path import BandLinear, BandPath


def test_small_size():
    with torch.device("meta"):
        assert BandPath(**BandPath.PRESETS["small"]).n_params == 562_400


def test_band_linear_has_its_own_weights_per_band():
    layer, x = BandLinear(3, 4, 5), torch.randn(2, 6, 3, 4)
    layer.bias.data.normal_()
    want = torch.stack([x[:, :, b] @ layer.weight[b] + layer.bias[b] for b in range(3)], 2)
    torch.testing.assert_close(layer(x), want)


@pytest.mark.parametrize("mask", ["sigmoid", "tanh_complex"])
def test_head_fills_the_bins_in_order(mask):
    model = BandPath(**{**BandPath.PRESETS["tiny"], "mask": mask, "zero_last": True})
    bins = model.stft.bins - 1
    with torch.no_grad():
        # Number every bin of every output in the bias: the head must place them band after band.
        bias = model.head.bias.view(model.bands, model.n_src, model.width, model.mask_values)
        for n in range(model.n_src):
            numbers = torch.arange(bins).view(model.bands, model.width) + 100.0 * n
            bias[:, n] = numbers[..., None].expand(-1, -1, model.mask_values)
        logits = model.masks(model.stft(torch.randn(1, 500)))
    logits = logits[..., None] if mask == "sigmoid" else logits
    for n in range(model.n_src):
        want = [100 * n + b for b in [*range(bins), bins - 1]]
        for part in range(model.mask_values):
            assert logits[0, 3, n, :, part].tolist() == want


def test_bands_must_divide_the_spectrum():
    with pytest.raises(ConfigError, match=r"model\.bands"):
        BandPath(n_fft=256, bands=30)
