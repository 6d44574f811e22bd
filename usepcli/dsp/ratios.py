"""Energies and inner products of tensors: the algebra behind losses; ratios of arrays are in `decibels`.

Every ratio is a function of three numbers per pair (reference s, estimate e):
    ref = ||s||^2,  est = ||e||^2,  cross = <s, e>,
because ||s - e||^2 = ref - 2 cross + est. Sums run over time, they are not means. That difference
cancels: at an SNR of R dB it keeps 10^(-R/10) of its terms, so products are accumulated in float64,
or in float32 where a search knows by how much they may be off (`rounding`) and looks again where that matters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# Long signals are widened to float64 piece by piece: a piece of this length stays in the cache of a CPU.
_PIECE = 4096
# Products that stay in float32 are taken over longer ones: many short products cost more than the arithmetic in them.
_NARROW_PIECE = 16_384
# A float32 sum of n products is off by about sqrt(n) times half an eps of the product of the norms, whatever its order
# (Higham & Mary 2019, theorem 2.4), and the pieces are summed in float64. Twice that leaves room: a processor with a
# single accumulator, the worst there is, comes to a third of sqrt(n), one with vector units to a tenth.
_NARROW = 2 * math.sqrt(_NARROW_PIECE) * 2.0**-24


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


def rounding(signals: Sequence[Tensor]) -> float:
    """Return how far `narrow` products of signals may be off, over the norms of both; 0 where none is narrowed."""
    # Only on a processor does float32 save much here, and only at full precision is a float32 product one: what others
    # set for a GPU changes nothing, what they set for oneDNN does.
    plain = all(x.dtype == torch.float32 and x.device.type == "cpu" for x in signals)
    precision: str = torch.backends.mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]
    return _NARROW if plain and precision in ("none", "ieee") else 0.0


def inner(
    signals: Sequence[Tensor], pairs: Sequence[tuple[int, int]] = (), narrow: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the energies (B, I) of signals (B, I, T) and the inner products (B, I, J) of pairs, in float64.

    pairs names signals by position. No (B, I, J, T) tensor is made, and no gradient is kept. With narrow, all of them
    are off by at most `rounding` times the norms of the two.
    """
    signals = [x.detach() for x in signals]
    narrow = narrow and rounding(signals) > 0
    length = signals[0].shape[-1]
    piece = _NARROW_PIECE if narrow else _PIECE if signals[0].device.type == "cpu" else length
    products = [
        signals[i].new_zeros((len(signals[i]), signals[i].shape[1], signals[j].shape[1]), dtype=torch.float64)
        for i, j in pairs
    ]
    # A signal times itself has its energies on the diagonal.
    own = {i: total.diagonal(dim1=-2, dim2=-1) for total, (i, j) in zip(products, pairs, strict=True) if i == j}
    others = {i: x.new_zeros(x.shape[:-1], dtype=torch.float64) for i, x in enumerate(signals) if i not in own}
    for start in range(0, length, piece):
        cut = [x[..., start : start + piece] for x in signals]
        wide = cut if narrow else [x.double() for x in cut]
        for total, (i, j) in zip(products, pairs, strict=True):
            total += wide[i] @ wide[j].mT
        for i, total in others.items():
            # A norm is quicker, and rounded.
            total += torch.linalg.vector_norm(cut[i], dim=-1).double().square() if narrow else dot(wide[i], wide[i])
    return [others[i] if i in others else own[i].clone() for i in range(len(signals))], products


class _Residual(torch.autograd.Function):
    """||e - a s||^2 for a fixed gain a, with its gradient 2 (e - a s) written down: one saved tensor."""

    @staticmethod
    def forward(ctx: Any, est: Tensor, ref: Tensor, gain: Tensor | None) -> Tensor:
        difference = est - ref if gain is None else torch.addcmul(est, gain[..., None], ref, value=-1)
        ctx.save_for_backward(difference, gain)
        ctx.shapes = est.shape, ref.shape
        # Piece by piece: the products that are summed would take as much room again.
        with torch.autocast(est.device.type, enabled=False):
            squares = [torch.linalg.vecdot(part, part) for part in difference.split(2 * _PIECE, -1)]
        return torch.stack(squares).sum(0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        difference, gain = ctx.saved_tensors
        slope = 2.0 * grads[0][..., None]
        est_shape, ref_shape = ctx.shapes
        to_est, to_ref = None, None
        if ctx.needs_input_grad[0]:
            to_est = (difference * slope).sum_to_size(est_shape)
        if ctx.needs_input_grad[1]:
            to_ref = (difference * (-slope if gain is None else -slope * gain[..., None])).sum_to_size(ref_shape)
        return to_est, to_ref, None


def residual_energy(est: Tensor, ref: Tensor, gain: Tensor | None = None) -> Tensor:
    """Return ||e - a s||^2 over time, (..., T) -> (...), taken directly on the waveforms.

    Differentiable in est and ref, not in the gain a (...), which is 1 unless given.
    """
    if est.dtype != torch.float64 or ref.dtype != torch.float64:
        est, ref = est.float(), ref.float()
    out: Tensor = _Residual.apply(est, ref, None if gain is None else gain.detach())
    return out
