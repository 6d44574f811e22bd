"""Learned analysis and synthesis bases on short overlapping frames (Luo & Mesgarani 2019)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.errors import ConfigError
from usepcli.models.precision import full_precision


class LearnedBasis(nn.Module):
    """Encoder conv + ReLU and decoder transposed conv with half-overlapping frames, both without bias."""

    def __init__(self, filters: int, kernel: int) -> None:
        """Take the number of filters and their even length in samples; hop is half of it."""
        super().__init__()
        if kernel < 2 or kernel % 2:
            raise ConfigError(f"model.kernel: found {kernel}; expected an even number of samples")
        self.kernel, self.hop = kernel, kernel // 2
        self.encoder = nn.Conv1d(1, filters, kernel, self.hop, bias=False)
        self.decoder = nn.ConvTranspose1d(filters, 1, kernel, self.hop, bias=False)

    def analyse(self, mix: Tensor) -> Tensor:
        """Return weights (B, filters, L) >= 0 of the mixture (B, T), in float32 under autocast too."""
        length = mix.shape[-1]
        missing = max(self.kernel - length, 0) or -(length - self.kernel) % self.hop
        with full_precision(mix):
            return torch.relu(self.encoder(F.pad(mix, (0, missing))[:, None]))

    def synthesise(self, weights: Tensor, length: int) -> Tensor:
        """Return waveforms (B, N, length) of the weights (B, N, filters, L)."""
        # A bfloat16 waveform would carry its own noise 50 dB down, so autocast stops here.
        with full_precision(weights):
            wave = self.decoder(weights.float().flatten(0, 1))[:, 0, :length]
        return wave.unflatten(0, weights.shape[:2])
