"""Positions in self-attention over frames: learned relative ones, and turns (RoPE, Su et al. 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.models.dense import Dense
from usepcli.models.precision import full_precision


class RelativeKeys(nn.Module):
    """Learned keys (2 * reach, D) for the offset query minus key, clamped to [-reach, reach - 1] frames."""

    def __init__(self, reach: int, dim: int) -> None:
        """Take the largest distance in frames and the size of one head."""
        super().__init__()
        self.reach = reach
        self.weight = nn.Parameter(torch.randn(2 * reach, dim) * 0.02)

    def forward(self, frames: int) -> Tensor:
        """Return the keys (2L - 1, D) of the offsets L-1, ..., 1-L that `skew` expects, L = frames."""
        offsets = torch.arange(frames - 1, -frames, -1, device=self.weight.device)
        return self.weight[offsets.clamp(-self.reach, self.reach - 1) + self.reach]


def skew(x: Tensor) -> Tensor:
    """Return the view out[..., i, j] = x[..., i, j - i + L - 1], shape (..., L, L), of x (..., L, 2L - 1).

    With rows of 2L - 1 numbers stored one after the other, that element lies at
    i (2L - 1) + j - i + L - 1 = (L - 1) + i (2L - 2) + j: reading the same memory from L - 1 on in
    rows of 2L - 2 shifts every row by one more, without a copy.
    """
    size = x.shape[-2]
    if size == 1:
        return x
    rows = x.flatten(-2)[..., size - 1 : size - 1 + size * (2 * size - 2)]
    return rows.unflatten(-1, (size, 2 * size - 2))[..., :size]


class RelativeAttention(nn.Module):
    """Multi-head self-attention whose scores are q_i . (k_j + r_{i-j}) / sqrt(D) (Shaw et al. 2018)."""

    def __init__(self, dim: int, heads: int, dropout: float = 0.0, causal: bool = False) -> None:
        """Take the model size, the number of heads (a divisor of it), and the dropout of the weights."""
        super().__init__()
        self.heads, self.dropout, self.causal = heads, dropout, causal
        self.qkv = Dense(dim, 3 * dim)
        self.out = Dense(dim, dim)

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """Return (B, L, dim) from x (B, L, dim) and relative keys (2L - 1, dim / heads)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, H, L, D)
        bias = skew(q @ (keys * q.shape[-1] ** -0.5).to(q.dtype).t())
        if self.causal:
            size = x.shape[1]
            future = torch.ones(size, size, dtype=torch.bool, device=x.device).triu(1)
            bias = bias.masked_fill(future, float("-inf"))
        elif bias.is_cuda:
            # GPU kernels want rows that start on 16-byte boundaries; the skewed view does not offer that.
            bias = F.pad(bias, (0, -bias.shape[-1] % 8)).contiguous()[..., : bias.shape[-1]]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=self.dropout * self.training)
        return self.out(y.transpose(1, 2).flatten(2))


def turns(dim: int) -> Tensor:
    """Return the angles (dim / 2) in radians by which pairs of numbers turn each step: 1 and less, down to 1e-4.

    Rounded as by 1 / 1e4^(k / dim): a last bit is 1e-7 of an angle, which step after step grows to hundredths in a
    minute, and networks from elsewhere have learned with these.
    """
    return 1.0 / 1e4 ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)


def turned(x: Tensor, angles: Tensor) -> Tensor:
    """Return x (..., steps, D), every pair of numbers turned by its angle (D / 2) times the step, in float32."""
    with full_precision(x):
        angle = torch.arange(x.shape[-2], device=x.device, dtype=torch.float32)[:, None] * angles
        cos, sin = angle.cos(), angle.sin()
        a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)  # (..., steps, D / 2)
        return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)
