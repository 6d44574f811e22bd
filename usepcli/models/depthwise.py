"""Depthwise convolutions over time in their fastest form: shifted multiply-adds, planes, or the library's own."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_MANY = 9  # taps from which on planes are faster, forwards and backwards
_ROWS = 32  # frames of a block, of whose products with what the filters saw a gradient is made


class DepthwiseConv(nn.Module):
    """One filter per channel with zero padding to equal length: (B, C, L) to (B, C, L).

    `causal` pads in the past alone, else on both sides alike. CPU libraries fall back to slow code
    for dilated depthwise filters; a few multiply-adds on shifted views do the same work 2 to 4
    times as fast. Long filters go over planes (`along`). For short ones without dilation, and on GPUs, the
    library is as good or better.
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
        if self.dilation == 1:
            return along(x.mT, self.weight, self.bias, padding, padding).mT
        return F.conv1d(x, self.weight[:, None], self.bias, 1, padding, self.dilation, x.shape[1])

    def flops(self, output: Tensor) -> float:
        """Operations of one call that a counter of library convolutions does not see."""
        return 2.0 * self.weight.shape[1] * output.numel() if self._shifts(output) else 0.0

    def _shifts(self, x: Tensor) -> bool:
        return x.device.type == "cpu" and self.dilation > 1


def along(x: Tensor, weight: Tensor, bias: Tensor | None, left: int, right: int) -> Tensor:
    """Return x (B, L, C), left and right of it so many zeros, filtered over frames by weight (C, K): K - 1 fewer.

    Long filters as `planes` where that is faster: on a CPU, and not in a graph for another runtime.
    """
    if x.device.type == "cpu" and weight.shape[1] >= _MANY and not torch.compiler.is_compiling():
        return planes(x, weight, bias, left, right)
    both = left if left == right else 0
    rows = x.mT if left == right else F.pad(x.mT, (left, right))
    return F.conv1d(rows, weight[:, None], bias, 1, both, 1, x.shape[2]).mT


def planes(
    x: Tensor, weight: Tensor, bias: Tensor | None, left: int, right: int, dilation: int = 1
) -> Tensor:  # fmt: skip
    """Return what `along` returns, left and right counted in steps of the dilation, whose phases lie side by side.

    As a convolution over a plane whose channels are neighbours in memory: libraries for CPUs have fast code for that,
    and slow code for the same filter over frames (benchmarks/pieces.py).
    """
    frames = x.shape[1]
    plane = F.pad(x, (0, 0, 0, -frames % dilation)) if dilation > 1 else x
    plane = plane.contiguous().unflatten(1, (-1, dilation)).permute(0, 3, 1, 2)  # (B, C, L / d, d)
    if x.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling():
        kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        given = plane.to(kind), weight.to(kind), None if bias is None else bias.to(kind)
        y = _Planes.apply(*given, left, right)
    else:
        y = _over(plane, weight, bias, left, right)
    y = y.permute(0, 2, 3, 1).flatten(1, 2)
    return y[:, :frames] if dilation > 1 else y


def _over(plane: Tensor, weight: Tensor, bias: Tensor | None, left: int, right: int) -> Tensor:
    """Return planes (B, C, M, P) filtered along M by weight (C, K)."""
    if left != right:
        plane, left = F.pad(plane, (0, 0, left, right)), 0
    return F.conv2d(plane, weight[:, None, :, None], bias, 1, (left, 0), 1, len(weight))


class _Planes(torch.autograd.Function):
    """`_over` with a gradient of products: the library's own, of the weights, takes longer than all the rest."""

    @staticmethod
    def forward(ctx: Any, plane: Tensor, weight: Tensor, bias: Tensor | None, left: int, right: int) -> Tensor:
        ctx.save_for_backward(plane, weight)
        ctx.sides, ctx.biased = (left, right), bias is not None
        return _over(plane, weight, bias, left, right)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None]:
        plane, weight = ctx.saved_tensors
        (left, right), taps, rows = ctx.sides, weight.shape[1], grad.shape[2]
        # The adjoint of a filter is the mirrored filter, so past and future padding change places.
        grad_plane = _over(grad, weight.flip(1), None, taps - 1 - left, taps - 1 - right)
        # dw[c, k] = sum_t g[c, t] x[c, t + k]: of every block of R rows the product of each g with each x,
        # (C, R, R + K - 1) in all, whose diagonals are the taps. Tap k of row r lies at r (R + K - 1) + r + k.
        size = min(_ROWS, rows)
        fill = -rows % size
        seen = F.pad(plane, (0, 0, left, right + fill)).permute(1, 0, 3, 2).unfold(-1, size + taps - 1, size)
        told = F.pad(grad, (0, 0, 0, fill)).permute(1, 0, 3, 2)
        count = len(weight)
        both = torch.bmm(told.reshape(count, -1, size).mT, seen.reshape(count, -1, size + taps - 1))
        diagonals = both.as_strided((count, size, taps), (size * (size + taps - 1), size + taps, 1))
        return grad_plane, diagonals.sum(1), grad.sum((0, 2, 3)) if ctx.biased else None, None, None


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
