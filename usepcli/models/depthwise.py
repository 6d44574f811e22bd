"""Depthwise dilated convolution over time, as shifted multiply-adds where these are faster."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class DepthwiseConv(nn.Module):
    """One filter per channel with zero padding to equal length: (B, C, L) to (B, C, L).

    `causal` pads in the past alone, else on both sides alike. CPU libraries fall back to slow code
    for dilated depthwise filters; a few multiply-adds on shifted views do the same work 2 to 4
    times as fast. Without dilation, and on GPUs, the library is as good or better.
    """

    def __init__(self, channels: int, kernel: int, dilation: int = 1, causal: bool = False) -> None:
        """Take an odd kernel and the dilation, both in frames."""
        super().__init__()
        # The start of a library convolution: uniform within one over the root of the taps.
        bound = kernel**-0.5
        self.weight = nn.Parameter(torch.empty(channels, kernel).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound))
        self.dilation = dilation
        self.left = (kernel - 1) * dilation if causal else (kernel - 1) * dilation // 2
        self.right = (kernel - 1) * dilation - self.left

    def forward(self, x: Tensor) -> Tensor:
        """Return the filtered (B, C, L) of x (B, C, L)."""
        if self._shifts(x):
            return _Shifted.apply(x, self.weight.to(x.dtype), self.bias.to(x.dtype), self.dilation, self.left)
        padding = self.left if self.left == self.right else 0
        return self._filter(x if padding else F.pad(x, (self.left, self.right)), padding)

    def step(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the filtered (B, C, L) of the next frames x (B, C, L), causal, and the frames (B, C, left) kept."""
        past = x.new_zeros(*x.shape[:2], self.left) if past is None else past
        whole = torch.cat([past, x], -1)
        if not self._shifts(x):
            return self._filter(whole), whole[..., x.shape[-1] :]
        # The order of the sum is that of the whole signal's, so that the digits are its own.
        weight, size = self.weight.to(x.dtype), x.shape[-1]
        y = x * weight[:, -1, None]
        for k in range(weight.shape[1] - 1):
            y.addcmul_(whole[..., k * self.dilation : k * self.dilation + size], weight[:, k, None])
        return y.add_(self.bias.to(x.dtype)[:, None]), whole[..., size:]

    def _filter(self, x: Tensor, padding: int = 0) -> Tensor:
        return F.conv1d(x, self.weight[:, None], self.bias, 1, padding, self.dilation, x.shape[1])

    def flops(self, output: Tensor) -> float:
        """Operations of one call that a counter of library convolutions does not see."""
        return 2.0 * self.weight.shape[1] * output.numel() if self._shifts(output) else 0.0

    def _shifts(self, x: Tensor) -> bool:
        return x.device.type == "cpu" and self.dilation > 1


class _Shifted(torch.autograd.Function):
    """y[t] = bias + sum_k weight[k] x[t + k dilation - left], with x = 0 outside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, dilation: int, left: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.dilation, ctx.left = dilation, left
        return _shift_add(x, weight, dilation, left).add_(bias[:, None])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        dilation, left, taps = ctx.dilation, ctx.left, weight.shape[1]
        # The adjoint of a filter is the mirrored filter, so past and future padding change places.
        grad_x = _shift_add(grad, weight.flip(1), dilation, (taps - 1) * dilation - left)
        grad_weight = torch.zeros_like(weight)
        for k in range(taps):
            here, there = _overlap(x.shape[-1], k * dilation - left)
            grad_weight[:, k] = (grad[..., here] * x[..., there]).sum((0, 2))
        return grad_x, grad_weight, grad.sum((0, 2)), None, None


def _overlap(length: int, shift: int) -> tuple[slice, slice]:
    """Slices of the t in [0, length) for which t + shift lies there too, and of those t + shift."""
    start = min(max(0, -shift), length)
    stop = max(start, length - max(0, shift))
    return slice(start, stop), slice(start + shift, stop + shift) if stop > start else slice(0, 0)


def _shift_add(x: Tensor, weight: Tensor, dilation: int, left: int) -> Tensor:
    """sum_k weight[:, k] x[..., t + k dilation - left] for x (B, C, L), weight (C, taps)."""
    centre = left // dilation
    y = x * weight[:, centre, None]
    for k in range(weight.shape[1]):
        here, there = _overlap(x.shape[-1], k * dilation - left)
        if k != centre and here.stop > here.start:
            y[..., here].addcmul_(x[..., there], weight[:, k, None])
    return y
