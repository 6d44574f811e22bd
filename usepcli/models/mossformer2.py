"""MossFormer2: gated attention, near and far, and recurrence without recurrent layers (Zhao et al. 2024).

Masks on a learned basis from layers, each of two halves, over frames x (L, C). With P(x) = d(silu(W norm(x))), d a
short depthwise convolution added to its input,

    (v, u) = P(x'),  q_1, q_2, k_1, k_2 = gains and offsets of P(x'),    x' = x with half its channels a frame late,
    A y = relu(q_1 k_1^t / g)^2 y within groups of g frames + q_2 (k_2^t y) / L over all of them,
    x <- x + P((A u) v sigmoid((A v) u)),

and then, with z = LN(prelu(W x)) of fewer channels and M a dense pair of long depthwise filters, the second dilated,

    x <- x + W LN(z + P(z) (P(z) + M(W relu(W P(z))))).

Queries and keys are turned by their position (RoPE) in a quarter of their numbers. Both parts of A cost linearly many
operations in the length of the input.
"""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp import masks
from usepcli.dsp.masks import RealMask, masks_of
from usepcli.dsp.parts import Parts
from usepcli.errors import ConfigError, choices
from usepcli.models.attention import turned, turns
from usepcli.models.basis import LearnedBasis, Padding
from usepcli.models.dense import Dense, Pointwise
from usepcli.models.depthwise import planes
from usepcli.models.mapped import at_least
from usepcli.models.separator import Common, SeparationModel, reject_causal
from usepcli.models.tcn import GlobalNorm


class Filter(nn.Module):
    """One filter per channel over frames, without bias, to equal length: (B, L, C) to the same."""

    def __init__(self, channels: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, kernel).uniform_(-(kernel**-0.5), kernel**-0.5))
        self.dilation = dilation

    def forward(self, x: Tensor) -> Tensor:
        """Return the filtered (B, L, C) of x (B, L, C)."""
        half = self.weight.shape[1] // 2
        return planes(x, self.weight, None, half, half, self.dilation)


class UnitLength(nn.Module):
    """Divides every frame by the root mean square of its channels, one gain for all: (..., C) to the same."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised (..., C) of x (..., C), in float32."""
        x = x.float()
        rms = torch.linalg.vector_norm(x, dim=-1, keepdim=True) * x.shape[-1] ** -0.5
        return x / rms.clamp_min(1e-5) * self.weight


class Pass(nn.Module):
    """Norm, product, silu, short filter added to its input: (B, L, inputs) to (B, L, outputs)."""

    def __init__(self, norm: nn.Module, inputs: int, outputs: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.point = norm, Dense(inputs, outputs)
        self.filter, self.drop = Filter(outputs, kernel), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, L, outputs) from x (B, L, inputs)."""
        y = F.silu(self.point(self.norm(x)))
        return self.drop(y + self.filter(y))  # type: ignore[no-any-return]


class GatedAttention(nn.Module):
    """One head that hears its group of frames by squares and all frames by sums, gated, residual."""

    turns: Tensor

    def __init__(self, dim: int, keys: int, group: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.group, self.drop = group, nn.Dropout(dropout)
        self.hidden = Pass(UnitLength(), dim, 4 * dim, kernel, dropout)
        self.asking = Pass(UnitLength(), dim, keys, kernel, dropout)
        self.gain = nn.Parameter(0.02 * torch.randn(4, keys))
        self.offset = nn.Parameter(torch.zeros(4, keys))
        self.out = Pass(UnitLength(), 2 * dim, dim, kernel, dropout)
        self.register_buffer("turns", turns(keys // 4), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, L, C) from x (B, L, C)."""
        late, now = x.chunk(2, -1)
        y = torch.cat([F.pad(late, (0, 0, 1, -1)), now], -1)
        hidden = self.hidden(y)  # (B, L, 4 C): v beside u
        heard_v, heard_u = self._hear(self.asking(y), hidden).chunk(2, -1)
        v, u = hidden.chunk(2, -1)
        return x + self.out(heard_u * v * torch.sigmoid(heard_v * u))  # type: ignore[no-any-return]

    def _hear(self, asking: Tensor, hidden: Tensor) -> Tensor:
        """Return what every frame hears of hidden (B, L, D), given asking (B, L, K)."""
        frames = hidden.shape[1]
        views = asking.float()[:, None] * self.gain[:, None] + self.offset[:, None]  # (B, 4, L, K)
        turning = 2 * self.turns.shape[0]
        views = torch.cat([turned(views[..., :turning], self.turns), views[..., turning:]], -1).to(hidden.dtype)
        near_q, far_q, near_k, far_k = views.unbind(1)
        far = far_q @ (far_k.mT @ (hidden / frames))
        return self._near(near_q, near_k, hidden) + far

    def _near(self, q: Tensor, k: Tensor, hidden: Tensor) -> Tensor:
        """Return what every frame hears of its group. Zeros that fill the last one have nothing to say."""
        frames = hidden.shape[1]
        fill = -frames % self.group
        q, k, said = (F.pad(x, (0, 0, 0, fill)).unflatten(1, (-1, self.group)) for x in (q, k, hidden))
        weights = self.drop(torch.relu(q @ k.mT / self.group).square())  # (B, groups, g, g)
        return (weights @ said).flatten(1, 2)[:, :frames]


class FilterNorm(nn.Module):
    """Long filters, then norm of each channel over all frames and PReLU: (B, L, C) a part to (B, L, C)."""

    def __init__(self, channels: int, parts: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.filters = nn.ModuleList(Filter(channels, kernel, dilation) for _ in range(parts))
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.slope = nn.Parameter(torch.full((channels,), 0.25))

    def forward(self, *parts: Tensor) -> Tensor:
        """Return (B, L, C) from as many parts (B, L, C) as there are filters for each channel."""
        y = sum(f(x).float() for f, x in zip(self.filters, parts, strict=True))
        assert isinstance(y, Tensor)
        var, mean = torch.var_mean(y, 1, correction=0, keepdim=True)
        y = (y - mean) * (var + 1e-5).rsqrt() * self.weight + self.bias
        return torch.where(y < 0, y * self.slope, y)


class Memory(nn.Module):
    """Two long filters in a row instead of a recurrence, gated, on fewer channels: (B, L, C) to the same, residual."""

    def __init__(self, dim: int, width: int, kernel: int, memory: int, dropout: float) -> None:
        super().__init__()
        self.inlet = nn.Sequential(Dense(dim, width), nn.PReLU(), nn.LayerNorm(width))
        self.value, self.gate = (Pass(nn.LayerNorm(width), width, width, kernel, dropout) for _ in range(2))
        self.into = nn.Sequential(Dense(width, width), nn.ReLU(), Dense(width, width, bias=False))
        self.first, self.second = FilterNorm(width, 1, memory, 1), FilterNorm(width, 2, memory, 2)
        self.out = nn.Sequential(nn.LayerNorm(width), Dense(width, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, L, C) from x (B, L, C)."""
        z = self.inlet(x)
        value = self.value(z)
        into = self.into(value)
        # Filter c of the second pair takes channels 2c and 2c + 1 of the first's output with its input behind it.
        pairs = torch.cat([self.first(into), into.float()], -1).unflatten(-1, (-1, 2)).unbind(-1)
        value = value + self.second(*(part.contiguous() for part in pairs))
        return x + self.out(z + self.gate(z) * value)  # type: ignore[no-any-return]


class MossFormer2(SeparationModel):
    """Encoder, layers of gated attention and memory, one mask per output, decoder; the defaults are as published."""

    rates: Tensor

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "small": {
            "filters": 128, "dim": 96, "layers": 6, "keys": 64, "width": 64, "dropout": 0.0,
            "input_norm": "std", "consistency": "uniform",
        },
        "tiny": {
            "filters": 32, "dim": 16, "layers": 2, "keys": 16, "group": 20, "width": 8, "block_kernel": 5, "memory": 7,
            "dropout": 0.0, "input_norm": "std", "consistency": "uniform",
        },
    }  # fmt: skip

    def __init__(
        self,
        *,
        filters: int = 512,
        kernel: int = 16,
        stride: int = 0,
        padding: Padding = "end",
        dim: int = 512,
        layers: int = 24,
        keys: int = 128,
        group: int = 256,
        width: int = 256,
        block_kernel: int = 17,
        memory: int = 39,
        dropout: float = 0.1,
        mask: RealMask = "relu",
        **common: Unpack[Common],
    ) -> None:
        """Take kernel and stride in samples (0: half), group, block_kernel, memory in frames; or ConfigError."""
        super().__init__(hop=stride or kernel // 2, **common)
        if self.causal:
            reject_causal("mossformer2, which reads the whole input; use model.name: convtasnet, preset: causal")
        at_least(filters=filters, layers=layers, group=group, width=width)
        _check(dim, keys, block_kernel, memory, mask)
        self.mask = mask
        self.basis = LearnedBasis(filters, kernel, stride, "relu", padding)
        self.inlet = nn.Sequential(GlobalNorm(filters), Pointwise(filters, dim, bias=False))
        self.place = nn.Parameter(torch.ones(1))
        self.register_buffer("rates", turns(dim), persistent=False)
        self.attention = nn.ModuleList(GatedAttention(dim, keys, group, block_kernel, dropout) for _ in range(layers))
        self.memory = nn.ModuleList(Memory(dim, width, block_kernel, memory, dropout) for _ in range(layers))
        self.last, self.level = nn.LayerNorm(dim, eps=1e-6), GlobalNorm(dim)
        self.spread = nn.Sequential(nn.PReLU(), Pointwise(dim, self.n_src * dim))
        self.value, self.gate = Pointwise(dim, dim), Pointwise(dim, dim)
        self.head = Pointwise(dim, filters, bias=False)
        self.learn_shares(dim)

    def estimate_parts(self, mix: Tensor) -> Parts:
        """Return estimates (B, N, T) of mix (B, T), masks (B, N, filters, L) and weights (B, filters, L)."""
        weights = self.basis.analyse(mix)  # (B, filters, L)
        core = self._core(self.inlet(weights))
        x = self.spread(core).unflatten(1, (self.n_src, -1)).flatten(0, 1)  # (B N, dim, L)
        scores = self.head(torch.tanh(self.value(x)) * torch.sigmoid(self.gate(x)))
        found = masks_of(scores.unflatten(0, (-1, self.n_src)), self.mask)  # (B, N, filters, L)
        est = self.basis.synthesise(found * weights[:, None], mix.shape[-1])
        return Parts(est, found, weights, self.shares_of(core.mT))

    def _core(self, x: Tensor) -> Tensor:
        """Return features (B, dim, L) of x (B, dim, L)."""
        x = x.float().mT
        angle = torch.arange(x.shape[1], device=x.device, dtype=x.dtype)[:, None] * self.rates
        x = x + self.place * torch.cat([angle.sin(), angle.cos()], -1)
        y = x
        for attention, memory in zip(self.attention, self.memory, strict=True):
            y = memory(attention(y))
        return x.mT + self.level(self.last(y).mT)  # type: ignore[no-any-return]


def _check(dim: int, keys: int, block_kernel: int, memory: int, mask: str) -> None:
    for key, found, of in (("dim", dim, 2), ("keys", keys, 8)):
        if found < 1 or found % of:
            raise ConfigError(f"model.{key}: found {found}; expected a multiple of {of}")
    for key, found in (("block_kernel", block_kernel), ("memory", memory)):
        if found < 1 or found % 2 == 0:
            raise ConfigError(f"model.{key}: found {found}; expected an odd number of frames")
    if mask not in masks.REAL:
        raise ConfigError(f"model.mask: {choices('mask', mask, masks.REAL)}")
