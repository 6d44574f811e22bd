"""Layers of the two U-Nets of Hybrid Demucs, over bins and over samples (Défossez 2021).

Down: conv, stride s, GELU; residual branches; 1x1 conv, GLU.    Up: skip added; 3-tap conv, GLU; residual branches;
transposed conv, stride s, GELU. A branch is x <- x + a * GLU(n(W2 c(gelu(n(W1 x))))), W1 dilated over time, to a few
channels, and back; n are norms over all of a sequence, c recurrence and attention or nothing (models/nearby.py). The
bins know each other through the convolutions alone. Deep levels may have norms behind both kinds of convolutions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.models.dense import Pointwise
from usepcli.models.nearby import Nearby, Windowed
from usepcli.models.slabs import in_slabs

_GAIN = 1e-3  # of a branch at first
_SLAB = 2**18  # numbers of the rows that go through branches at once: a third of the time of all at once
_SPREAD = 0.1  # deviation towards which the first weights of convolutions are brought, half way in decibels


class Level(NamedTuple):
    """How the layers of one level are made: over bins (`tall`) or steps, hidden features and number of branches.

    margin: what a transposed convolution gives beyond either end; groups: of the norms, 0 for none; core: branches have
    recurrence and attention within.
    """

    stride: int
    margin: int
    tall: bool
    hidden: int
    branches: int
    groups: int = 0
    core: bool = False

    def norm(self, dim: int) -> nn.Module:
        """Return a norm over groups of features and all of a sequence, or nothing."""
        return nn.GroupNorm(self.groups, dim) if self.groups else nn.Identity()

    def inside(self, dim: int) -> nn.Module:
        """Return the branches of the level."""
        return Branches(dim, self.hidden, self.branches, self.core) if self.branches else nn.Identity()


class Branch(nn.Module):
    """One residual branch: (R, C, L) to the same."""

    def __init__(self, dim: int, hidden: int, dilation: int, core: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(dim, hidden, 3, dilation=dilation, padding=dilation), nn.GroupNorm(1, hidden), nn.GELU(),
            Pointwise(hidden, 2 * dim), nn.GroupNorm(1, 2 * dim), nn.GLU(1),
        )  # fmt: skip
        self.core = nn.Sequential(Windowed(hidden), Nearby(hidden)) if core else nn.Identity()
        self.gain = nn.Parameter(torch.full((dim,), _GAIN))

    def forward(self, x: Tensor) -> Tensor:
        """Return x with what the branch makes of it added."""
        return x + self.gain[:, None] * self.body[3:](self.core(self.body[:3](x)))


class Branches(nn.Module):
    """Branches one after the other, dilated by 1, 2, 4, ...; of bins (B, C, F, L), each is a row by itself."""

    def __init__(self, dim: int, hidden: int, count: int, core: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(Branch(dim, hidden, 2**k, core) for k in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape, (B, C, L) or (B, C, F, L)."""
        if x.dim() == 3:
            y: Tensor = self.layers(x)
            return y
        rows = x.transpose(1, 2).flatten(0, 1)  # (B F, C, L)
        found = in_slabs(self.layers, rows, _SLAB // rows.shape[2])
        return found.unflatten(0, (x.shape[0], -1)).transpose(1, 2)


class Shrink(nn.Module):
    """A convolution alone: (B, C, L) to (B, D, ceil(L / stride)), or of bins (B, C, F, L) to (B, D, F / stride, L)."""

    def __init__(self, before: int, after: int, level: Level) -> None:
        super().__init__()
        self.level = level
        conv = nn.Conv2d if level.tall else nn.Conv1d
        self.conv = conv(before, after, *_sizes(level.stride, level.margin, level.tall))

    def forward(self, x: Tensor) -> Tensor:
        """Return the features one step down."""
        if not self.level.tall:
            x = F.pad(x, (0, -x.shape[-1] % self.level.stride))
        y: Tensor = self.conv(x)
        return y


class Down(Shrink):
    """One step down, with all that follows its convolution."""

    def __init__(self, before: int, after: int, level: Level) -> None:
        super().__init__(before, after, level)
        self.branches = level.inside(after)
        self.mix = (nn.Conv2d if level.tall else nn.Conv1d)(after, 2 * after, 1)
        self.first, self.second = level.norm(after), level.norm(2 * after)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Return the features one step down; other is added to what the convolution makes of x."""
        y = super().forward(x)
        y = y if other is None else y + other
        return F.glu(self.second(self.mix(self.branches(F.gelu(self.first(y))))), 1)


class Grow(nn.Module):
    """A transposed convolution, the way back of `Shrink`: GELU at its end unless it is the `last`."""

    def __init__(self, before: int, after: int, level: Level, last: bool) -> None:
        super().__init__()
        self.level, self.last = level, last
        # A norm hears what lies beyond the ends as well.
        cut = 0 if level.groups else level.margin
        conv = nn.ConvTranspose2d if level.tall else nn.ConvTranspose1d
        self.conv = conv(before, after, *_sizes(level.stride, cut, level.tall))
        self.norm = level.norm(after)

    def grow(self, y: Tensor, length: int) -> Tensor:
        """Return (B, D, length), or of bins (B, D, F stride, length), from y (B, C, L) or (B, C, F, L)."""
        y, margin = self.norm(self.conv(y)), self.level.margin if self.level.groups else 0
        if self.level.tall:
            y = y[:, :, margin : y.shape[2] - margin]
        else:
            y = y[..., margin : margin + length]
        return y if self.last else F.gelu(y)


class Up(Grow):
    """One step up, the way back of `Down`."""

    def __init__(self, before: int, after: int, level: Level, last: bool) -> None:
        super().__init__(before, after, level, last)
        self.mix = (nn.Conv2d if level.tall else nn.Conv1d)(before, 2 * before, 3, padding=1)
        self.branches = level.inside(before)
        self.first = level.norm(2 * before)

    def mixed(self, x: Tensor) -> Tensor:
        """Return what the step makes before its transposed convolution, of x with the skip added."""
        y: Tensor = self.branches(F.glu(self.first(self.mix(x)), 1))
        return y

    def forward(self, x: Tensor, skip: Tensor, length: int) -> Tensor:
        """Return the features one step up, of `length` steps; skip is what `Down` made there."""
        return self.grow(self.mixed(x + skip), length)


def smooth(bins: int, dim: int) -> Tensor:
    """Return first vectors (bins, dim) of bins: sums of normal numbers, so that neighbours are alike."""
    return torch.randn(bins, dim).cumsum(0) / torch.arange(1, bins + 1)[:, None].sqrt() / 10


@torch.no_grad()
def even(net: nn.Module) -> None:
    """Bring the first weights of all convolutions nearer to one deviation."""
    for part in net.modules():
        if isinstance(part, (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)):
            scale = (part.weight.std() / _SPREAD).sqrt()
            part.weight /= scale
            if part.bias is not None:
                part.bias /= scale


def _sizes(stride: int, margin: int, tall: bool) -> tuple[Any, Any, Any]:
    """Return kernel, stride and padding over samples, or over bins and single frames; L / stride steps come of L."""
    sizes = 2 * stride, stride, margin
    return tuple(zip(sizes, (1, 1, 0), strict=True)) if tall else sizes  # type: ignore[return-value]
