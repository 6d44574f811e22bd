"""SepFormer: Transformers within and across half-overlapping chunks of a learned basis (Subakan et al. 2021).

x <- x + norm(stack(x)) along the frames of every chunk, then along the chunks for every place in them (their eqs. 3-6);
the stack adds sinusoidal positions first. Every frame lies in two chunks, which are added up before the masks.
"""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp import masks
from usepcli.dsp.masks import RealMask, masks_of
from usepcli.dsp.parts import Parts
from usepcli.errors import ConfigError
from usepcli.models.basis import Activation, LearnedBasis, Padding
from usepcli.models.dense import Dense, Pointwise, dense
from usepcli.models.separator import Common, SeparationModel, reject_causal
from usepcli.models.tcn import GlobalNorm
from usepcli.models.transformer import TransformerStack

# Frames; no weight tells, and attention takes its square.
LONGEST_CHUNK = 10_000


class AttentivePath(nn.Module):
    """Transformer stack along the steps of every row, norm over the whole input, residual."""

    def __init__(self, dim: int, heads: int, ffn: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.stack = TransformerStack(dim, heads, ffn, layers, dropout)
        self.norm = GlobalNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, rows, steps, dim) from x (B, rows, steps, dim)."""
        y = self.stack(x.flatten(0, 1)).view_as(x)
        return x + self.norm(y.flatten(1, 2).mT).mT.unflatten(1, x.shape[1:3])


class SepFormer(SeparationModel):
    """Encoder, dual-path Transformers over chunks of frames, one mask per output, decoder.

    The state dictionary of speechbrain's model of the same settings maps onto this one name by name, convolutions of
    one tap to linear layers. Not causal: both norms and both stacks read the whole input.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "small": {
            "filters": 128, "dim": 64, "heads": 4, "ffn": 256, "layers": 2, "chunk": 100,
            "input_norm": "std", "consistency": "uniform",
        },
        "tiny": {
            "filters": 24, "kernel": 8, "dim": 16, "heads": 2, "ffn": 32, "layers": 1, "chunk": 12,
            "input_norm": "std", "consistency": "uniform",
        },
    }  # fmt: skip

    def __init__(
        self,
        *,
        filters: int = 256,
        kernel: int = 16,
        stride: int = 0,
        padding: Padding = "end",
        activation: Activation = "relu",
        dim: int = 256,
        heads: int = 8,
        ffn: int = 1024,
        layers: int = 8,
        repeats: int = 2,
        chunk: int = 250,
        mask: RealMask = "relu",
        dropout: float = 0.0,
        **common: Unpack[Common],
    ) -> None:
        """Take sizes: kernel and stride in samples (0: half), chunk in frames; layers: of each of 2 repeats stacks.

        ConfigError if sizes do not fit.
        """
        super().__init__(hop=stride or kernel // 2, **common)
        masks.check(mask, masks.REAL)
        _check(dim, heads, chunk, dropout, self.causal)
        self.chunk, self.mask = chunk, mask
        self.basis = LearnedBasis(filters, kernel, stride, activation, padding)
        self.inlet = nn.Sequential(GlobalNorm(filters), Pointwise(filters, dim, bias=False))
        self.within = nn.ModuleList(AttentivePath(dim, heads, ffn, layers, dropout) for _ in range(repeats))
        self.across = nn.ModuleList(AttentivePath(dim, heads, ffn, layers, dropout) for _ in range(repeats))
        self.bend, self.spread = nn.PReLU(), Dense(dim, self.n_src * dim)
        self.value, self.gate = Dense(dim, dim), Dense(dim, dim)
        self.head = Dense(dim, filters, bias=False)
        self.learn_shares(self.n_src * dim)

    def estimate_parts(self, mix: Tensor) -> Parts:
        """Return estimates (B, N, T) of mix (B, T), masks (B, N, filters, L) and weights (B, filters, L)."""
        weights = self.basis.analyse(mix)  # (B, filters, L)
        x = self._cut(self.inlet(weights).mT)  # (B, chunks, chunk, dim)
        for within, across in zip(self.within, self.across, strict=True):
            x = within(x)
            x = across(x.transpose(1, 2)).transpose(1, 2)
        x = self._join(self.bend(x), weights.shape[-1])  # (B, L, dim)
        # A linear layer of a sum is the sum of its outputs, with its bias once for either chunk.
        core = dense(x, self.spread.weight, 2 * self.spread.bias)  # (B, L, N dim)
        y = core.unflatten(-1, (self.n_src, -1))
        y = torch.tanh(self.value(y)) * torch.sigmoid(self.gate(y))
        found = masks_of(self.head(y).permute(0, 2, 3, 1), self.mask)  # (B, N, filters, L)
        return Parts(
            self.basis.synthesise(found * weights[:, None], mix.shape[-1]), found, weights, self.shares_of(core)
        )

    def _cut(self, x: Tensor) -> Tensor:
        """Return chunks (B, chunks, chunk, dim) of frames x (B, L, dim), half a chunk apart.

        Half a chunk of zeros stands before the first frame. After the last one stand as many as complete a chunk, at
        least one zero, and another half: an even number of chunks.
        """
        half = self.chunk // 2
        fill = self.chunk - (half + x.shape[1]) % self.chunk
        return F.pad(x, (0, 0, half, fill + half)).unfold(1, self.chunk, half).mT

    def _join(self, x: Tensor, frames: int) -> Tensor:
        """Return the sums (B, frames, dim) of the two chunks of (B, chunks, chunk, dim) in which each frame lies."""
        first, second = x.float().unflatten(2, (2, -1)).unbind(2)
        return (first[:, 1:] + second[:, :-1]).flatten(1, 2)[:, :frames]

    @property
    def latency_samples(self) -> int:
        """One basis function, were the network not to read the whole input."""
        return self.basis.kernel


def _check(dim: int, heads: int, chunk: int, dropout: float, causal: bool) -> None:
    if heads < 1 or dim % heads or dim % 2 or dim < 2:
        raise ConfigError(f"model.dim: found {dim}; expected an even multiple of model.heads = {heads}")
    if chunk % 2 or not 2 <= chunk <= LONGEST_CHUNK:
        raise ConfigError(f"model.chunk: found {chunk}; expected an even number of frames up to {LONGEST_CHUNK}")
    if not 0 <= dropout < 1:
        raise ConfigError(f"model.dropout: found {dropout}; expected at least 0 and less than 1")
    if causal:
        reject_causal("sepformer, which reads the whole input; use model.name: convtasnet, preset: causal")
