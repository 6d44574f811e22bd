"""Layers of the two U-Nets of Hybrid Demucs, over bins and over samples (Défossez 2021).

Down: conv, stride s, GELU; residual branches; 1x1 conv, GLU.    Up: skip added; 3-tap conv, GLU; residual branches;
transposed conv, stride s, GELU. A branch is x <- x + a * GLU(n(W2 gelu(n(W1 x)))), W1 dilated over time, to a few
channels, and back; n are norms over all of a sequence. The bins know each other through the convolutions alone.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.models.slabs import in_slabs

_GAIN = 1e-3  # of a branch at first
_SLAB = 2**18  # numbers of the rows that go through branches at once: a third of the time of all at once


class Branch(nn.Module):
    """One residual branch: (R, C, L) to the same."""

    def __init__(self, dim: int, hidden: int, dilation: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(dim, hidden, 3, dilation=dilation, padding=dilation), nn.GroupNorm(1, hidden), nn.GELU(),
            nn.Conv1d(hidden, 2 * dim, 1), nn.GroupNorm(1, 2 * dim), nn.GLU(1),
        )  # fmt: skip
        self.gain = nn.Parameter(torch.full((dim,), _GAIN))

    def forward(self, x: Tensor) -> Tensor:
        """Return x with what the branch makes of it added."""
        return x + self.gain[:, None] * self.body(x)


class Branches(nn.Module):
    """Branches one after the other, dilated by 1, 2, 4, ...; of bins (B, C, F, L), each is a row by itself."""

    def __init__(self, dim: int, hidden: int, count: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(Branch(dim, hidden, 2**k) for k in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape, (B, C, L) or (B, C, F, L)."""
        if x.dim() == 3:
            y: Tensor = self.layers(x)
            return y
        rows = x.transpose(1, 2).flatten(0, 1)  # (B F, C, L)
        found = in_slabs(self.layers, rows, _SLAB // rows.shape[2])
        return found.unflatten(0, (x.shape[0], -1)).transpose(1, 2)


class Down(nn.Module):
    """One step down: (B, C, L) to (B, D, ceil(L / stride)), or with `tall` (B, C, F, L) to (B, D, F / stride, L)."""

    def __init__(self, before: int, after: int, stride: int, hidden: int, branches: int, tall: bool) -> None:
        super().__init__()
        self.stride, self.tall = stride, tall
        conv = nn.Conv2d if tall else nn.Conv1d
        self.conv = conv(before, after, *_sizes(stride, tall))
        self.branches = Branches(after, hidden, branches)
        self.mix = conv(after, 2 * after, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features one step down."""
        if not self.tall:
            x = F.pad(x, (0, -x.shape[-1] % self.stride))
        return F.glu(self.mix(self.branches(F.gelu(self.conv(x)))), 1)


class Up(nn.Module):
    """One step up, the way back of `Down`: GELU at its end unless it is the `last`."""

    def __init__(
        self, before: int, after: int, stride: int, hidden: int, branches: int, tall: bool, last: bool
    ) -> None:
        super().__init__()
        self.last = last
        self.mix = (nn.Conv2d if tall else nn.Conv1d)(before, 2 * before, 3, padding=1)
        self.branches = Branches(before, hidden, branches)
        self.conv = (nn.ConvTranspose2d if tall else nn.ConvTranspose1d)(before, after, *_sizes(stride, tall))

    def forward(self, x: Tensor, skip: Tensor, length: int) -> Tensor:
        """Return the features one step up, of `length` steps; skip is what `Down` made there."""
        y = self.branches(F.glu(self.mix(x + skip), 1))
        y = self.conv(y)[..., :length]
        return y if self.last else F.gelu(y)


def _sizes(stride: int, tall: bool) -> tuple[Any, Any, Any]:
    """Return kernel, stride and padding over samples, or over bins and single frames; L / stride steps come of L."""
    sizes = 2 * stride, stride, stride // 2
    return tuple(zip(sizes, (1, 1, 0), strict=True)) if tall else sizes  # type: ignore[return-value]
