"""Layers that send every row through one matrix, by the quicker of the two libraries that torch has on a processor.

torch multiplies float32 by MKL, which leaves AVX-512 alone on processors that are not Intel's: half of what an AMD of
that kind can do. Convolutions go to oneDNN, which does not. One of a single tap is the same product; on one thread,
torch gives that to MKL as well unless the taps stand apart, which a single one cannot tell.
"""

from __future__ import annotations

import functools
import platform
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Where oneDNN is quicker, forward and backward: from so many products on, with no side narrower than this, and (torch's
# own bound, below which it takes no convolution of one item there) more than so many inputs.
_PRODUCTS, _NARROWEST, _INPUTS = 4_000_000, 32, 20_480
_APART = 2  # a dilation


class Dense(nn.Linear):
    """A linear layer: (..., inputs) to (..., outputs)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., outputs) of x (..., inputs)."""
        return dense(x, self.weight, self.bias)


class Pointwise(nn.Conv1d):
    """A convolution of one tap: (B, inputs, L) to (B, outputs, L)."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, L) of x (B, inputs, L)."""
        return pointwise(x, self.weight, self.bias)


def dense(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x (..., inputs) through weight (outputs, inputs) plus bias, (..., outputs)."""
    if not _by_convolution(x, weight):
        return F.linear(x, weight, bias)
    # The rows as places of one image whose channels lie side by side: nothing is copied.
    places = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)  # (1, inputs, rows, 1)
    y = F.conv2d(places, weight[:, :, None, None], bias, dilation=_APART)
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x (B, inputs, L) through weight (outputs, inputs, 1) plus bias, (B, outputs, L)."""
    return F.conv1d(x, weight, bias, dilation=_APART if _by_convolution(x, weight) else 1)


def _by_convolution(x: Tensor, weight: Tensor) -> bool:
    if torch.compiler.is_compiling():
        return False  # before any size is asked for: a graph is to hold for others, too
    return (
        x.numel() > _INPUTS
        and x.numel() * weight.shape[0] >= _PRODUCTS
        and min(weight.shape[:2]) >= _NARROWEST
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and bool(torch.backends.mkldnn.enabled)  # type: ignore[attr-defined]
        and _held_back()
    )


@functools.cache
def _held_back() -> bool:
    """Return whether this processor knows AVX-512 and is not Intel's."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8", errors="replace") if info.exists() else platform.processor()
    return (
        torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkldnn.is_available()
        and "AuthenticAMD" in text
    )
