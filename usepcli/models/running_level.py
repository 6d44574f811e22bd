"""Frames at one level, whatever that of the recording, for models that may not hear ahead.

    y_l = x_l / sqrt(sum_{j <= l} k^(l - j) p_j / sum_{j <= l} k^(l - j)),      p_j = mean_f x_{j f}^2
The level of the frames so far, older ones counting less: what `input_norm` does with the level of the whole input.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

BLOCK = 256  # frames that one product takes; more would cost more arithmetic, fewer more calls


class Heard(NamedTuple):
    """What is kept of the past, in float64."""

    weight: Tensor  # (): weights of the frames
    power: Tensor  # (B,): weighted sum of their powers


class RunningLevel(nn.Module):
    """Divides frames (B, L, F) by the running level of them all: a frame `memory` frames ago counts 1/e."""

    def __init__(self, memory: float) -> None:
        super().__init__()
        self.keep = math.exp(-1 / memory)

    def forward(self, x: Tensor) -> Tensor:
        """Return the levelled frames (B, L, F) of x (B, L, F)."""
        return self.step(x)[0]

    def step(self, x: Tensor, past: Heard | None = None) -> tuple[Tensor, Heard]:
        """Return the next frames x (B, L, F) levelled, and what is kept then; silence stays silent."""
        power = x.square().mean(-1, dtype=torch.float64)  # (B, L)
        if past is None:
            past = Heard(power.new_zeros(()), power.new_zeros(len(power)))
        if not power.shape[-1]:
            return x, past
        levels = []
        for block in power.split(BLOCK, -1):
            age = torch.arange(block.shape[-1], device=x.device, dtype=torch.float64)
            weights = (self.keep ** (age[:, None] - age)).tril()  # (l, j): of frame j at frame l
            old = self.keep ** (age + 1)
            sums = block @ weights.mT + old * past.power[:, None]
            counts = weights.sum(-1) + old * past.weight
            levels.append(sums / counts)
            past = Heard(counts[-1], sums[:, -1])
        level = torch.cat(levels, -1).sqrt().clamp_min(torch.finfo(torch.float32).tiny)
        return x / level.to(x.dtype)[..., None], past
