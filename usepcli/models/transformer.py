"""Transformer stacks over many short sequences (Vaswani et al. 2017, norms before the layers as in Xiong et al. 2020).

x <- x + A(norm(x)), x <- x + W2 relu(W1 norm(x)), layer by layer, then one more norm. No sequence knows of another, so
that a stack takes as many at a time as fit the processor's cache: the memory does not grow with their number.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.models.dense import Dense
from usepcli.models.slabs import in_slabs

EPS = 1e-6

# Steps of all sequences together that run through a stack at once.
_SLAB_STEPS = 4096


class TransformerLayer(nn.Module):
    """Self-attention and feed-forward, each after a layer norm and beside a residual: (S, L, dim) to the same."""

    def __init__(self, dim: int, heads: int, ffn: int, dropout: float = 0.0) -> None:
        """Take the model size, a number of heads that divides it, the hidden size of the feed-forward, and dropout."""
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.first, self.second = nn.LayerNorm(dim, EPS), nn.LayerNorm(dim, EPS)
        self.qkv, self.out = Dense(dim, 3 * dim), Dense(dim, dim)
        self.wide, self.narrow = Dense(dim, ffn), Dense(ffn, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return the next layer's input (S, L, dim)."""
        q, k, v = self.qkv(self.first(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (S, H, L, D)
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout * self.training)
        x = x + self._drop(self.out(y.transpose(1, 2).flatten(2)))
        return x + self._drop(self.narrow(self._drop(torch.relu_(self.wide(self.second(x))))))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class TransformerStack(nn.Module):
    """Positions, layers, norm: sequences (S, L, dim) to the same."""

    def __init__(self, dim: int, heads: int, ffn: int, layers: int, dropout: float = 0.0) -> None:
        """Take the sizes of all `layers`; dim even, a multiple of heads."""
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(dim, heads, ffn, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim, EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Return (S, L, dim) from sequences x (S, L, dim), each by itself."""
        where = positions(x.shape[1], x.shape[2], x.device)
        return in_slabs(lambda slab: self._run(slab + where), x, _SLAB_STEPS)

    def _run(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        normed: Tensor = self.norm(x)
        return normed


def positions(steps: int, dim: int, device: torch.device) -> Tensor:
    """Return the (steps, dim) of sin and cos of t / 10000^(2i / dim), in turn (Vaswani et al. 2017, 3.5)."""
    rates = torch.exp(torch.arange(0, dim, 2, device=device) * (-math.log(10000.0) / dim))
    angles = torch.arange(steps, device=device)[:, None] * rates  # (steps, dim / 2)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
