"""The U-Net of adversarial PIT: its size, its masks and what it refuses."""

from __future__ import annotations

import pytest
import torch

from usepcli.errors import ConfigError
from usepcli.models.unet_mask import UNetMask


def tiny(**options) -> UNetMask:
    torch.manual_seed(0)
    return UNetMask(**{**UNetMask.PRESETS["tiny"], **options}).eval()


def test_the_published_size():
    # Of the layers that the paper lists: in 256 -> 256; four levels; the middle; four levels back; out 256 -> 4 x 256.
    def conv(i: int, o: int, k: int) -> int:
        return o * i * k + o

    def block(i: int, o: int) -> int:
        return 2 * i + conv(i, o, 7) + 2 * o + conv(o, o, 7) + conv(i, o, 1)

    encoder = block(256, 256) + conv(256, 512, 3) + 3 * (block(512, 512) + conv(512, 512, 3))
    middle = 2 * block(512, 512) + 3 * (512 * 512 + 512)
    decoder = 3 * (conv(512, 512, 3) + block(1024, 512)) + conv(512, 256, 3) + block(512, 256)
    with torch.device("meta"):
        built = UNetMask()
    assert built.n_params == conv(256, 256, 1) + encoder + middle + decoder + conv(256, 1024, 1) == 46_900_736


@torch.no_grad()
def test_masks_share_the_mixture_and_the_highest_bin_has_that_of_its_neighbour():
    parts = tiny().parts(torch.randn(2, 999))
    assert parts.masks.shape == (2, 4, 33, 1 + -(-999 // 32))
    torch.testing.assert_close(parts.masks.sum(1), torch.ones_like(parts.masks[:, 0]))
    torch.testing.assert_close(parts.masks[:, :, -1], parts.masks[:, :, -2])


@torch.no_grad()
@pytest.mark.parametrize("samples", [1, 31, 32, 33, 160, 1000])
def test_any_length(samples):
    est = tiny()(torch.randn(1, samples))
    assert est.shape == (1, 4, samples)
    assert torch.isfinite(est).all()


@torch.no_grad()
def test_the_level_of_the_input_goes_through():
    model, mix = tiny(consistency="none"), torch.randn(1, 700)
    torch.testing.assert_close(model(1e-3 * mix), 1e-3 * model(mix), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"channels": (16, 20)}, "model.channels: found"),
        ({"channels": ()}, "model.channels: found"),
        ({"kernel": 4}, "model.kernel: found 4"),
        ({"heads": 5}, "model.heads: found 5"),
        ({"groups": 0}, "model.groups: found 0"),
        ({"features": "phase"}, "model.features"),
        ({"causal": True, "input_norm": "none"}, "model.causal"),
    ],
)
def test_sizes_that_clash_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        tiny(**options)
