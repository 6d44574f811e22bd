"""Two sequences that attend to themselves and to each other in turn (Rouard, Massa & Défossez 2023, section 3.1).

    layer 0, 2, ...: x <- x + a * A(n(x), n(x)),  y likewise;    layer 1, 3, ...: x <- x + a * A(n(x), m(y)), and y of x
    then in each: x <- g(x + b * W2 gelu(W1 n(x)))

A attention, n and m layer norms, g a norm over all of a sequence, a and b gains of each feature that begin near 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.models.dense import Dense
from usepcli.models.transformer import positions

_GAIN = 1e-4  # of the gains at first
_LONGEST = 10000.0  # the slowest wave of a position takes 2 pi times so many steps


class Attending(nn.Module):
    """Attention to a sequence, its own (`crossed` false) or another, and a feed-forward: (B, L, dim) to the same."""

    def __init__(self, dim: int, heads: int, ffn: int, crossed: bool, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.first = nn.LayerNorm(dim)
        self.other = nn.LayerNorm(dim) if crossed else None
        self.query, self.known, self.out = Dense(dim, dim), Dense(dim, 2 * dim), Dense(dim, dim)
        self.second, self.wide, self.narrow = nn.LayerNorm(dim), Dense(dim, ffn), Dense(ffn, dim)
        self.heard, self.thought = nn.Parameter(torch.full((dim,), _GAIN)), nn.Parameter(torch.full((dim,), _GAIN))
        self.last = nn.GroupNorm(1, dim)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """Return the next features (B, L, dim) of x; other (B, M, dim) is heard by a crossed layer alone."""
        own = self.first(x)
        known = own if self.other is None else self.other(other)
        q = self.query(own).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, L, D)
        k, v = self.known(known).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, H, M, D) each
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout * self.training)
        x = x + self.heard * self._drop(self.out(y.transpose(1, 2).flatten(2)))
        x = x + self.thought * self._drop(self.narrow(self._drop(F.gelu(self.wide(self.second(x))))))
        found: Tensor = self.last(x.mT).mT
        return found

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class CrossTransformer(nn.Module):
    """Frames of bins (B, L, F, dim) and steps of a waveform (B, T, dim), each to the same."""

    def __init__(self, dim: int, heads: int, ffn: int, layers: int, dropout: float = 0.0) -> None:
        """Take the sizes of all layers; dim a multiple of 4 and of heads."""
        super().__init__()
        self.inlets = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.of_bins, self.of_steps = (
            nn.ModuleList(Attending(dim, heads, ffn, bool(k % 2), dropout) for k in range(layers)) for _ in range(2)
        )

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return features of bins and of steps after all layers."""
        frames, bins = x.shape[1:3]
        x = (self.inlets[0](x) + places(frames, bins, x.shape[-1], x.device)).flatten(1, 2)  # (B, L F, dim)
        y = self.inlets[1](y) + waves(y.shape[1], y.shape[-1], y.device)
        for of_bins, of_steps in zip(self.of_bins, self.of_steps, strict=True):
            x, y = of_bins(x, y), of_steps(y, x)
        return x.unflatten(1, (frames, bins)), y


def places(frames: int, bins: int, dim: int, device: torch.device) -> Tensor:
    """Return the positions (frames, bins, dim) of bins: half of the numbers tell the frame, the others the bin."""
    of_frame, of_bin = (positions(count, dim // 2, device) for count in (frames, bins))
    shape = frames, bins, dim // 2
    return torch.cat([of_frame[:, None].expand(shape), of_bin[None].expand(shape)], -1)


def waves(steps: int, dim: int, device: torch.device) -> Tensor:
    """Return the positions (steps, dim) of steps: the cosines of t / 10000^(k / (dim / 2 - 1)), then the sines."""
    rates = _LONGEST ** -(torch.arange(dim // 2, device=device) / (dim // 2 - 1))
    angles = torch.arange(steps, device=device)[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], -1)
