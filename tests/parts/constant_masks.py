"""A network by query whose answers can be written down."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from usepcli.dsp.parts import Parts
from usepcli.dsp.stft import STFT
from usepcli.models.queried import Conditions, QueriedModel


class Constant(QueriedModel):
    """A network whose mask for a phrase is the number that its last word says, times one weight."""

    def __init__(self, input_norm: str = "none") -> None:
        super().__init__(sample_rate=8000, hop=32, input_norm=input_norm)
        self.stft = STFT(64, 64, 32)
        self.weight = nn.Parameter(torch.ones(()))

    def encode(self, queries: Sequence[str]) -> Conditions:
        """Return the numbers (Q,) that the last words say."""
        return (torch.tensor([float(query.split()[-1]) for query in queries]),)

    def estimate_parts(self, mix: Tensor, *conditions: Tensor) -> Parts:
        """Return the mixture (B, T) times each number (B, N)."""
        spectrum = self.stft(mix)
        masks = (self.weight * conditions[0])[..., None, None].expand(-1, -1, *spectrum.shape[1:])
        return Parts(self.stft.inverse(masks * spectrum[:, None], mix.shape[-1]), masks, spectrum)

    def transform(self, wave: Tensor) -> Tensor:
        """Return the spectra (..., F, L) of waves (..., T)."""
        return self.stft(wave)
