"""Overlapping frames of a signal that comes in blocks, and the sum of overlapping frames that goes out.

Frame l covers the samples from l hop on, `size` of them. The samples before the start of frame l + 1 are settled when
frame l is: what is kept between blocks is the input from the start of the next frame on, and what the last frames give
beyond that start. The same holds for samples cut into frames and for frames cut into chunks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_LEAST = 1e-11  # sum of squared windows below which torch.istft refuses to divide


def cut(waiting: Tensor, block: Tensor, size: int, hop: int) -> tuple[Tensor, Tensor]:
    """Return what whole frames cover (..., (L - 1) hop + size), empty without one, and what waits from then on.

    `waiting` (..., p) comes from the last call, `block` (..., t) is new.
    """
    whole = torch.cat([waiting, block], -1)
    frames = max(0, (whole.shape[-1] - size) // hop + 1)
    covered = (frames - 1) * hop + size if frames else 0
    return whole[..., :covered], whole[..., frames * hop :]


def settle(summed: Tensor, tail: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the `count` = L hop settled samples of the sum of L frames (..., (L - 1) hop + size), and the new tail.

    `tail` (..., size - hop) is what earlier frames give to these samples.
    """
    over = tail.shape[-1]
    whole = torch.cat([summed[..., :over] + tail, summed[..., over : count + over]], -1)
    return whole[..., :count], whole[..., count:]


def added(frames: Tensor, hop: int) -> Tensor:
    """Return the sum (B, ..., (L - 1) hop + size) of frames (B, ..., L, size) that begin `hop` apart."""
    count, size = frames.shape[-2:]
    columns = frames.flatten(1, -3).mT.flatten(1, 2)  # (B, rows size, L)
    length = (count - 1) * hop + size
    summed = F.fold(columns, (length, 1), (size, 1), stride=(hop, 1))[..., 0]  # (B, rows, length)
    return summed.unflatten(1, frames.shape[1:-2])


def over_windows(sums: Tensor) -> Tensor:
    """Return the sums of windowed frames (B, N, T) over that of their squared windows, the last row of (B, N + 1, T).

    Samples that no window reaches come out finite; they lie before the first one of a signal.
    """
    return sums[:, :-1] / sums[:, -1:].clamp_min(_LEAST)
