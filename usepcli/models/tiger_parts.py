"""Parts of TIGER: filters at several resolutions that select from each other, and attention over whole slices."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.models.dense import Dense, Pointwise
from usepcli.models.slabs import in_slabs
from usepcli.models.sudormrf_parts import Filtered
from usepcli.models.tcn import GlobalNorm

# Steps of all rows together that run through the filters at once.
_SLAB_STEPS = 2048


class Lone(nn.Module):
    """One filter without bias per channel: (S, C, L) to the same; of a single tap a product, not a convolution."""

    def __init__(self, channels: int, taps: int) -> None:
        super().__init__()
        bound = taps**-0.5
        self.weight = nn.Parameter(torch.empty(channels, taps).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Return the filtered x (S, C, L)."""
        taps = self.weight.shape[1]
        if taps == 1:
            return x * self.weight
        return F.conv1d(x, self.weight[:, None], padding=taps // 2, groups=len(self.weight))


class Select(nn.Module):
    """own(fine) sigmoid(gate(other)) + value(other), each a depthwise filter and a norm, `other` stretched to fit."""

    def __init__(self, channels: int, taps: int) -> None:
        super().__init__()
        self.own, self.gate, self.value = (
            nn.Sequential(Lone(channels, taps), GlobalNorm(channels)) for _ in range(3)
        )  # fmt: skip

    def forward(self, fine: Tensor, other: Tensor) -> Tensor:
        """Return (S, C, L) from fine (S, C, L) and other (S, C, any)."""
        gate, value = (
            F.interpolate(part, size=fine.shape[-1])
            for part in (torch.sigmoid(self.gate(other)), self.value(other))
        )  # fmt: skip
        y: Tensor = self.own(fine) * gate + value
        return y


class MultiScale(nn.Module):
    """1x1 expansion, filters at 1, 1/2, 1/4, ... of the steps, one summary of all, selection, 1x1 back, residual.

    The coarsest resolution speaks through the summary alone, and the selection begins with that third from the end.
    """

    def __init__(self, dim: int, hidden: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.widen = nn.Sequential(Pointwise(dim, hidden), GlobalNorm(hidden), nn.PReLU())
        self.filters = nn.ModuleList(Filtered(hidden, 2 if level else 1) for level in range(depth))
        self.summary = nn.Sequential(
            Pointwise(hidden, hidden, bias=False), GlobalNorm(hidden),
            nn.Conv1d(hidden, hidden, 5, padding=2, groups=hidden), nn.ReLU(), nn.Dropout(dropout),
            Pointwise(hidden, hidden, bias=False), GlobalNorm(hidden), nn.Dropout(dropout),
        )  # fmt: skip
        self.informed = nn.ModuleList(Select(hidden, 1) for _ in range(depth - 1))
        self.merged = nn.ModuleList(Select(hidden, 5) for _ in range(depth - 1))
        self.narrow = Pointwise(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return rows (S, L, dim) from rows x (S, L, dim), each by itself."""
        return in_slabs(lambda slab: slab + self._run(slab.mT).mT, x, _SLAB_STEPS)

    def _run(self, x: Tensor) -> Tensor:
        levels = [self.filters[0](self.widen(x))]  # (S, hidden, L)
        for layer in self.filters[1:]:
            levels.append(layer(levels[-1]))
        size = levels[-1].shape[-1]
        summary = self.summary(torch.stack([F.adaptive_avg_pool1d(level, size) for level in levels]).sum(0))
        informed = [select(level, summary) for select, level in zip(self.informed, levels[:-1], strict=True)]
        y = informed[-2]
        for select, level in zip(reversed(self.merged), reversed(informed), strict=True):
            y = select(level, y)
        narrowed: Tensor = self.narrow(y)
        return narrowed


class HeadNorm(nn.Module):
    """One slope and one layer norm for each head: (..., heads, C) to the same."""

    def __init__(self, heads: int, channels: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.full((heads, 1), 0.25))
        self.weight, self.bias = nn.Parameter(torch.ones(heads, channels)), nn.Parameter(torch.zeros(heads, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the bent and normalised x."""
        x = x.clamp_min(0) + self.slope * x.clamp_max(0)
        return F.layer_norm(x, x.shape[-1:]) * self.weight + self.bias


class SliceAttention(nn.Module):
    """Self-attention between the slices of a plane, each with all it holds along the other axis, and a residual."""

    def __init__(self, dim: int, heads: int, key: int) -> None:
        """Take the channels, a number of heads that divides them, and the key's numbers per head and step."""
        super().__init__()
        self.heads, self.sizes = heads, [heads * key, heads * key, dim]
        self.enter = Dense(dim, sum(self.sizes))
        self.query, self.key, self.value = HeadNorm(heads, key), HeadNorm(heads, key), HeadNorm(heads, dim // heads)
        self.leave = nn.Sequential(Dense(dim, dim), nn.PReLU(), nn.LayerNorm(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, slices, steps, dim) from x (B, slices, steps, dim)."""
        parts = self.enter(x).split(self.sizes, -1)
        norms = (self.query, self.key, self.value)
        # All that a head has of a slice is one vector: (B, heads, slices, steps C).
        q, k, v = (
            norm(part.unflatten(-1, (self.heads, -1))).permute(0, 3, 1, 2, 4).flatten(3)
            for norm, part in zip(norms, parts, strict=True)
        )
        y = F.scaled_dot_product_attention(q, k, v)
        y = y.unflatten(-1, (x.shape[2], -1)).permute(0, 2, 3, 1, 4).flatten(3)  # (B, slices, steps, dim)
        left: Tensor = x + self.leave(y)
        return left


class InterleavedPath(nn.Module):
    """Filters along the steps of every row, attention between the steps with all rows, norm, residual."""

    def __init__(self, dim: int, hidden: int, depth: int, heads: int, key: int, dropout: float) -> None:
        super().__init__()
        self.filters = MultiScale(dim, hidden, depth, dropout)
        self.attention = SliceAttention(dim, heads, key)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, rows, steps, dim) from x (B, rows, steps, dim)."""
        y = self.filters(x.flatten(0, 1)).view_as(x)
        y = self.attention(y.transpose(1, 2)).transpose(1, 2)
        normed: Tensor = x + self.norm(y)
        return normed
