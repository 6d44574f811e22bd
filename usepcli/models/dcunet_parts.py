"""Parts of complex U-Nets: transform, convolutions, recurrence and bounds of complex features.

Features hold real parts, then imaginary ones: (B, 2 C, F, L). A complex layer makes f(a) - g(b) + i (f(b) + g(a)) of
a + ib, f and g being real layers; of two convolutions that is one with the matrix [[f, -g], [g, f]] of filters.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp import framing
from usepcli.errors import ConfigError, choices
from usepcli.models.batch_norm import BatchNorm
from usepcli.models.dense import Dense
from usepcli.models.precision import full_precision
from usepcli.models.recurrent import Lstm

Padding = Literal["both", "none"]
Bound = Literal["tanh", "sigmoid", "none"]
_BOUNDS = ("tanh", "sigmoid", "none")
_LEAK = 0.01


class WindowedFrames(nn.Module):
    """Spectra of frames under the root of a Hann window, and waves of them under the same: a constant sum inside.

    padding `both` puts zeros before and after, so that every sample lies in as many frames; with `none` there are whole
    frames alone, as asteroid has it: the ends fade, and what no frame covers comes out 0. The spectrum is scaled so
    that both directions have the same filters, of which those of the lowest and the highest bin count half in power.
    """

    window: Tensor
    scale: Tensor

    def __init__(self, n_fft: int, win: int, hop: int, padding: Padding) -> None:
        """Take sizes in samples; ConfigError unless win <= n_fft is a multiple of twice the hop."""
        super().__init__()
        if hop < 1 or win % (2 * hop) or not win <= n_fft <= 2**16 or n_fft % 2:
            found = f"n_fft={n_fft}, win={win}, hop={hop}"
            raise ConfigError(f"model.hop: found {found}; expected an even n_fft from win on, a multiple of 2 * hop")
        if padding not in ("both", "none"):
            raise ConfigError(f"model.padding: {choices('padding', padding, ('both', 'none'))}")
        self.n_fft, self.win, self.hop, self.padding = n_fft, win, hop, padding
        self.register_buffer("window", torch.hann_window(win, dtype=torch.float64).sqrt().float(), persistent=False)
        scale = torch.full((n_fft // 2 + 1, 1), 2 * (hop / win / n_fft) ** 0.5)
        scale[[0, -1]] *= 0.5**0.5
        self.register_buffer("scale", scale, persistent=False)

    def analyse(self, mix: Tensor) -> Tensor:
        """Return the complex spectrum (B, F, L) of the mixture (B, T)."""
        ahead = self.win - self.hop if self.padding == "both" else 0
        length = mix.shape[-1] + 2 * ahead
        lacking = max(0, self.win - length) if self.padding == "none" else -(length - self.win) % self.hop
        frames = F.pad(mix, (ahead, ahead + lacking)).unfold(-1, self.win, self.hop) * self.window  # (B, L, win)
        left = (self.n_fft - self.win) // 2
        return torch.fft.rfft(F.pad(frames, (left, self.n_fft - self.win - left))).mT * self.scale

    def synthesise(self, spec: Tensor, length: int) -> Tensor:
        """Return waves (B, N, length) of spectra (B, N, F, L)."""
        left = (self.n_fft - self.win) // 2
        frames = torch.fft.irfft((spec / self.scale).mT, self.n_fft)[..., left : left + self.win]
        wave = framing.added(frames * self.window * (2 * self.hop / self.win), self.hop)
        ahead = self.win - self.hop if self.padding == "both" else 0
        wave = wave[..., ahead : ahead + length]
        return F.pad(wave, (0, length - wave.shape[-1]))


class ComplexConv(nn.Module):
    """Convolution over bins and frames: (B, 2 C, F, L) to (B, 2 D, F / step, L / step)."""

    def __init__(self, before: int, after: int, kernel: tuple[int, int], step: tuple[int, int]) -> None:
        super().__init__()
        self.real, self.imag = _filters(after, before, kernel), _filters(after, before, kernel)
        self.step, self.padding = step, padding_of(kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features behind the convolution."""
        real, imag = self.real, self.imag
        weight = torch.cat([torch.cat([real, -imag], 1), torch.cat([imag, real], 1)])
        return F.conv2d(x, weight, None, self.step, self.padding)


class ComplexDeconv(nn.Module):
    """Transposed convolution: (B, 2 C, F, L) to (B, 2 D, ...) of given bins and frames; only the `last` has a bias."""

    def __init__(self, before: int, after: int, kernel: tuple[int, int], step: tuple[int, int], last: bool) -> None:
        super().__init__()
        self.real, self.imag = _filters(before, after, kernel), _filters(before, after, kernel)
        self.bias = nn.Parameter(torch.zeros(2 * after)) if last else None
        self.kernel, self.step, self.padding = kernel, step, padding_of(kernel)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the features behind the convolution, of so many bins and frames."""
        real, imag = self.real, self.imag
        weight = torch.cat([torch.cat([real, imag], 1), torch.cat([-imag, real], 1)])
        made = [
            (n - 1) * step - 2 * pad + taps
            for n, step, pad, taps in zip(x.shape[2:], self.step, self.padding, self.kernel, strict=True)
        ]
        lacking = size[0] - made[0], size[1] - made[1]
        return F.conv_transpose2d(x, weight, self.bias, self.step, self.padding, lacking)


class Bend(nn.Module):
    """Norm over the batch, then a slope for what is negative: leaky, or learned, one for either part."""

    def __init__(self, dim: int, learned: bool) -> None:
        super().__init__()
        self.norm = BatchNorm(2 * dim)
        self.slopes = nn.Parameter(torch.full((2,), 0.25)) if learned else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape (B, 2 dim, F, L)."""
        y: Tensor = self.norm(x)
        if self.slopes is None:
            return F.leaky_relu(y, _LEAK)
        return F.prelu(y, self.slopes.repeat_interleave(y.shape[1] // 2).to(y.dtype))


class ComplexRnn(nn.Module):
    """LSTMs along the frames over all features of all bins, and a linear layer back: (B, 2 C, F, L) to the same."""

    def __init__(self, size: int, hidden: int, layers: int) -> None:
        """Take features times bins, cells and layers."""
        super().__init__()
        sizes = [size, *[hidden] * layers]
        self.real, self.imag = (nn.ModuleList(Lstm(a, b, 1, False) for a, b in pairwise(sizes)) for _ in range(2))
        self.out_real, self.out_imag = Dense(hidden, size), Dense(hidden, size)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features behind the layers."""
        parts = x.unflatten(1, (2, -1))  # (B, 2, C, F, L)
        y = parts.permute(1, 0, 4, 2, 3).flatten(3).flatten(0, 1)  # (2 B, L, C F), real parts first
        for real, imag in zip(self.real, self.imag, strict=True):
            y = _crossed(real(y), imag(y))
        y = _crossed(self.out_real(y), self.out_imag(y))
        return y.unflatten(0, (2, -1)).unflatten(3, parts.shape[2:4]).permute(1, 0, 3, 4, 2).flatten(1, 2)


def bounded(scores: Tensor, bound: Bound) -> Tensor:
    """Return complex masks (B, N, F, L) of scores (B, 2 N, F, L).

    tanh bounds the magnitude to 1 and keeps the phase, sigmoid bounds either part to (0, 1) (Choi et al. 2019).
    """
    with full_precision(scores):
        real, imag = scores.float().chunk(2, 1)
        if bound == "sigmoid":
            return torch.complex(torch.sigmoid(real), torch.sigmoid(imag))
        if bound == "none":
            return torch.complex(real, imag)
        # The squares are never 0, so that the gradients of their roots are finite.
        power = real.square() + imag.square()
        return torch.complex(real, imag) * (torch.tanh((power + 1e-8).sqrt()) / (power + 1e-16).sqrt())


def check_bound(bound: str) -> None:
    """Raise ConfigError for a bound that `bounded` does not know."""
    if bound not in _BOUNDS:
        raise ConfigError(f"model.bound: {choices('bound', bound, _BOUNDS)}")


def padding_of(kernel: tuple[int, int]) -> tuple[int, int]:
    """Return the zeros on either side of bins and frames; two frames are heard without any."""
    return kernel[0] // 2, kernel[1] // 2 if kernel[1] % 2 else 0


def _crossed(real: Tensor, imag: Tensor) -> Tensor:
    """Return f(a) - g(b) and f(b) + g(a) of f and g over rows a, b."""
    (fa, fb), (ga, gb) = real.chunk(2), imag.chunk(2)
    return torch.cat([fa - gb, fb + ga])


def _filters(rows: int, columns: int, kernel: tuple[int, int]) -> nn.Parameter:
    bound = (2 * columns * kernel[0] * kernel[1]) ** -0.5
    return nn.Parameter(torch.empty(rows, columns, *kernel).uniform_(-bound, bound))
