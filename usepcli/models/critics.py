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
from typing import Any

import torch
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
        """Return one number for each item; BadInput for a length that the critic was not built for.

        What is silent is all alike: it is looked at once, unless gradients for each are asked for.
        """
        silent = x.detach().flatten(1).abs().amax(1) == 0
        if x.requires_grad or int(silent.sum()) < 2:
            return self._told(x)
        told = self._told(torch.cat([x[~silent], x[silent][:1]]))
        return told[torch.where(silent, len(told) - 1, (~silent).cumsum(0) - 1)]

    def _told(self, x: Tensor) -> Tensor:
        size = tuple(x.shape[-self.axes :])
        if self.last is not None:
            if size != self.size:
                raise BadInput(f"a critic built for {self.size} was given {size}; train on segments of one length")
            return self.last(self._heard(x).flatten(1))[:, 0]
        least = self.shortest()
        lacking = [max(0, least - n) for n in size]
        if any(lacking):
            x = F.pad(x, [side for lack in reversed(lacking) for side in (0, lack)])
        return self._heard(x).flatten(1).mean(1)

    def _heard(self, x: Tensor) -> Tensor:
        if self.axes > 1 or x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return self.body(x)
        h = x.mT.contiguous()  # (B, T, C)
        for layer in self.body[:-1]:
            strided = isinstance(layer, nn.Conv1d)
            h = _Strided.apply(h, layer.weight, layer.bias) if strided else F.leaky_relu_(h, SLOPE)
        return self.body[-1](h.mT)


class _Strided(torch.autograd.Function):
    """A convolution of KERNEL by STRIDE over x (B, T, C) as one matrix product: (B, L, D).

    On a processor its gradients take two thirds of the time that those of conv1d take; sums differ by their rounding.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        (batch, length, width), out = x.shape, weight.shape[0]
        steps = (length - KERNEL) // STRIDE + 1
        shape = batch, steps, KERNEL * width
        frames = x.as_strided(shape, (length * width, STRIDE * width, 1)).reshape(batch * steps, -1)
        taps = weight.permute(2, 1, 0).reshape(-1, out)
        ctx.save_for_backward(taps, *([frames] if ctx.needs_input_grad[1] else []))
        ctx.shape, ctx.length = shape, length
        found = x.new_empty(batch, steps, out)
        torch.addmm(bias, frames, taps, out=found.view(-1, out))
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (taps, *frames), (batch, steps, wide) = ctx.saved_tensors, ctx.shape
        grad, width = grads[0].reshape(batch * steps, -1), wide // KERNEL
        to_input = to_weight = to_bias = None
        if frames:
            to_weight = (frames[0].T @ grad).view(KERNEL, width, -1).permute(2, 1, 0)
        if ctx.needs_input_grad[2]:
            to_bias = grad.sum(0)
        if ctx.needs_input_grad[0]:
            parts = (grad @ taps.T).view(ctx.shape)
            first = STRIDE * width  # of a frame, what no other has
            to_input = grad.new_zeros(batch, ctx.length, width)
            to_input.as_strided((batch, steps, first), (ctx.length * width, first, 1)).copy_(parts[..., :first])
            to_input[:, STRIDE : STRIDE * steps + 1 : STRIDE] += parts[..., first:]
        return to_input, to_weight, to_bias


def wave(channels: int, samples: int | None = None, width: float = 1.0) -> Critic:
    """Return the critic of waveforms (B, C, T); samples None: of any length. width: of the published channels."""
    return Critic(channels, _wide(WAVE_WIDTHS, width), None if samples is None else (samples,), 1)


def spec(channels: int, size: tuple[int, int] | None = None, width: float = 1.0) -> Critic:
    """Return the critic of magnitudes or masks (B, C, F, L); size None: of any length. width: as of `wave`."""
    return Critic(channels, _wide(SPEC_WIDTHS, width), size, 2)


def _wide(widths: Sequence[int], width: float) -> list[int]:
    return [max(1, round(width * one)) for one in widths]
