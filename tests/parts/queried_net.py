"""A small mask network that is asked in words: what a new model by query takes is this file and a line in a registry.

    e_n = iSTFT( sigmoid(W relu(g_n * h(|X|) + b_n)) X ),   (g_n, b_n) = A c(q_n)

with c(q) the mean of learned vectors of the query's words, found by a hash of each word.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from usepcli.dsp.stft import STFT
from usepcli.models.queried import Conditions, QueriedModel


class QueriedNet(QueriedModel):
    """One mask for each query from log magnitudes, modulated by the words."""

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"tiny": {"width": 12, "n_fft": 64}}

    def __init__(
        self, width: int = 24, n_fft: int = 128, words: int = 64, sample_rate: int = 8000, input_norm: str = "std"
    ) -> None:
        super().__init__(sample_rate=sample_rate, hop=n_fft // 2, input_norm=input_norm)
        self.stft = STFT(n_fft, n_fft, n_fft // 2)
        self.words = nn.Embedding(words, width)
        self.hear = nn.Conv1d(self.stft.bins, width, 3, padding=1)
        self.turn = nn.Linear(width, 2 * width)
        self.mask = nn.Conv1d(width, self.stft.bins, 1)

    def encode(self, queries: Sequence[str]) -> Conditions:
        """Return one vector for each query, (Q, width)."""
        places = [[zlib.crc32(w.encode()) % self.words.num_embeddings for w in q.split() or [""]] for q in queries]
        device = self.words.weight.device
        return (torch.stack([self.words(torch.tensor(p, device=device)).mean(0) for p in places]),)

    def estimate(self, mix: Tensor, *conditions: Tensor) -> Tensor:
        """Return estimates (B, N, T) of the mixture (B, T) for vectors (B, N, width)."""
        spectrum = self.stft(mix)  # (B, F, L)
        heard = self.hear(torch.log1p(spectrum.abs()))[:, None]  # (B, 1, width, L)
        gain, bias = self.turn(conditions[0])[..., None].chunk(2, 2)  # (B, N, width, 1) each
        turned = torch.relu((1 + gain) * heard + bias)  # (B, N, width, L)
        mask = torch.sigmoid(self.mask(turned.flatten(0, 1))).unflatten(0, turned.shape[:2])  # (B, N, F, L)
        return self.stft.inverse(mask * spectrum[:, None], mix.shape[-1])
