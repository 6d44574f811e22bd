"""Energies and inner products of tensors: the algebra behind losses; ratios of arrays are in `decibels`.

Every ratio is a function of three numbers per pair (reference s, estimate e):
    ref = ||s||^2,  est = ||e||^2,  cross = <s, e>,
because ||s - e||^2 = ref - 2 cross + est. Sums run over time, they are not means. That difference
cancels: at an SNR of R dB it keeps 10^(-R/10) of its terms, so products are accumulated in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# Long signals are widened to float64 piece by piece: a piece of this length stays in the cache of a CPU.
_PIECE = 4096


def energy(x: Tensor) -> Tensor:
    """Return ||x||^2 over time, (..., T) -> (...), in float32 or better."""
    return dot(x, x)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return <a, b> over time, (..., T) -> (...), differentiable, in float32 or better."""
    if a.dtype != torch.float64 or b.dtype != torch.float64:
        a, b = a.float(), b.float()
    # Autocast lists this product among those that it narrows.
    with torch.autocast(a.device.type, enabled=False):
        out: Tensor = torch.linalg.vecdot(a, b)
    return out


def inner(signals: Sequence[Tensor], pairs: Sequence[tuple[int, int]] = ()) -> tuple[list[Tensor], list[Tensor]]:
    """Return the energies (B, I) of signals (B, I, T) and the inner products (B, I, J) of pairs, in float64.

    pairs names signals by position. No (B, I, J, T) tensor is made, and no gradient is kept.
    """
    signals = [x.detach() for x in signals]
    length = signals[0].shape[-1]
    piece = _PIECE if signals[0].device.type == "cpu" else length
    energies = [x.new_zeros(x.shape[:-1], dtype=torch.float64) for x in signals]
    products = [
        signals[i].new_zeros((len(signals[i]), signals[i].shape[1], signals[j].shape[1]), dtype=torch.float64)
        for i, j in pairs
    ]
    for start in range(0, length, piece):
        wide = [x[..., start : start + piece].double() for x in signals]
        for total, part in zip(energies, wide, strict=True):
            total += torch.linalg.vecdot(part, part)
        for total, (i, j) in zip(products, pairs, strict=True):
            total += wide[i] @ wide[j].mT
    return energies, products


class _Residual(torch.autograd.Function):
    """||e - a s||^2 for a fixed gain a, with its gradient 2 (e - a s) written down: one saved tensor."""

    @staticmethod
    def forward(ctx: Any, est: Tensor, ref: Tensor, gain: Tensor) -> Tensor:
        difference = torch.addcmul(est, gain[..., None], ref, value=-1)
        ctx.save_for_backward(difference, gain)
        ctx.shapes = est.shape, ref.shape
        return dot(difference, difference)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        difference, gain = ctx.saved_tensors
        slope = 2.0 * grads[0][..., None]
        est_shape, ref_shape = ctx.shapes
        to_est, to_ref = None, None
        if ctx.needs_input_grad[0]:
            to_est = (difference * slope).sum_to_size(est_shape)
        if ctx.needs_input_grad[1]:
            to_ref = (difference * (-slope * gain[..., None])).sum_to_size(ref_shape)
        return to_est, to_ref, None


def residual_energy(est: Tensor, ref: Tensor, gain: Tensor | None = None) -> Tensor:
    """Return ||e - a s||^2 over time, (..., T) -> (...), taken directly on the waveforms.

    Differentiable in est and ref, not in the gain a (...), which is 1 unless given.
    """
    if est.dtype != torch.float64 or ref.dtype != torch.float64:
        est, ref = est.float(), ref.float()
    out: Tensor = _Residual.apply(est, ref, est.new_ones(()) if gain is None else gain.detach())
    return out
