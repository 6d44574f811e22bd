"""Short-time Fourier transform and its inverse for waveforms of any length."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp import framing
from usepcli.errors import ConfigError

Window = Literal["hann", "sqrt_hann"]
Edges = Literal["zeros", "reflect"]
_LONGEST = 2**20


class STFT(nn.Module):
    """Centred STFT: (..., T) real to (..., F, L) complex.

    F = n_fft // 2 + 1 bins and L = 1 + ceil(T / hop) frames, for every T >= 1, between zeros. With edges `reflect` the
    signal is mirrored at either end, and the last frame is the last whose centre lies in it: L = 1 + floor(T / hop), as
    torch.stft and librosa have it by default; a signal too short to be mirrored is filled up with zeros.
    """

    window: Tensor

    def __init__(
        self, n_fft: int = 512, win: int = 400, hop: int = 160, window: Window = "hann", edges: Edges = "zeros"
    ) -> None:
        """Take sizes in samples; ConfigError unless 2 * hop <= win <= n_fft, so that the inverse is exact."""
        super().__init__()
        if not (hop >= 1 and 2 * hop <= win <= n_fft <= _LONGEST and n_fft % 2 == 0):
            found = f"n_fft={n_fft}, win={win}, hop={hop}"
            raise ConfigError(
                f"model.hop: found {found}; expected an even n_fft up to {_LONGEST} and 2 * hop <= win <= n_fft"
            )
        if window not in ("hann", "sqrt_hann"):
            raise ConfigError(f"model.window: unknown window '{window}'; choose from: hann, sqrt_hann")
        if edges not in ("zeros", "reflect"):
            raise ConfigError(f"model.edges: unknown edges '{edges}'; choose from: zeros, reflect")
        self.n_fft, self.win, self.hop, self.edges = n_fft, win, hop, edges
        shape = torch.hann_window(win)
        # The window follows from the settings, so checkpoints need not carry it.
        self.register_buffer("window", shape.sqrt() if window == "sqrt_hann" else shape, persistent=False)

    @property
    def bins(self) -> int:
        """Number of frequency bins F."""
        return self.n_fft // 2 + 1

    def frames(self, length: int) -> int:
        """Number of frames L for a waveform of `length` samples."""
        if self.edges == "reflect":
            return 1 + max(length, self.n_fft // 2 + 1) // self.hop
        return 1 + -(-length // self.hop)

    @property
    def ahead(self) -> int:
        """Samples before the first one at which the window of the first frame begins."""
        return self.n_fft // 2 - (self.n_fft - self.win) // 2

    def missing(self, length: int, waiting: int) -> int:
        """Zeros that complete the last frame of `length` samples, `waiting` of which no frame has left behind."""
        left = self.frames(length) - (length + self.ahead - waiting) // self.hop
        return (left - 1) * self.hop + self.win - waiting if left else 0

    def hear(self, block: Tensor, waiting: Tensor) -> tuple[Tensor, Tensor]:
        """Return the spectra (B, F, L), L >= 0, that a block (B, t) completes, and the samples that wait.

        Before the first block `ahead` zeros wait.
        """
        covered, waiting = framing.cut(waiting, block, self.win, self.hop)
        if not covered.shape[-1]:
            return torch.zeros(len(covered), self.bins, 0, dtype=torch.complex64, device=covered.device), waiting
        left = (self.n_fft - self.win) // 2
        frames = covered.unfold(-1, self.win, self.hop) * self.window  # (B, L, win)
        return torch.fft.rfft(F.pad(frames, (left, self.n_fft - self.win - left))).mT, waiting

    def speak(self, spec: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """Return the waveforms (B, N, L hop) of the next spectra (B, N, F, L), L >= 1, and what follows them.

        `tail` (B, N + 1, win - hop) is what the spectra before gave to the same samples, and the sum of their squared
        windows in the last row.
        """
        left = (self.n_fft - self.win) // 2
        frames = torch.fft.irfft(spec.mT, self.n_fft)[..., left : left + self.win] * self.window  # (B, N, L, win)
        frames = torch.cat([frames, self.window.square().expand_as(frames[:, :1])], 1)
        settled, tail = framing.settle(framing.added(frames, self.hop), tail, spec.shape[-1] * self.hop)
        return framing.over_windows(settled), tail

    def forward(self, x: Tensor) -> Tensor:
        """Return the complex spectrogram (..., F, L) of a waveform (..., T), in float32 or float64."""
        lead, length = x.shape[:-1], x.shape[-1]
        wave = x if x.dtype == torch.float64 else x.float()
        # Up to a whole hop on the right, so that the last sample also lies between two frame centres:
        # otherwise the inverse would divide by the vanishing edge of a single window.
        after, mode = -length % self.hop, "constant"
        if self.edges == "reflect":
            after, mode = max(0, self.n_fft // 2 + 1 - length), "reflect"
        wave = F.pad(wave.reshape(-1, length), (0, after))
        spec = torch.stft(
            wave, self.n_fft, self.hop, self.win, self.window.to(wave.dtype),
            center=True, pad_mode=mode, return_complex=True,
        )  # fmt: skip
        return spec.reshape(*lead, *spec.shape[-2:])

    def inverse(self, spec: Tensor, length: int) -> Tensor:
        """Return the waveform (..., length) whose STFT is nearest in least squares to spec (..., F, L)."""
        lead = spec.shape[:-2]
        flat, window = spec.reshape(-1, *spec.shape[-2:]), self.window.to(spec.real.dtype)
        wave = torch.istft(flat, self.n_fft, self.hop, self.win, window, center=True, length=length)
        return wave.reshape(*lead, length)
