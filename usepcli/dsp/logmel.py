"""Log-mel spectra of waveforms and a change of rate, both differentiable to the waveform.

L[m, l] = 10 log10 max(sum_f W[m, f] |STFT(x)[f, l]|^2, 1e-10) dB

W holds triangles of unit area between points that lie evenly on Slaney's scale (Auditory Toolbox, 1998):
mel(f) = 3 f / 200 up to 1 kHz, 15 + 27 ln(f / 1000) / ln 6.4 above.
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
    at = torch.linspace(0, rate / 2, bins, dtype=torch.float64)
    rise = (at - points[:-2, None]) / (points[1:-1] - points[:-2])[:, None]
    fall = (points[2:, None] - at) / (points[2:] - points[1:-1])[:, None]
    area = 2 / (points[2:] - points[:-2])
    return (torch.minimum(rise, fall).clamp_min(0) * area[:, None]).float()


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
