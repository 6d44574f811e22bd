"""SepReformer: one sequence on the way down, one for each output on the way up (Shin, Lee, Kim & Park 2024).

A learned basis, stages at halved and halved again frames, a split into outputs at every one of them, and stages back
whose outputs hear each other; what they end in is decoded as it is, without masks.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp.parts import Parts
from usepcli.errors import ConfigError, choices
from usepcli.models.attention import RelativeKeys
from usepcli.models.basis import LearnedBasis, Padding
from usepcli.models.dense import Dense, Pointwise
from usepcli.models.mapped import at_least
from usepcli.models.separator import Common, SeparationModel, reject_causal
from usepcli.models.sepreformer_parts import Halve, Split, Stage

Splits = Literal["shared", "each"]

_DOWN, _UP = 2, 3  # rounds of a stage
_DEEPEST = 10


class SepReformer(SeparationModel):
    """Encoder, stages down, one split for every stage or one `shared` by all, stages up, decoder."""

    COMMON: ClassVar[Common] = {"input_norm": "std"}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "base": {"input_norm": "none"},
        "large": {"dim": 256, "dropout": 0.1, "input_norm": "none"},
        "small": {
            "filters": 128, "dim": 48, "heads": 4, "stages": 3, "near": 33, "consistency": "uniform",
        },
        "tiny": {
            "filters": 24, "kernel": 8, "dim": 12, "heads": 2, "stages": 2, "near": 9, "reach": 40, "dropout": 0.0,
            "consistency": "uniform",
        },
    }  # fmt: skip

    def __init__(
        self,
        *,
        filters: int = 256,
        kernel: int = 16,
        stride: int = 4,
        padding: Padding = "end",
        dim: int = 128,
        heads: int = 8,
        stages: int = 4,
        near: int = 65,
        taps: int = 5,
        reach: int = 2000,
        splits: Splits = "shared",
        dropout: float = 0.05,
        **common: Unpack[Common],
    ) -> None:
        """Take sizes: kernel and stride in samples, near and taps of filters and reach of attention in frames.

        stages: how often frames are halved; reach is in frames of the coarsest. ConfigError if sizes do not fit.
        """
        super().__init__(hop=stride, **common)
        if self.causal:
            reject_causal("sepreformer, which reads the whole input; use model.name: convtasnet, preset: causal")
        _check(dim, heads, stages, near, taps, dropout)
        at_least(reach=reach)
        if splits not in ("shared", "each"):
            raise ConfigError(f"model.splits: {choices('kind', splits, ('shared', 'each'))}")
        self.unit = 2**stages
        self.basis = LearnedBasis(filters, kernel, stride, "gelu", padding)
        self.inlet = nn.Sequential(nn.GroupNorm(1, filters, eps=1e-8), Pointwise(filters, dim, bias=False))
        self.keys = RelativeKeys(reach, dim // heads)
        sizes = dim, heads, near, dropout
        self.down = nn.ModuleList(Stage(*sizes, _DOWN, False) for _ in range(stages + 1))
        self.halve = nn.ModuleList(Halve(dim, taps) for _ in range(stages))
        self.splits = nn.ModuleList(Split(dim, self.n_src) for _ in range(stages + 1 if splits == "each" else 1))
        self.fuse = nn.ModuleList(Dense(2 * dim, dim) for _ in range(stages))
        self.up = nn.ModuleList(Stage(*sizes, _UP, True) for _ in range(stages))
        self.head = nn.Sequential(Dense(dim, 4 * dim), nn.GLU(), Dense(2 * dim, filters))
        self.learn_shares(dim)

    def estimate_parts(self, mix: Tensor) -> Parts:
        """Return estimates (B, N, T) of mix (B, T)."""
        heard = self.basis.analyse(mix)  # (B, filters, L)
        frames = heard.shape[-1]
        x = F.pad(self.inlet(heard), (0, -frames % self.unit)).mT[:, None]  # (B, 1, L, dim)
        keys, kept = self.keys(x.shape[2] // self.unit), []
        for k, (stage, halve) in enumerate(zip(self.down, self.halve, strict=False)):
            x = stage(x, keys)
            kept.append(self.splits[k if len(self.splits) > 1 else 0](x))
            x = halve(x)
        core = self.down[-1](x, keys)
        x = self.splits[-1](core)  # (B, N, L / unit, dim)
        for fuse, stage in zip(self.fuse, self.up, strict=True):
            x = stage(fuse(torch.cat([x.repeat_interleave(2, 2), kept.pop()], -1)), keys)
        waves = self.basis.synthesise(self.head(x[:, :, :frames]).mT, mix.shape[-1])
        return Parts(waves, weights=self.shares_of(core))

    @property
    def latency_samples(self) -> int:
        """One basis function, were the stages not to read the whole input."""
        return self.basis.kernel


def _check(dim: int, heads: int, stages: int, near: int, taps: int, dropout: float) -> None:
    at_least(dim=dim, heads=heads)
    if dim % heads:
        raise ConfigError(f"model.heads: found {heads}; expected a divisor of model.dim = {dim}")
    if not 1 <= stages <= _DEEPEST:
        raise ConfigError(f"model.stages: found {stages}; expected 1 to {_DEEPEST}")
    for key, found in (("near", near), ("taps", taps)):
        if found < 1 or found % 2 == 0:
            raise ConfigError(f"model.{key}: found {found}; expected an odd number of frames")
    if not 0 <= dropout < 1:
        raise ConfigError(f"model.dropout: found {dropout}; expected at least 0 and less than 1")
