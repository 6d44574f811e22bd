"""Pieces shared by the temporal convolution networks: norms and the depth of their view."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.models.dense import Pointwise, pointwise


class GlobalNorm(nn.GroupNorm):
    """Norm over channels and frames of the whole input, gain and bias per channel: (B, C, L) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels, eps=1e-8)


class Sums(NamedTuple):
    """What the cumulative norm keeps of the past, in float64."""

    frames: Tensor  # ()
    total: Tensor  # (B,): sum over channels and frames
    power: Tensor  # (B,): that of the squares


class CumulativeNorm(nn.Module):
    """Norm over channels and all frames up to the present one, gain and bias per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised (B, C, L) of x (B, C, L)."""
        return self.step(x)[0]

    def step(self, x: Tensor, past: Sums | None = None) -> tuple[Tensor, Sums]:
        """Return the normalised (B, C, L) of the next frames x (B, C, L), and the sums up to their end."""
        wide = x.float()
        frames = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=torch.float64)
        # Running sums in float64: the variance is the small difference of two large sums.
        total = wide.sum(1, dtype=torch.float64).cumsum(-1)  # (B, L)
        power = wide.square().sum(1, dtype=torch.float64).cumsum(-1)
        if past is not None:
            frames, total, power = frames + past.frames, total + past.total[:, None], power + past.power[:, None]
        mean = total / (x.shape[1] * frames)
        scale = ((power / (x.shape[1] * frames) - mean.square()).clamp_min(0) + 1e-8).rsqrt()
        wide = (wide - mean.float()[:, None]) * scale.float()[:, None]
        y = (wide * self.weight[:, None] + self.bias[:, None]).to(x.dtype)
        return y, Sums(frames[-1], total[:, -1], power[:, -1])


class ChannelNorm(nn.Module):
    """Norm over the channels of every frame by itself, gain and bias per channel: (B, C, ...) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised x (B, C, ...)."""
        return F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias, 1e-8).movedim(-1, 1)


class ScalarNorm(nn.Module):
    """Norm in `groups` groups of channels with one gain and one bias for all channels.

    groups = None norms each channel over time alone (instance norm), groups = 1 the whole input.
    """

    def __init__(self, groups: int | None = None, eps: float = 1e-3) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised (B, C, L) of x (B, C, L)."""
        channels = x.shape[1]
        # torch.group_norm, because the functional form refuses a single frame.
        return torch.group_norm(
            x, self.groups or channels, self.weight.expand(channels), self.bias.expand(channels), self.eps
        )


class ScaledDense(Pointwise):
    """1x1 convolution followed by one learned factor, which is folded into the weights."""

    def __init__(self, inputs: int, outputs: int, scale: float = 1.0, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        self.scale = nn.Parameter(torch.tensor(float(scale)))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, L) from x (B, inputs, L)."""
        bias = None if self.bias is None else self.bias * self.scale
        return pointwise(x, self.weight * self.scale, bias)


def start_level(layer: nn.Conv1d, level: float) -> None:
    """Let a layer start at one level everywhere, whatever its input."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.constant_(layer.bias, level)


def view_frames(repeats: int, blocks: int, kernel: int) -> int:
    """Frames that one frame's output sees through `repeats` stacks of dilations 1, 2, ..., 2^(blocks - 1)."""
    return 1 + repeats * (kernel - 1) * (2**blocks - 1)


def view_samples(frames: int, win: int, hop: int) -> int:
    """Samples that one output sample sees through `frames` frames of `win` samples, `hop` apart.

    The frames that cover a sample start within win - 1 of each other, in whole hops; their outputs see
    frames - 1 further hops; and the outermost frames are one window long.
    """
    return (win - 1) // hop * hop + (frames - 1) * hop + win
