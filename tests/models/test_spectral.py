from __future__ import annotations

import pytest
import torch

from usepcli.errors import ConfigError
from usepcli.models.spectral import SpectralModel


class Fixed(SpectralModel):
    """Masks from one bias per output and bin."""

    def __init__(self, mask, n_src=2, mask_scale=1.5, **sizes):
        sizes = {"n_fft": 64, "win": 64, "hop": 16, "window": "hann", **sizes}
        super().__init__(mask=mask, mask_scale=mask_scale, n_src=n_src, sample_rate=8000, **sizes)
        self.bias = torch.nn.Parameter(torch.zeros(n_src, self.stft.bins, *((2,) if self.mask_values == 2 else ())))

    def masks(self, spec):
        return self.bias.expand(spec.shape[0], spec.shape[-1], *self.bias.shape)


@pytest.mark.parametrize("n_src", [1, 2, 3])
def test_complex_masks_start_at_equal_shares(n_src):
    model, mix = Fixed("tanh_complex", n_src), torch.randn(2, 333)
    model.start_equal(model.bias)
    torch.testing.assert_close(model(mix), mix[:, None].repeat(1, n_src, 1) / n_src, atol=1e-5, rtol=1e-5)


def test_real_masks_start_at_one_half():
    model, mix = Fixed("sigmoid"), torch.randn(1, 333)
    model.start_equal(model.bias)
    torch.testing.assert_close(model(mix), mix[:, None].repeat(1, 2, 1) / 2, atol=1e-5, rtol=1e-5)


def test_complex_mask_turns_the_phase():
    model = Fixed("tanh_complex")
    with torch.no_grad():
        model.bias[0] = torch.tensor([0.0, 20.0])
    angle = 2 * torch.pi * torch.arange(800).double() / 8  # in float32 it would be off by 800 times eps
    est = model(torch.cos(angle).float()[None])
    want = -1.5 * torch.sin(angle).float()
    off = 64 * torch.finfo(torch.float32).eps  # of sums over a window of 64 samples
    torch.testing.assert_close(est[0, 0, 64:-64], want[64:-64], atol=off, rtol=0)
    assert est[0, 1].abs().max() < 1e-6


@pytest.mark.parametrize(("options", "key"), [
    ({"mask": "softplus"}, "mask"), ({"mask": "sigmoid", "mask_scale": 0.5}, "mask_scale"),
    ({"mask": "sigmoid", "hop": 60}, "hop"),
])  # fmt: skip
def test_wrong_settings(options, key):
    with pytest.raises(ConfigError, match=rf"model\.{key}"):
        Fixed(**options)
