"""Scale-invariant signal-to-noise ratio as a loss.

With a = (<s, e> + eps) / (||s||^2 + eps), for reference s and estimate e,
    loss = 10 log10( ||a s - e||^2 + tau ||a s||^2 + eps ) - 10 log10( ||a s||^2 + eps )
which for tau = 0 is minus the SI-SDR of Le Roux et al. 2019 (equation 4). No mean is removed.
"""

from __future__ import annotations

from torch import Tensor

from usepcli.dsp import ratios
from usepcli.losses.base import Loss, Products, tau


class SISNR(Loss):
    """Negative scale-invariant SNR in dB, optionally with a soft upper limit of snr_max_db."""

    def __init__(
        self,
        snr_max_db: float | None = None,
        zero_snr_max_db: float = 30.0,
        inactive_db: float | None = None,
        eps: float = 1e-8,
    ) -> None:
        """Set the limits; a reference more than -inactive_db below its mixture counts as silent."""
        super().__init__(zero_snr_max_db, inactive_db, eps)
        self.tau = tau("loss.snr_max_db", snr_max_db)

    def _active_direct(self, est: Tensor, ref: Tensor, ref_energy: Tensor) -> Tensor:
        gain = self._gain(ratios.dot(est, ref), ref_energy)
        # The residual is orthogonal to s, so its energy does not change with the gain to first order:
        # a fixed gain leaves the gradient as it is. Taken on the waveforms, since in float32 the
        # form ||e||^2 - ||a s||^2 is worthless from 40 dB on.
        residual = ratios.residual_energy(est, ref, gain)
        return self._value(gain.square() * ref_energy, residual)

    def _active_products(self, p: Products) -> Tensor:
        gain = self._gain(p.cross, p.ref)
        target = gain.square() * p.ref
        return self._value(target, (p.est - 2 * gain * p.cross + target).clamp_min(0))

    def _gain(self, cross: Tensor, ref_energy: Tensor) -> Tensor:
        return (cross + self.eps) / (ref_energy + self.eps)

    def _value(self, target: Tensor, residual: Tensor) -> Tensor:
        return self._log(residual + self.tau * target) - self._log(target)
