"""Log-mel spectra of waveforms and a change of rate, all differentiable to the waveform.

    L[m, l] = 10 log10 max(sum_f W[m, f] |STFT(x)[f, l]|^2, 1e-10) dB     LogMel, the frames centred
    L[m, l] = ln(offset + sum_f W[m, f] |STFT(x)[f, l]|)                  OffsetMel, the frames within the wave

W holds triangles. Those of LogMel have unit area and their points lie evenly on Slaney's scale (Auditory Toolbox,
1998): mel(f) = 3 f / 200 up to 1 kHz, 15 + 27 ln(f / 1000) / ln 6.4 above. Those of OffsetMel have unit height and
their points lie evenly on the scale of HTK: mel(f) = 2595 log10(1 + f / 700).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FLOOR = 1e-10
_ZEROS, _ROLLOFF = 24, 0.96  # zero crossings to either side, and the cut-off within the narrower band


def mel_bank(bins: int, rate: int, bands: int, low_hz: float, high_hz: float) -> Tensor:
    """Return (bands, bins): triangles of unit area over bins evenly from 0 to rate / 2 Hz."""
    bend = 27 / math.log(6.4)
    first, last = (3 * f / 200 if f < 1000 else 15 + bend * math.log(f / 1000) for f in (low_hz, high_hz))
    mels = torch.linspace(first, last, bands + 2, dtype=torch.float64)
    points = torch.where(mels < 15, mels * 200 / 3, 1000 * torch.exp((mels - 15) / bend))  # (bands + 2,)
    area = 2 / (points[2:] - points[:-2])
    return (_triangles(points, bins, rate) * area[:, None]).float()


def htk_bank(bins: int, rate: int, bands: int, low_hz: float, high_hz: float) -> Tensor:
    """Return (bands, bins): triangles of unit height over bins evenly from 0 to rate / 2 Hz."""
    first, last = (2595 * math.log10(1 + f / 700) for f in (low_hz, high_hz))
    mels = torch.linspace(first, last, bands + 2, dtype=torch.float64)
    return _triangles(700 * (10 ** (mels / 2595) - 1), bins, rate).float()


def _triangles(points: Tensor, bins: int, rate: int) -> Tensor:
    at = torch.linspace(0, rate / 2, bins, dtype=torch.float64)
    rise = (at - points[:-2, None]) / (points[1:-1] - points[:-2])[:, None]
    fall = (points[2:, None] - at) / (points[2:] - points[1:-1])[:, None]
    return torch.minimum(rise, fall).clamp_min(0)  # (bands, bins)


class LogMel(nn.Module):
    """Centred log-mel spectra in dB: (B, T) at `rate` to (B, L, bands), T > n_fft / 2, L = 1 + T // hop."""

    window: Tensor
    bank: Tensor

    def __init__(self, rate: int, n_fft: int, hop: int, bands: int, low_hz: float, high_hz: float) -> None:
        """Take rates in Hz and sizes in samples."""
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("bank", mel_bank(n_fft // 2 + 1, rate, bands, low_hz, high_hz), persistent=False)

    def forward(self, waves: Tensor) -> Tensor:
        """Return (B, L, bands) in dB, never below -100."""
        spec = torch.stft(waves, self.n_fft, self.hop, window=self.window, pad_mode="reflect", return_complex=True)
        power = spec.real.square() + spec.imag.square()  # (B, F, L)
        return 10 * torch.log10((self.bank @ power).clamp_min(_FLOOR)).mT  # (B, L, bands)


class OffsetMel(nn.Module):
    """Log-mel spectra of magnitudes: (B, T) at `rate` to (B, L, bands), T >= window, L = 1 + (T - window) // hop."""

    window: Tensor
    bank: Tensor

    def __init__(
        self, rate: int, window: int, hop: int, n_fft: int, bands: int, low_hz: float, high_hz: float, offset: float
    ) -> None:
        """Take rates in Hz, sizes in samples, n_fft >= window, and what is added to magnitudes."""
        super().__init__()
        self.n_fft, self.hop, self.offset = n_fft, hop, offset
        self.beside = n_fft - window  # torch centres a short window, so that many samples beside it weigh nothing
        self.register_buffer("window", torch.hann_window(window), persistent=False)
        self.register_buffer("bank", htk_bank(n_fft // 2 + 1, rate, bands, low_hz, high_hz), persistent=False)

    def forward(self, waves: Tensor) -> Tensor:
        """Return (B, L, bands), never below ln(offset)."""
        left = self.beside // 2
        padded = F.pad(waves, (left, self.beside - left))
        spec = torch.stft(
            padded, self.n_fft, self.hop, len(self.window), self.window, center=False, return_complex=True
        )  # (B, F, L)
        return torch.log(self.bank @ spec.abs() + self.offset).mT  # (B, L, bands)


class Resample(nn.Module):
    """Change of rate by a windowed sinc, one kernel per phase: (B, T) to (B, ceil(T * rate_out / rate_in))."""

    kernel: Tensor

    def __init__(self, rate_in: int, rate_out: int) -> None:
        """Take rates in Hz."""
        super().__init__()
        shared = math.gcd(rate_in, rate_out)
        self.step, self.phases = rate_in // shared, rate_out // shared
        cut = _ROLLOFF * min(1.0, self.phases / self.step)  # in cycles per two samples of the input
        self.reach = math.ceil(_ZEROS / cut)
        phase = torch.arange(self.phases, dtype=torch.float64)[:, None] * self.step / self.phases
        time = phase - torch.arange(-self.reach, self.reach + self.step, dtype=torch.float64)
        window = torch.cos((time * cut / _ZEROS).clamp(-1, 1) * math.pi / 2).square()
        kernel = cut * torch.sinc(cut * time) * window
        # Each phase passes a constant unchanged.
        self.register_buffer("kernel", (kernel / kernel.sum(1, keepdim=True)).float()[:, None], persistent=False)

    def forward(self, waves: Tensor) -> Tensor:
        """Return the waves at the other rate; equal rates change nothing."""
        if self.step == self.phases:
            return waves
        length = -(-waves.shape[-1] * self.phases // self.step)
        padded = F.pad(waves[:, None], (self.reach, self.reach + self.step))
        found = F.conv1d(padded, self.kernel.to(waves.dtype), stride=self.step)  # (B, phases, T / step)
        return found.mT.flatten(1)[:, :length]


def filled(waves: Tensor, length: int) -> Tensor:
    """Return (B, length): waves (B, T) from their beginning, repeated as often as it takes; T >= 1."""
    return waves.repeat(1, -(-length // waves.shape[-1]))[:, :length]
