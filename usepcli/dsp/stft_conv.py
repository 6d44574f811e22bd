"""The STFT and its inverse as convolutions on real numbers, for runtimes without complex tensors.

Frame l of the centred STFT is sum_t w[t] x[l hop + t - n_fft / 2] exp(-2 pi i f t / n_fft): one strided convolution
with the windowed cosines and sines as its filters. The inverse adds the windowed inverse transforms of all frames up
with the transposed convolution, and divides by the sum of the squared windows (Griffin & Lim 1984).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp import framing
from usepcli.dsp.stft import STFT


class Pair:
    """Real and imaginary part side by side, with those operations of a complex tensor that the models use."""

    def __init__(self, real: Tensor, imag: Tensor) -> None:
        self.real, self.imag = real, imag

    @property
    def shape(self) -> torch.Size:
        """Shape of either part."""
        return self.real.shape

    @property
    def mT(self) -> Pair:
        """Both parts with their last two axes exchanged."""
        return Pair(self.real.mT, self.imag.mT)

    def __getitem__(self, index: Any) -> Pair:
        return Pair(self.real[index], self.imag[index])

    def __rmul__(self, gains: Tensor) -> Pair:
        if not gains.is_complex():
            return Pair(gains * self.real, gains * self.imag)
        re, im = torch.view_as_real(gains).unbind(-1)
        return Pair(re * self.real - im * self.imag, re * self.imag + im * self.real)

    def abs(self) -> Tensor:
        """Return the magnitude."""
        return (self.real.square() + self.imag.square()).sqrt()

    def permute(self, *axes: int) -> Pair:
        """Return both parts with their axes in another order."""
        return Pair(self.real.permute(*axes), self.imag.permute(*axes))


class ConvSTFT(nn.Module):
    """The numbers of an `STFT` up to rounding, from products of real numbers alone, in float32."""

    analysis: Tensor
    synthesis: Tensor
    power: Tensor

    def __init__(self, like: STFT) -> None:
        """Take sizes and window from `like`."""
        super().__init__()
        self.n_fft, self.win, self.hop = like.n_fft, like.win, like.hop
        window = torch.zeros(like.n_fft, dtype=torch.float64)
        left = (like.n_fft - like.win) // 2
        window[left : left + like.win] = like.window.double()
        step = torch.arange(like.n_fft, dtype=torch.float64)
        # The product of two integers modulo n_fft keeps the angles small, and so exact.
        angle = 2 * math.pi / like.n_fft * ((torch.arange(like.bins)[:, None] * step) % like.n_fft)  # (F, n_fft)
        filters = torch.cat([angle.cos(), -angle.sin()]) * window
        # Every bin but the first and the last stands for itself and its mirror image.
        twice = torch.full((like.bins, 1), 2.0, dtype=torch.float64)
        twice[0] = twice[-1] = 1
        back = torch.cat([twice * angle.cos(), -twice * angle.sin()]) * window / like.n_fft
        for name, values in (("analysis", filters), ("synthesis", back), ("power", window.square()[None])):
            self.register_buffer(name, values.float()[:, None], persistent=False)

    @property
    def bins(self) -> int:
        """Number of frequency bins F."""
        return self.n_fft // 2 + 1

    def forward(self, x: Tensor) -> Pair:
        """Return the spectrogram (B, F, L) of waveforms (B, T)."""
        half = self.n_fft // 2
        wave = F.pad(x.float(), (half, half + -x.shape[-1] % self.hop))
        spec = F.conv1d(wave[:, None], self.analysis, stride=self.hop)  # (B, 2 F, L)
        return Pair(*spec.split(self.bins, 1))

    @property
    def ahead(self) -> int:
        """Samples before the first one at which the window of the first frame begins."""
        return self.n_fft // 2 - (self.n_fft - self.win) // 2

    def hear(self, block: Tensor, waiting: Tensor) -> tuple[Pair, Tensor]:
        """Return the spectra (B, F, L), L >= 1, that a block (B, t) completes, and the samples that wait."""
        covered, waiting = framing.cut(waiting, block, self.win, self.hop)
        spec = F.conv1d(covered[:, None], self.analysis[..., self._inside], stride=self.hop)  # (B, 2 F, L)
        return Pair(*spec.split(self.bins, 1)), waiting

    def speak(self, spec: Pair, tail: Tensor) -> tuple[Tensor, Tensor]:
        """Return the waveforms (B, N, L hop) of the next spectra (B, N, F, L), and what follows, as STFT does."""
        both = torch.cat([spec.real, spec.imag], -2)  # (B, N, 2 F, L)
        wave = F.conv_transpose1d(both.flatten(0, 1), self.synthesis[..., self._inside], stride=self.hop)
        power = F.conv_transpose1d(torch.ones_like(both[:, 0, :1]), self.power[..., self._inside], stride=self.hop)
        summed = torch.cat([wave.unflatten(0, both.shape[:2])[:, :, 0], power], 1)  # (B, N + 1, T)
        settled, tail = framing.settle(summed, tail, both.shape[-1] * self.hop)
        return framing.over_windows(settled), tail

    @property
    def _inside(self) -> slice:
        left = (self.n_fft - self.win) // 2
        return slice(left, left + self.win)

    def inverse(self, spec: Pair, length: int) -> Tensor:
        """Return the waveforms (..., length) whose STFT is nearest in least squares to spec (..., F, L)."""
        lead, both = spec.shape[:-2], torch.cat([spec.real, spec.imag], -2)
        flat = both.reshape(-1, *both.shape[-2:])
        inside = slice(self.n_fft // 2, self.n_fft // 2 + length)
        wave = F.conv_transpose1d(flat, self.synthesis, stride=self.hop)[:, 0, inside]
        weight = F.conv_transpose1d(torch.ones_like(flat[:1, :1]), self.power, stride=self.hop)[:, 0, inside]
        return (wave / weight).reshape(*lead, length)
