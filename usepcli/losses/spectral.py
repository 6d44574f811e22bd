"""Mean squared errors of masked magnitudes: targets in the spectrum of the mixture.

With the mixture's spectrum Y, a reference's S, the angle t between them and a network's mask M, all per bin,
    J = mean (M |Y| - A)^2     A = |S| (am),  |S| cos t (psm),  max(|S| cos t, 0) (npsm)
(Kolbaek et al. 2017, equations 4, 6 and 7), or that and no more than |Y| (tpsm: a mask of at most 1 can give it all).
|S| cos t is what of S lies in the mixture's phase, with which the estimate
is put back into a waveform: the best that a real mask can do.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from usepcli.dsp import ratios
from usepcli.dsp.parts import Parts
from usepcli.errors import ConfigError, choices
from usepcli.losses.base import Loss, Products, Transform, Views

Target = Literal["am", "psm", "npsm", "tpsm"]
TARGETS = ("am", "psm", "npsm", "tpsm")


class SpectralMSE(Loss):
    """Mean squared error per bin between masked magnitudes and those of the references; no decibels."""

    domain = "spectrum"
    additive = True

    def __init__(self, target: Target = "psm", inactive_db: float | None = None, eps: float = 1e-8) -> None:
        """Choose the target; a reference more than -inactive_db below its mixture counts as silent."""
        super().__init__(30.0, inactive_db, eps)
        if target not in TARGETS:
            raise ConfigError(f"loss.target: {choices('target', target, TARGETS)}")
        self.target = target

    def views(self, parts: Parts, ref: Tensor, mix: Tensor, transform: Transform) -> Views:
        """Return masked magnitudes (B, N, R), targets (B, K, R) and the mixture's magnitude (B, R), R all bins."""
        assert parts.masks is not None and parts.spectrum is not None
        heard = parts.spectrum.abs()  # (B, F, L)
        est = parts.masks.abs() * heard[:, None] if parts.masks.is_complex() else parts.masks * heard[:, None]
        spec = transform(ref)  # (B, K, F, L)
        aim = spec.abs()
        if self.target != "am":
            # |S| cos t = Re(S conj(Y)) / |Y|, and 0 where the mixture is silent.
            unit = parts.spectrum / heard.clamp_min(1e-12)
            aim = (spec * unit.conj()[:, None]).real
            aim = aim if self.target == "psm" else aim.clamp_min(0)
            aim = aim.minimum(heard[:, None]) if self.target == "tpsm" else aim
        return Views(est.flatten(2), aim.flatten(2), heard.flatten(1))

    def direct(self, est: Tensor, ref: Tensor, ref_energy: Tensor, mix_energy: Tensor | None) -> Tensor:
        """Return the mean squared difference of est and ref (..., R) as (...); silent references are zeros like any."""
        del ref_energy, mix_energy
        return ratios.residual_energy(est, ref) / est.shape[-1]

    def from_products(self, p: Products) -> Tensor:
        """Return the same from inner products, without gradient."""
        return (p.ref - 2 * p.cross + p.est).clamp_min(0) / p.length

    def _active_direct(self, est: Tensor, ref: Tensor, ref_energy: Tensor) -> Tensor:
        return self.direct(est, ref, ref_energy, None)

    def _active_products(self, p: Products) -> Tensor:
        return self.from_products(p)

    def __call__(self, est: Tensor, ref: Tensor, mix: Tensor | None = None) -> Tensor:
        """Return the mean squared difference of est against ref, (..., R) each, broadcasting."""
        with torch.autocast(est.device.type, enabled=False):
            return self.direct(est, ref, ref, None)
