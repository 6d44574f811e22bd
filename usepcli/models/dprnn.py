"""Dual-path RNN on a learned basis: RNNs within and across half-overlapping chunks (Luo, Chen & Yoshioka 2020).

x <- x + norm(W rnn(x)) along the frames of every chunk, then along the chunks for every place in them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.errors import ConfigError, choices
from usepcli.models.basis import MASKS, Activation, LearnedBasis, MaskActivation, Padding, masks_of
from usepcli.models.precision import full_precision
from usepcli.models.separator import Common, SeparationModel, reject_causal
from usepcli.models.tcn import ChannelNorm, GlobalNorm

Norm = Literal["gln", "channel"]
Rnn = Literal["lstm", "gru", "rnn"]

NORMS: dict[str, Callable[[int], nn.Module]] = {"gln": GlobalNorm, "channel": ChannelNorm}
RNNS: dict[str, Any] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class Path(nn.Module):
    """RNN along the last axis, projection, norm, residual: (B, C, rows, steps) to the same."""

    def __init__(self, dim: int, hidden: int, layers: int, rnn: str, norm: str, both_ways: bool) -> None:
        super().__init__()
        self.rnn = RNNS[rnn](dim, hidden, layers, batch_first=True, bidirectional=both_ways)
        self.out = nn.Linear(hidden * (2 if both_ways else 1), dim)
        self.norm = NORMS[norm](dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return x + norm of the projection of the RNN over the last axis of x (B, C, rows, steps)."""
        y = x.permute(0, 2, 3, 1).flatten(0, 1)  # (B rows, steps, C)
        if x.is_cuda:
            y = self.out(self.rnn(y)[0])
        else:
            # CPU kernels for bfloat16 RNNs do not exist for every size, so autocast stops here.
            with full_precision(x):
                y = self.rnn(y.float())[0]
            y = self.out(y)
        y = y.unflatten(0, (x.shape[0], x.shape[2])).permute(0, 3, 1, 2)
        return x + self.norm(y.flatten(2)).view_as(x)


class DPRNN(SeparationModel):
    """Encoder, dual-path RNN over chunks of frames, one mask per output, decoder.

    `causal` runs the RNN across chunks forwards alone and needs the norm of every frame by itself; the RNN
    within a chunk stays bidirectional, so that the latency is one chunk.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "paper_16": {"kernel": 16, "chunk": 100},
        "small": {
            "kernel": 16, "hidden": 64, "chunk": 100, "repeats": 3, "input_norm": "std", "consistency": "uniform",
        },
        "tiny": {
            "filters": 24, "kernel": 8, "dim": 16, "hidden": 16, "chunk": 12, "repeats": 2,
            "input_norm": "std", "consistency": "uniform",
        },
    }  # fmt: skip

    def __init__(
        self,
        *,
        filters: int = 64,
        kernel: int = 2,
        stride: int = 0,
        padding: Padding = "end",
        activation: Activation = "relu",
        dim: int = 64,
        hidden: int = 128,
        chunk: int = 250,
        chunk_hop: int = 0,
        repeats: int = 6,
        layers: int = 1,
        rnn: Rnn = "lstm",
        bidirectional: bool = True,
        norm: Norm = "gln",
        mask: MaskActivation = "sigmoid",
        **common: Unpack[Common],
    ) -> None:
        """Take sizes: kernel and stride in samples (0: half), chunk and chunk_hop in frames (0: half).

        layers: of each RNN; bidirectional: the RNN across chunks. ConfigError if sizes do not fit.
        """
        super().__init__(hop=stride or kernel // 2, **common)
        _check(norm, mask, rnn, chunk, chunk_hop, self.causal)
        self.chunk, self.chunk_hop, self.mask = chunk, chunk_hop or chunk // 2, mask
        self.basis = LearnedBasis(filters, kernel, stride, activation, padding)
        self.inlet = nn.Sequential(NORMS[norm](filters), nn.Conv1d(filters, dim, 1))
        across = bidirectional and not self.causal
        self.within = nn.ModuleList(Path(dim, hidden, layers, rnn, norm, True) for _ in range(repeats))
        self.across = nn.ModuleList(Path(dim, hidden, layers, rnn, norm, across) for _ in range(repeats))
        self.spread = nn.Sequential(nn.PReLU(), nn.Conv2d(dim, self.n_src * dim, 1))
        self.value, self.gate = nn.Conv1d(dim, dim, 1), nn.Conv1d(dim, dim, 1)
        self.head = nn.Conv1d(dim, filters, 1, bias=False)

    def estimate(self, mix: Tensor) -> Tensor:
        """Return estimates (B, N, T) of the mixture (B, T)."""
        weights = self.basis.analyse(mix)  # (B, filters, L)
        x = self._cut(self.inlet(weights))
        for within, across in zip(self.within, self.across, strict=True):
            x = within(x)
            x = across(x.mT).mT
        x = self.spread(x).unflatten(1, (self.n_src, -1)).flatten(0, 1)  # (B N, dim, chunks, chunk)
        x = self._join(x, weights.shape[-1])  # (B N, dim, L)
        scores = self.head(torch.tanh(self.value(x)) * torch.sigmoid(self.gate(x)))
        scores = scores.unflatten(0, (-1, self.n_src))  # (B, N, filters, L)
        return self.basis.synthesise(masks_of(scores, self.mask) * weights[:, None], mix.shape[-1])

    def _cut(self, x: Tensor) -> Tensor:
        """Return the chunks (B, C, chunks, chunk) of x (B, C, L), with a chunk of zeros before and after it."""
        return F.pad(x, (self.chunk, self.chunk)).unfold(-1, self.chunk, self.chunk_hop)

    def _join(self, x: Tensor, frames: int) -> Tensor:
        """Return the sum (B, C, frames) of overlapping chunks (B, C, chunks, chunk)."""
        columns = x.float().mT.flatten(1, 2)  # (B, C chunk, chunks)
        return F.fold(columns, (frames, 1), (self.chunk, 1), 1, (self.chunk, 0), (self.chunk_hop, 1))[..., 0]

    @property
    def latency_samples(self) -> int:
        """The last chunk that holds a frame reaches chunk - 1 frames further, and the last of them one kernel."""
        return (self.chunk - 1) * self.hop + self.basis.kernel


def _check(norm: str, mask: str, rnn: str, chunk: int, chunk_hop: int, causal: bool) -> None:
    for key, found, known in (("norm", norm, NORMS), ("mask", mask, MASKS), ("rnn", rnn, RNNS)):
        if found not in known:
            raise ConfigError(f"model.{key}: {choices(key, found, known)}")
    if chunk < 2:
        raise ConfigError(f"model.chunk: found {chunk}; expected at least 2 frames")
    if not 0 <= chunk_hop <= chunk:
        raise ConfigError(f"model.chunk_hop: found {chunk_hop}; expected at most the chunk, {chunk} frames")
    if causal and norm == "gln":
        reject_causal("model.norm 'gln', which reads the whole input; set model.norm: channel")
