"""Levels of a U-Net over magnitudes that hears words: residual convolutions, self-attention, attention to tokens.

Sizes are those of the conditional U-Net of weakly supervised text-conditioned separation (Mahmud et al. 2024); its
parameter counts (Table 5) fix what the text leaves open: one convolution in a residual block, query, key and value of
the self-attention in one layer, no norm of the tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.models.dense import Dense


class Words(NamedTuple):
    """What Q forward passes are asked for: tokens (Q, N, D), which of them count (Q, N) or None, whole (Q, E)."""

    tokens: Tensor
    mask: Tensor | None
    pooled: Tensor


class Residual(nn.Module):
    """`count` convolutions over 3x3 bins with batch norm, beside what came in: (Q, C, H, W) to the same."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for k in range(count):
            layers += [nn.LeakyReLU(0.2)] if k else []
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return x with its change added."""
        return F.leaky_relu(x + self.body(x), 0.2)


class Attention(nn.Module):
    """Places (Q, P, C) attend to each other, or to tokens (Q, N, D), and pass a small network; both are added."""

    def __init__(self, width: int, heads: int, mlp_ratio: int, token_dim: int = 0) -> None:
        """Take the tokens' width D, or 0 for places that attend to each other."""
        super().__init__()
        self.heads, self.crossed = heads, token_dim > 0
        self.norm = nn.LayerNorm(width)
        if self.crossed:
            self.ask, self.answer = Dense(width, width), Dense(token_dim, 2 * width)
        else:
            self.both = Dense(width, 3 * width)
        self.project = Dense(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), Dense(width, mlp_ratio * width), nn.GELU(), Dense(mlp_ratio * width, width)
        )

    def forward(self, x: Tensor, words: Words | None = None) -> Tensor:
        """Return (Q, C, H, W) from x of that shape."""
        places = x.flatten(2).mT  # (Q, P, C)
        heard = self.norm(places)
        mask = None
        if self.crossed:
            assert words is not None
            query = self.ask(heard)
            key, value = self.answer(words.tokens.to(heard.dtype)).chunk(2, -1)
            mask = None if words.mask is None else words.mask[:, None, None]  # (Q, 1, 1, N)
        else:
            query, key, value = self.both(heard).chunk(3, -1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value))
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)  # (Q, heads, P, C / heads)
        places = places + self.project(found.transpose(1, 2).flatten(2))
        places = places + self.mlp(places)
        return places.mT.unflatten(-1, x.shape[2:])


class Hearing(nn.Module):
    """Self-attention, then attention to the words, as often as each is asked for, in turns."""

    def __init__(self, width: int, sa: int, ca: int, heads: int, mlp_ratio: int, token_dim: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for k in range(max(sa, ca)):
            if k < sa:
                self.blocks.append(Attention(width, heads, mlp_ratio))
            if k < ca:
                self.blocks.append(Attention(width, heads, mlp_ratio, token_dim))
        self.asks = ca > 0

    def forward(self, x: Tensor, words: Words | None) -> Tensor:
        """Return (Q, C, H, W) from x of that shape."""
        for block in self.blocks:
            x = block(x, words)
        return x


class Down(nn.Module):
    """A level of the encoder: half of the bins and frames, a residual block, what hears."""

    def __init__(self, inputs: int, outputs: int, res_convs: int, hearing: Hearing) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.residual = Residual(outputs, res_convs) if res_convs else nn.Identity()
        self.hearing = hearing

    def forward(self, x: Tensor, words: Words | None) -> Tensor:
        """Return (Q, D, H / 2, W / 2) from x (Q, C, H, W)."""
        x = F.leaky_relu(self.norm(self.conv(x)), 0.2)
        return self.hearing(self.residual(x), words)


class Up(nn.Module):
    """A level of the decoder: what hears, twice the bins and frames, a residual block, a convolution."""

    def __init__(self, inputs: int, outputs: int, res_convs: int, hearing: Hearing, last: bool) -> None:
        super().__init__()
        self.hearing = hearing
        self.residual = Residual(inputs, res_convs) if res_convs else nn.Identity()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=last)
        self.norm = nn.Identity() if last else nn.BatchNorm2d(outputs)
        self.last = last

    def forward(self, x: Tensor, words: Words | None) -> Tensor:
        """Return (Q, D, 2 H, 2 W) from x (Q, C, H, W)."""
        x = F.interpolate(self.hearing(x, words), scale_factor=2, mode="bilinear", align_corners=True)
        x = self.norm(self.conv(self.residual(x)))
        return x if self.last else F.relu(x)
