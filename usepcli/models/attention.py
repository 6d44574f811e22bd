"""Positions in self-attention over frames: learned relative ones, and turns (RoPE, Su et al. 2021)."""

from __future__ import annotations

from typing import NamedTuple

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

    def forward(self, frames: int, before: int = 0) -> Tensor:
        """Return the keys (P + 2L - 1, D) of offsets P+L-1, ..., 1-L that `skew` expects, L = frames, P = before."""
        offsets = torch.arange(before + frames - 1, -frames, -1, device=self.weight.device)
        return self.weight[offsets.clamp(-self.reach, self.reach - 1) + self.reach]


def skew(x: Tensor) -> Tensor:
    """Return the view out[..., i, j] = x[..., i, j - i + L - 1], shape (..., L, K), of x (..., L, K + L - 1).

    With rows of K + L - 1 numbers stored one after the other, that element lies at
    i (K + L - 1) + j - i + L - 1 = (L - 1) + i (K + L - 2) + j: reading the same memory from L - 1 on in
    rows of K + L - 2 shifts every row by one more, without a copy.
    """
    size, row = x.shape[-2], x.shape[-1] - 1
    if size == 1:
        return x
    rows = x.flatten(-2)[..., size - 1 : size - 1 + size * row]
    return rows.unflatten(-1, (size, row))[..., : row - size + 2]


class Heard(NamedTuple):
    """What attention keeps of the frames that it looks back at; what lies before the first frame is blank."""

    keys: Tensor  # (B, H, P, D)
    values: Tensor  # (B, H, P, D)
    frames: Tensor  # (): how many of the P there have been, int64


class RelativeAttention(nn.Module):
    """Multi-head self-attention whose scores are q_i . (k_j + r_{i-j}) / sqrt(D) (Shaw et al. 2018)."""

    def __init__(self, dim: int, heads: int, dropout: float = 0.0, causal: bool = False, look_back: int = 0) -> None:
        """Take the model size, the number of heads (a divisor of it), and the dropout of the weights.

        causal looks at no frame to come, look_back at no more than so many of those before.
        """
        super().__init__()
        self.heads, self.dropout, self.causal, self.look_back = heads, dropout, causal, look_back
        self.qkv = Dense(dim, 3 * dim)
        self.out = Dense(dim, dim)

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """Return (B, L, dim) from x (B, L, dim) and relative keys (2L - 1, dim / heads)."""
        q, k, v = self._asked(x)
        bias = self._bias(q, keys)
        if self.causal or self.look_back:
            bias = bias.masked_fill(self._out_of_reach(x.shape[1], 0, x.device), float("-inf"))
        if not self.causal and bias.is_cuda:
            # GPU kernels want rows that start on 16-byte boundaries; the skewed view does not offer that.
            bias = F.pad(bias, (0, -bias.shape[-1] % 8)).contiguous()[..., : bias.shape[-1]]
        return self._told(q, k, v, bias)

    def step(self, x: Tensor, keys: Tensor, past: Heard | None = None) -> tuple[Tensor, Heard]:
        """Return the same for the next frames x (B, L, dim), causal, and what is kept of them.

        The relative keys are (P + 2L - 1, D) then, P = look_back.
        """
        q, k, v = self._asked(x)
        if past is None:
            none = k.new_zeros(*k.shape[:2], self.look_back, k.shape[-1])
            past = Heard(none, none, torch.zeros((), dtype=torch.int64, device=x.device))
        frames = x.shape[1]
        k, v = torch.cat([past.keys, k], 2), torch.cat([past.values, v], 2)  # (B, H, P + L, D)
        blank = torch.arange(k.shape[2], device=x.device) < self.look_back - past.frames
        unheard = self._out_of_reach(frames, self.look_back, x.device) | blank
        y = self._told(q, k, v, self._bias(q, keys).masked_fill(unheard, float("-inf")))
        return y, Heard(k[:, :, frames:], v[:, :, frames:], (past.frames + frames).clamp(max=self.look_back))

    def _asked(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, (B, H, L, D) each, of x (B, L, dim)."""
        return self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)  # type: ignore[no-any-return]

    def _bias(self, q: Tensor, keys: Tensor) -> Tensor:
        """Return q_i . r_{i-j} / sqrt(D), (B, H, L, K), of queries (B, H, L, D) and relative keys (K + L - 1, D)."""
        return skew(q @ (keys * q.shape[-1] ** -0.5).to(q.dtype).t())

    def _out_of_reach(self, frames: int, before: int, device: torch.device) -> Tensor:
        """Return which keys (L, P + L) a query may not look at: those to come, and those too far back."""
        at = torch.arange(before + frames, device=device)
        offset = at[before:, None] - at
        future = (offset < 0) & self.causal
        return future | (offset > self.look_back) if self.look_back else future

    def _told(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """Return what is answered (B, L, dim) to queries (B, H, L, D)."""
        if q.device.type == "cpu" and bias.requires_grad and not (self.dropout and self.training):
            # torch has no kernel for biases that learn, and its plain path is slower than these three products.
            scores = torch.baddbmm(bias.flatten(0, 1), q.flatten(0, 1), k.flatten(0, 1).mT, alpha=q.shape[-1] ** -0.5)
            y = torch.bmm(scores.softmax(-1), v.flatten(0, 1)).unflatten(0, (-1, self.heads))
            return self.out(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=self.dropout * self.training)
        return self.out(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


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
