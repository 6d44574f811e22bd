"""Spectra whose frames lie over the steps of a waveform of as many hops, and levels, of Hybrid Demucs.

Frame l is centred on the middle of its hop, so that L = ceil(T / hop) frames and T / hop steps can be added.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp.stft import STFT


class Frames(nn.Module):
    """Real and imaginary parts of two channels, the highest bin left out, and the way back."""

    def __init__(self, n_fft: int) -> None:
        """Take the samples of a window; the hop is a quarter."""
        super().__init__()
        self.stft = STFT(n_fft, n_fft, n_fft // 4)

    def analyse(self, wave: Tensor) -> Tensor:
        """Return real and imaginary parts (B, 4, F, L) of waves (B, 2, T)."""
        hop, over = self.stft.hop, -wave.shape[-1] % self.stft.hop
        padded = _reflected(wave, 3 * hop // 2, 3 * hop // 2 + over)
        spec = self.stft(padded.flatten(0, 1))[..., :-1, 2:-2]
        parts = torch.stack([spec.real, spec.imag], 1).unflatten(0, (-1, 2))  # (B, 2, 2, F, L)
        return parts.flatten(1, 2) / self.stft.n_fft**0.5

    def synthesise(self, parts: Tensor, length: int) -> Tensor:
        """Return waves (B, N, 2, length) of parts (B, N, 4, F, L)."""
        real, imag = (F.pad(parts, (2, 2, 0, 1)) * self.stft.n_fft**0.5).unflatten(2, (2, 2)).unbind(3)
        edge, hop = 3 * self.stft.hop // 2, self.stft.hop
        wave = self.stft.inverse(torch.complex(real, imag), 2 * edge + length + -length % hop)
        return wave[..., edge : edge + length]


def normalised(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return x (B, ...) less its mean over its deviation, and both, (B, 1, ...)."""
    axes = tuple(range(1, x.dim()))
    mean, spread = x.mean(axes, keepdim=True), x.std(axes, keepdim=True)
    return (x - mean) / (1e-5 + spread), mean, spread


def _reflected(wave: Tensor, left: int, right: int) -> Tensor:
    """Return waves (..., T) with what mirrors them before and after; a short one is filled up with zeros first."""
    lacking = max(0, max(left, right) + 1 - wave.shape[-1])
    after = min(right, lacking)
    before = lacking - after
    return F.pad(F.pad(wave, (before, after)), (left - before, right - after), mode="reflect")
