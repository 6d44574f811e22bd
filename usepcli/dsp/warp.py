"""Frequency axes on which low bins lie apart: a warp to a logarithmic axis and back, linear between bins.

y in [-1, 1] of the warped axis is (21^((y + 1) / 2) - 11) / 10 of the plain one    (CLIPSep, Sound of Pixels)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def to_log(bins: int, size: int) -> Tensor:
    """Return the matrix (size, bins) that reads a logarithmic axis of `size` bins from `bins` plain ones."""
    y = torch.linspace(-1, 1, size, dtype=torch.float64)
    return _between(((21.0 ** ((y + 1) / 2)) - 11) / 10, bins)


def from_log(bins: int, size: int) -> Tensor:
    """Return the matrix (bins, size) that reads `bins` plain bins from a logarithmic axis of `size`."""
    y = torch.linspace(-1, 1, bins, dtype=torch.float64)
    return _between(torch.log(10 * y + 11) / math.log(21) * 2 - 1, size)


def _between(at: Tensor, count: int) -> Tensor:
    """Return (len(at), count): weights of the two neighbours of places `at` in [-1, 1] on an axis of `count`."""
    place = ((at + 1) / 2 * (count - 1)).clamp(0, count - 1)
    bins = torch.arange(count, dtype=torch.float64, device=at.device)  # whichever device is the default by now
    return (1 - (place[:, None] - bins).abs()).clamp_min(0).float()
