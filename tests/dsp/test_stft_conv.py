"""The STFT from real convolutions against the complex one."""

from __future__ import annotations

import pytest
import torch

from usepcli.dsp.stft import STFT
from usepcli.dsp.stft_conv import ConvSTFT, Pair

SIZES = [(512, 400, 160, "hann"), (256, 256, 64, "sqrt_hann"), (64, 50, 25, "hann"), (256, 256, 128, "sqrt_hann")]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("length", [1, 77, 160, 1000, 1024])
def test_same_spectrum_and_same_inverse(size: tuple, length: int) -> None:
    torch.manual_seed(length)
    known = STFT(*size)
    ours, wave = ConvSTFT(known), torch.randn(2, length)
    spec, made = known(wave), ours(wave)
    assert made.shape == spec.shape
    # Sums of n products of order one: each may be off by n times eps.
    off = size[0] * torch.finfo(torch.float32).eps
    assert torch.allclose(torch.complex(made.real, made.imag), spec, rtol=0, atol=off)
    # A spectrum that belongs to no waveform, so that the division by the windows counts.
    noise = torch.randn(2, 3, *spec.shape[1:], dtype=torch.complex64)
    noise[..., [0, -1], :] = noise[..., [0, -1], :].real.to(noise.dtype)
    back = ours.inverse(Pair(noise.real, noise.imag), length)
    assert torch.allclose(back, known.inverse(noise, length), rtol=0, atol=off)


def test_pair_computes_as_complex_numbers_do() -> None:
    torch.manual_seed(0)
    z, gain = torch.randn(2, 3, 5, dtype=torch.complex64), torch.randn(2, 5, 3, dtype=torch.complex64)
    pair = Pair(z.real, z.imag)

    def same(found: Pair, expected: torch.Tensor) -> bool:
        return torch.allclose(torch.complex(found.real, found.imag), expected, atol=1e-6)

    assert same(gain * pair.mT, gain * z.mT)
    assert same(gain.real * pair.mT, gain.real * z.mT)
    assert same(pair[:, None, :-1], z[:, None, :-1]) and same(pair.permute(1, 0, 2), z.permute(1, 0, 2))
    assert torch.allclose(pair.abs(), z.abs(), atol=1e-6)
