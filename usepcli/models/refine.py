"""Conditions that are adapted to the mixture they are asked of (Tzinis et al. 2023, OCT++).

    (d, e) = A gelu(B [mean of h(X); c] ),    tokens' = tokens + d,    c' = c + e

with h(X) the features of a mixture before any word is heard, (tokens, c) a condition, and A of zeros at first: training
begins with the conditions as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from usepcli.models.dense import Dense


class Refine(nn.Module):
    """Changes tokens (B, N, M, D) and wholes (B, N, E) of N conditions by features (B, C, ...) of each mixture."""

    def __init__(self, channels: int, token_dim: int, pooled_dim: int) -> None:
        super().__init__()
        self.token_dim = token_dim
        self.hear = Dense(channels + pooled_dim, 2 * pooled_dim)
        self.change = Dense(2 * pooled_dim, token_dim + pooled_dim)
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)

    def forward(self, features: Tensor, tokens: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Return the changed tokens and wholes, of the shapes they had."""
        heard = features.flatten(2).mean(-1)[:, None].expand(-1, pooled.shape[1], -1)  # (B, N, C)
        change = self.change(nn.functional.gelu(self.hear(torch.cat([heard, pooled], -1))))
        token, whole = change.split([self.token_dim, change.shape[-1] - self.token_dim], -1)
        return tokens + token[:, :, None], pooled + whole
