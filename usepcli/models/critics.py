"""Critics: networks that look at sources, one or several side by side, and say one number (Postolache et al. 2023).

    wave   Conv1d, 4 samples, stride 3, to 128, 256, 256, 512 channels, LeakyReLU after each; Conv1d(512, 1, 4)
    spec   Conv2d, 4 x 4, stride 3 x 3, to 64, 128, 128, 256 channels, LeakyReLU after each; Conv2d(256, 1, 4)
and a linear layer over what is left of time (and frequency), which fixes the length; `pool` takes the mean of it
instead, for any length. The paper does not give the slope of LeakyReLU, 0.2 here, nor the padding of spec: without any,
256 bins do not last for five layers, so there is 1 on each side of each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.errors import BadInput

SLOPE = 0.2
KERNEL, STRIDE = 4, 3
WAVE_WIDTHS, SPEC_WIDTHS = (128, 256, 256, 512), (64, 128, 128, 256)


class Critic(nn.Module):
    """Strided convolutions and a number: (B, C, ...) to (B,), the last axes one (waves) or two (bins, frames)."""

    def __init__(self, channels: int, widths: Sequence[int], size: Sequence[int] | None, axes: int) -> None:
        """Take the channels in, those of each layer, and the length of each axis, None for any; ValueError if short."""
        super().__init__()
        conv, self.pad = (nn.Conv1d, 0) if axes == 1 else (nn.Conv2d, 1)
        layers: list[nn.Module] = []
        for i, o in zip((channels, *widths), widths, strict=False):
            layers += [conv(i, o, KERNEL, STRIDE, self.pad), nn.LeakyReLU(SLOPE)]
        self.body = nn.Sequential(*layers, conv(widths[-1], 1, KERNEL, 1, self.pad))
        self.axes, self.size = axes, None if size is None else tuple(size)
        self.strides = len(widths)
        left = [self.left(n) for n in size or ()]
        if any(n < 1 for n in left):
            raise ValueError(f"{' x '.join(map(str, size or ()))}; expected at least {self.shortest()} on every axis")
        self.last = None if size is None else nn.Linear(math.prod(left), 1)

    def left(self, length: int) -> int:
        """Return what the convolutions leave of an axis; 0 or less where it is too short for them."""
        for _ in range(self.strides):
            length = (length + 2 * self.pad - KERNEL) // STRIDE + 1
        return length + 2 * self.pad - KERNEL + 1

    def shortest(self) -> int:
        """Return the length of an axis from which something is left."""
        need = max(1, KERNEL - 2 * self.pad)
        for _ in range(self.strides):
            need = (need - 1) * STRIDE + KERNEL - 2 * self.pad
        return max(1, need)

    def forward(self, x: Tensor) -> Tensor:
        """Return one number for each item; BadInput for a length that the critic was not built for."""
        size = tuple(x.shape[-self.axes :])
        if self.last is not None:
            if size != self.size:
                raise BadInput(f"a critic built for {self.size} was given {size}; train on segments of one length")
            return self.last(self.body(x).flatten(1))[:, 0]
        least = self.shortest()
        lacking = [max(0, least - n) for n in size]
        if any(lacking):
            x = F.pad(x, [side for lack in reversed(lacking) for side in (0, lack)])
        return self.body(x).flatten(1).mean(1)


def wave(channels: int, samples: int | None = None, width: float = 1.0) -> Critic:
    """Return the critic of waveforms (B, C, T); samples None: of any length. width: of the published channels."""
    return Critic(channels, _wide(WAVE_WIDTHS, width), None if samples is None else (samples,), 1)


def spec(channels: int, size: tuple[int, int] | None = None, width: float = 1.0) -> Critic:
    """Return the critic of magnitudes or masks (B, C, F, L); size None: of any length. width: as of `wave`."""
    return Critic(channels, _wide(SPEC_WIDTHS, width), size, 2)


def _wide(widths: Sequence[int], width: float) -> list[int]:
    return [max(1, round(width * one)) for one in widths]
