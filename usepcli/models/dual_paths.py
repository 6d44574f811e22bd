"""What runs along one axis of the chunks of a dual-path network, besides one RNN: (B, C, rows, steps) to the same.

gated (Nachmani, Adi & Wolf 2020)        x + norm(W [P a(x) * Q b(x), x])        a, b: two RNNs
dptnet (Chen, Mao & Liu 2020)            x + norm(LN(y + W relu(rnn(y))))        y = LN(x + attention(x))
dptnet_rows (the same in asteroid)       norm(y + W relu(rnn(y)))                y = norm(x + attention(x)), row by row
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.models.dense import Dense
from usepcli.models.recurrent import recur


def rows_of(x: Tensor) -> Tensor:
    """Return the rows (B rows, steps, C) of x (B, C, rows, steps)."""
    return x.permute(0, 2, 3, 1).flatten(0, 1)


def added(x: Tensor, y: Tensor, norm: nn.Module) -> Tensor:
    """Return x + norm(y) for x (B, C, rows, steps) and y as `rows_of` gives it."""
    y = y.unflatten(0, (x.shape[0], x.shape[2])).permute(0, 3, 1, 2)
    return x + norm(y.flatten(2)).view_as(x)


class GatedPath(nn.Module):
    """Two RNNs whose projections are multiplied, put beside the input and projected; norm, residual."""

    def __init__(self, dim: int, hidden: int, make: Any, norm: nn.Module, both_ways: bool) -> None:
        super().__init__()
        width = hidden * (2 if both_ways else 1)
        self.value, self.gate = make(dim), make(dim)
        self.value_out, self.gate_out = Dense(width, dim), Dense(width, dim)
        self.out = Dense(2 * dim, dim)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Return the path along the last axis of x (B, C, rows, steps)."""
        return self.step(x)[0]

    def step(self, x: Tensor, past: Any = None) -> tuple[Tensor, Any]:
        """Return the same for the next steps x (B, C, rows, steps), and the states of both RNNs after them."""
        rows, before = rows_of(x), past or (None, None)
        value, first = recur(self.value, rows, before[0])
        gate, second = recur(self.gate, rows, before[1])
        y = self.value_out(value) * self.gate_out(gate)
        return added(x, self.out(torch.cat([y, rows], -1)), self.norm), (first, second)


class AttentionPath(nn.Module):
    """Self-attention, then an RNN with a linear layer in the place of the feed-forward; norm, residual."""

    def __init__(self, dim: int, hidden: int, make: Any, norm: nn.Module, both_ways: bool, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inlet, self.outlet = Dense(dim, 3 * dim), Dense(dim, dim)
        self.first: nn.Module = nn.LayerNorm(dim)
        self.second: nn.Module = nn.LayerNorm(dim)
        self.rnn = make(dim)
        self.out = Dense(hidden * (2 if both_ways else 1), dim)
        self.norm = norm

    def along(self, rows: Tensor) -> Tensor:
        """Return what attention and RNN make of rows (S, steps, C)."""
        parts = self.inlet(rows).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        heard = F.scaled_dot_product_attention(*parts.unbind(0)).transpose(1, 2).flatten(2)
        y = self.first(rows + self.outlet(heard))
        found: Tensor = self.second(y + self.out(torch.relu(recur(self.rnn, y)[0])))
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Return the path along the last axis of x (B, C, rows, steps)."""
        return added(x, self.along(rows_of(x)), self.norm)


class RowNorm(nn.Module):
    """A norm over channels and steps of every row: (S, steps, C) to the same."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, rows: Tensor) -> Tensor:
        """Return the normalised rows."""
        y: Tensor = self.norm(rows.mT).mT
        return y


class RowAttentionPath(AttentionPath):
    """The same with a norm over each row behind the attention and behind the RNN, and nothing beside them."""

    def __init__(self, dim: int, hidden: int, make: Any, norm: Any, both_ways: bool, heads: int) -> None:
        """Take sizes, what makes an RNN of a width, and what makes a norm of so many channels."""
        super().__init__(dim, hidden, make, nn.Identity(), both_ways, heads)
        self.first, self.second = RowNorm(norm(dim)), RowNorm(norm(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return the path along the last axis of x (B, C, rows, steps)."""
        return self.along(rows_of(x)).unflatten(0, (x.shape[0], x.shape[2])).permute(0, 3, 1, 2)
