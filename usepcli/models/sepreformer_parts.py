"""Blocks of SepReformer (Shin, Lee, Kim & Park 2024): far and near frames, and outputs that hear each other.

    Far:     x <- x + sigmoid(W n(x)) * up(a * A(n(down(x)))),  A attention with learned relative keys
    Near:    x <- x + a * W2 gelu(b(W1 filter(glu(W n(x)))))
    Among:   x <- x + a * A(n(x)) over the outputs of one frame
    Feed:    x <- x + a * W2 glu(filter(W1 n(x)))    behind each of them

n layer norms, b a norm over the batch, filters along the frames of each feature alone, a gains that begin near 0. Down
takes means of as many frames as a stage has for one of the coarsest, up repeats.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.models.attention import RelativeAttention
from usepcli.models.batch_norm import BatchNorm
from usepcli.models.dense import Dense
from usepcli.models.depthwise import DepthwiseConv

_GAIN = 1e-5  # of a gain at first


class Feed(nn.Module):
    """Feed-forward with a filter of three taps: (R, L, dim) to the same."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.wide, self.narrow = nn.LayerNorm(dim), Dense(dim, 6 * dim), Dense(3 * dim, dim)
        self.filter, self.drop, self.gain = DepthwiseConv(6 * dim, 3), nn.Dropout(dropout), _gain(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return x with what the feed-forward makes of it added."""
        y = self.filter(self.wide(self.norm(x)).mT).mT
        return x + self.gain * self.drop(self.narrow(self.drop(F.glu(y))))


class Far(nn.Module):
    """Attention between the coarsest frames, gated at the finer ones: (R, L, dim) to the same."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(dim), RelativeAttention(dim, heads, dropout)
        self.drop, self.gain = nn.Dropout(dropout), _gain(dim)
        self.gate = nn.Sequential(nn.LayerNorm(dim), Dense(dim, dim), nn.Sigmoid())
        self.feed = Feed(dim, dropout)

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """Return the next x; keys (2M - 1, dim / heads) are those of M frames, a divisor of L."""
        fold = x.shape[1] // ((len(keys) + 1) // 2)
        low = self.norm(x.unflatten(1, (-1, fold)).mean(2))  # (R, M, dim)
        heard = self.gain * self.drop(self.attention(low, keys))
        y: Tensor = self.feed(x + self.gate(x) * heard.repeat_interleave(fold, 1))
        return y


class Near(nn.Module):
    """A filter along the frames: (R, L, dim) to the same."""

    def __init__(self, dim: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.inlet = nn.Sequential(nn.LayerNorm(dim), Dense(dim, 2 * dim), nn.GLU())
        self.filter, self.wide, self.norm = DepthwiseConv(dim, kernel), Dense(dim, 2 * dim), BatchNorm(2 * dim)
        self.narrow, self.drop, self.gain = Dense(2 * dim, dim), nn.Dropout(dropout), _gain(dim)
        self.feed = Feed(dim, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the next x."""
        y = self.wide(self.filter(self.inlet(x).mT).mT)
        y = self.narrow(F.gelu(self.norm(y.mT)).mT)
        found: Tensor = self.feed(x + self.gain * self.drop(y))
        return found


class Among(nn.Module):
    """Attention between the outputs of one frame: (B, N, L, dim) to the same."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm, self.qkv, self.out = nn.LayerNorm(dim), Dense(dim, 3 * dim), Dense(dim, dim)
        self.drop, self.gain = nn.Dropout(dropout), _gain(dim)
        self.feed = Feed(dim, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the next x."""
        own = self.norm(x.transpose(1, 2))  # (B, L, N, dim)
        q, k, v = self.qkv(own).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)  # (B, L, H, N, D) each
        heard = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout * self.training)
        x = x + self.gain * self.drop(self.out(heard.transpose(2, 3).flatten(3))).transpose(1, 2)
        y: Tensor = self.feed(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return y


class Stage(nn.Module):
    """Rounds of far, near and, where outputs are apart already, among: (B, N, L, dim) to the same."""

    def __init__(self, dim: int, heads: int, kernel: int, dropout: float, rounds: int, among: bool) -> None:
        super().__init__()
        self.far = nn.ModuleList(Far(dim, heads, dropout) for _ in range(rounds))
        self.near = nn.ModuleList(Near(dim, kernel, dropout) for _ in range(rounds))
        self.among = nn.ModuleList(Among(dim, heads, dropout) for _ in range(rounds if among else 0))

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """Return the next x; keys as `Far` takes them."""
        for k, (far, near) in enumerate(zip(self.far, self.near, strict=True)):
            x = near(far(x.flatten(0, 1), keys)).unflatten(0, x.shape[:2])
            x = self.among[k](x) if self.among else x
        return x


class Halve(nn.Module):
    """Every second frame of a filter of five taps, normed, GELU: (B, N, L, dim) to (B, N, L / 2, dim)."""

    def __init__(self, dim: int, taps: int) -> None:
        super().__init__()
        self.filter = nn.Conv1d(dim, dim, taps, 2, (taps - 1) // 2, groups=dim)
        self.norm = BatchNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return half as many frames."""
        return F.gelu(self.norm(self.filter(x.flatten(0, 1).mT))).mT.unflatten(0, x.shape[:2])


class Split(nn.Module):
    """One sequence for each output, normed: (B, 1, L, dim) to (B, N, L, dim)."""

    def __init__(self, dim: int, n_src: int) -> None:
        super().__init__()
        self.n_src = n_src
        self.body = nn.Sequential(
            Dense(dim, 4 * n_src * dim), nn.GLU(), Dense(2 * n_src * dim, n_src * dim)
        )  # fmt: skip
        self.norm = nn.GroupNorm(1, dim, eps=1e-8)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs' sequences."""
        y = self.body(x[:, 0]).unflatten(-1, (self.n_src, -1)).transpose(1, 2)  # (B, N, L, dim)
        return self.norm(y.flatten(0, 1).mT).mT.unflatten(0, y.shape[:2])


def _gain(dim: int) -> nn.Parameter:
    return nn.Parameter(torch.full((dim,), _GAIN))
