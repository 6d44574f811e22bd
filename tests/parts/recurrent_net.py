"""A new part in one file: a GRU over short frames that lets a share of every sample through, block by block or at once.

The tests register it with one line, as a new model of the package would be.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from usepcli.dsp import framing
from usepcli.models.separator import SeparationModel
from usepcli.models.streaming import silence


class Kept(NamedTuple):
    """What is kept of B streams between two blocks."""

    waiting: Tensor  # (B, p)
    cell: Tensor  # (1, B, hidden)


class RecurrentNet(SeparationModel):
    """Gates in (0, 1) for every sample and output, from a GRU over frames that do not overlap."""

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"small": {}, "tiny": {"hidden": 12}}

    def __init__(
        self, *, n_src: int = 2, sample_rate: int = 8000, win: int = 16, hidden: int = 48, causal: bool = True,
        input_norm: str = "none", consistency: str = "uniform", consistency_when: str = "always",
    ) -> None:  # fmt: skip
        """Take the frame's length in samples and the size of the GRU."""
        super().__init__(
            n_src=n_src, sample_rate=sample_rate, hop=win, causal=causal, input_norm=input_norm,
            consistency=consistency, consistency_when=consistency_when,
        )  # fmt: skip
        self.gru = nn.GRU(win, hidden, batch_first=True)
        self.head = nn.Linear(hidden, n_src * win)

    def estimate(self, mix: Tensor) -> Tensor:
        """Return estimates (B, N, T) of the mixture (B, T)."""
        return self.whole(mix)

    def open(self, batch: int) -> Kept:
        """Return what is kept before the first block."""
        return Kept(silence(self, batch, 0), silence(self, 1, batch, self.gru.hidden_size))

    def advance(self, block: Tensor, kept: Kept) -> tuple[Tensor, Kept]:
        """Return the estimates (B, N, k) of the frames that a block (B, t) completes, and what is kept then."""
        covered, waiting = framing.cut(kept.waiting, block, self.hop, self.hop)
        if not covered.shape[-1]:
            return covered.new_zeros(len(covered), self.n_src, 0), kept._replace(waiting=waiting)
        frames = covered.unflatten(-1, (-1, self.hop))  # (B, L, win)
        y, cell = self.gru(frames, kept.cell)
        gates = torch.sigmoid(self.head(y)).unflatten(-1, (self.n_src, -1))  # (B, L, N, win)
        return (gates * frames[:, :, None]).transpose(1, 2).flatten(2), Kept(waiting, cell)

    def close(self, kept: Kept, heard: int, rest: int) -> Tensor:
        """Return the last `rest` estimates (B, N, rest)."""
        est, _ = self.advance(silence(self, len(kept.waiting), -rest % self.hop), kept)
        return est[..., :rest]
