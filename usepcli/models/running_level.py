"""Frames at one level, whatever that of the recording, for models that may not hear ahead.

    y_l = x_l / sqrt(sum_{j <= l} k^(l - j) p_j / sum_{j <= l} k^(l - j)),      p_j = mean_f x_{j f}^2
The level of the frames so far, older ones counting less: what `input_norm` does with the level of the whole input.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEMORY_S = 10.0  # of the level that `levelled` models hear
BLOCK = 256  # frames that one product takes; more would cost more arithmetic, fewer more calls


class Heard(NamedTuple):
    """What is kept of the past, in float64."""

    weight: Tensor  # (): weights of the frames
    power: Tensor  # (B,): weighted sum of their powers


class RunningLevel(nn.Module):
    """Divides frames (B, L, F) by the running level of them all: a frame `memory` frames ago counts 1/e.

    In blocks: a sum is that of its block so far, and what the blocks before it left. No loop goes along the frames, so
    that a graph for any length can be made of it.
    """

    weights: Tensor

    def __init__(self, memory: float) -> None:
        super().__init__()
        self.keep = math.exp(-1 / memory)
        self.register_buffer("weights", self._decay(BLOCK, self.keep), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the levelled frames (B, L, F) of x (B, L, F)."""
        return self.step(x)[0]

    def step(self, x: Tensor, past: Heard | None = None) -> tuple[Tensor, Heard]:
        """Return the next frames x (B, L, F) levelled, and what is kept then; silence stays silent."""
        power = x.square().mean(-1, dtype=torch.float64)  # (B, L)
        if past is None:
            past = Heard(power.new_zeros(()), power.new_zeros(len(power)))
        frames = power.shape[-1]
        if not frames:
            return x, past
        # Of a graph the length is open; it has two blocks at least, since a tracer takes a single one for granted.
        whole = isinstance(frames, int)
        size = min(BLOCK, frames) if whole else BLOCK
        rest = size - 1 - (frames - 1) % size + (0 if whole else size)
        blocks = F.pad(power, (0, rest)).reshape(len(power), -1, size)  # (B, K, size)
        own = blocks @ self.weights[:size, :size].mT
        ends = torch.cat([past.power[:, None], own[:, :-1, -1]], 1)  # (B, K): what each block finds, before decay
        before = ends @ self._decay(ends.shape[1], self.keep**size, x.device).mT
        within, age = (torch.arange(1, n + 1, device=x.device, dtype=torch.float64) for n in (size, frames))
        sums = (own + before[..., None] * self.keep**within).reshape(len(power), -1)[:, :frames]
        counts = (1 - self.keep**age) / (1 - self.keep) + self.keep**age * past.weight
        level = (sums / counts).sqrt().clamp_min(torch.finfo(torch.float32).tiny)
        return x / level.to(x.dtype)[..., None], Heard(counts[-1], sums[:, -1])

    @staticmethod
    def _decay(steps: int, keep: float, device: torch.device | None = None) -> Tensor:
        """Return the weights (l, j) of step j at step l, keep^(l - j), 0 for those to come."""
        age = torch.arange(steps, device=device, dtype=torch.float64)
        return (keep ** (age[:, None] - age).clamp_min(0)).tril()
