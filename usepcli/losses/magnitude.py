"""L1 distance of masked magnitudes, as text-queried separation learns by (Mahmud et al. 2024; Zhao et al. 2018).

    l = mean over bins and frames of w | |X| M - |S| |
with the mixture's spectrum X, a reference's S and a network's mask M; w = min(max(log(1 + |X|), 0.001), 10), as in the
published code, or 1, as the paper prints it. No decibels; a silent reference is a target like any other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from usepcli.dsp.parts import Parts
from usepcli.losses.base import Loss, Products, Transform, Views

LEAST, MOST = 1e-3, 10.0


class MagnitudeL1(Loss):
    """Mean absolute difference of magnitudes, each bin weighed by the mixture's level or not."""

    domain = "spectrum"
    reads_waves = True

    def __init__(self, weighted: bool = True, inactive_db: float | None = None, eps: float = 1e-8) -> None:
        """Say whether bins are weighed; a reference more than -inactive_db below its mixture counts as silent."""
        super().__init__(30.0, inactive_db, eps)
        self.weighted = weighted

    def views(self, parts: Parts, ref: Tensor, mix: Tensor, transform: Transform) -> Views:
        """Return weighed magnitudes of estimates (B, N, R), references (B, K, R) and mixture (B, R), R all bins."""
        del mix
        assert parts.masks is not None and parts.spectrum is not None
        heard = parts.spectrum.abs()  # (B, F, L)
        weight = loudness(heard) if self.weighted else torch.ones_like(heard)
        # |w a - w b| = w |a - b|: weighed here, whatever adds estimates up or pairs them sees one difference.
        masks = parts.masks.abs() if parts.masks.is_complex() else parts.masks
        est, aim = masks * (weight * heard)[:, None], transform(ref).abs() * weight[:, None]
        return Views(est.flatten(2), aim.flatten(2), (weight * heard).flatten(1))

    def direct(self, est: Tensor, ref: Tensor, ref_energy: Tensor, mix_energy: Tensor | None) -> Tensor:
        """Return the mean absolute difference of est and ref (..., R) as (...); silence is a target like any."""
        del ref_energy, mix_energy
        return (est - ref).abs().mean(-1)

    def from_products(self, p: Products) -> Tensor:
        """Return the same for every pair (B, K, N), without gradient; ValueError without the signals themselves."""
        if p.waves is None:
            raise ValueError("no inner product holds an L1 distance; expected the signals of the pairs")
        est, ref = p.waves
        with torch.no_grad():
            pairs = [(est - one[:, None]).abs().mean(-1) for one in ref.unbind(1)]
        return torch.stack(pairs, 1).double()

    def _active_direct(self, est: Tensor, ref: Tensor, ref_energy: Tensor) -> Tensor:
        return self.direct(est, ref, ref_energy, None)

    def _active_products(self, p: Products) -> Tensor:
        return self.from_products(p)

    def __call__(self, est: Tensor, ref: Tensor, mix: Tensor | None = None) -> Tensor:
        """Return the mean absolute difference of est against ref, (..., R) each, broadcasting."""
        with torch.autocast(est.device.type, enabled=False):
            return self.direct(est, ref, ref, None)


def loudness(heard: Tensor) -> Tensor:
    """Return the weight of each bin from the magnitudes that a network reads, without gradient, the same shape."""
    return torch.log1p(heard.detach()).clamp(LEAST, MOST)
