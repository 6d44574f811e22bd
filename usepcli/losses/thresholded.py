"""Losses with a soft threshold: beyond snr_max_db, a better estimate earns next to nothing.

With tau = 10^(-snr_max_db / 10),
    SNR:      10 log10( ||y - e||^2 + tau ||y||^2 + eps ) - 10 log10( ||y||^2 + eps )
    log MSE:  10 log10( ||y - e||^2 + tau ||y||^2 + eps )
for reference y and estimate e (Wisdom et al. 2020, MixIT, equation 2; Wisdom et al. 2021, FUSS). Both
have the same gradient. The first is -snr_max_db dB for e = y and 0.0043 dB for e = 0 at 30 dB.
"""

from __future__ import annotations

from torch import Tensor

from usepcli.dsp import assign, ratios
from usepcli.losses.base import Loss, Products, tau


class SNR(Loss):
    """Negative signal-to-noise ratio in dB with a soft upper limit of snr_max_db; null means no limit."""

    def __init__(
        self,
        snr_max_db: float | None = 30.0,
        zero_snr_max_db: float = 30.0,
        inactive_db: float | None = None,
        eps: float = 1e-8,
    ) -> None:
        """Set the limits; a reference more than -inactive_db below its mixture counts as silent."""
        super().__init__(zero_snr_max_db, inactive_db, eps)
        self.tau = tau("loss.snr_max_db", snr_max_db)

    def _active_direct(self, est: Tensor, ref: Tensor, ref_energy: Tensor) -> Tensor:
        return self._value(ratios.residual_energy(est, ref), ref_energy)

    def dealt(self, est: Tensor, owner: Tensor, ref: Tensor, ref_energy: Tensor, mix_energy: Tensor | None) -> Tensor:
        """Return the loss (B, K) of the sums of est (B, N, T) that owner (B, N) gives to each of ref (B, K, T)."""
        if not bool(self.active(ref_energy, mix_energy, ref.shape[-1]).all()):
            return super().dealt(est, owner, ref, ref_energy, mix_energy)
        return self._value(assign.missed(est, owner, ref), ref_energy)

    def _active_products(self, p: Products) -> Tensor:
        return self._value((p.ref - 2 * p.cross + p.est).clamp_min(0), p.ref)

    def _value(self, error: Tensor, ref_energy: Tensor) -> Tensor:
        return self._log(error + self.tau * ref_energy) - self._log(ref_energy)


class LogMSE(SNR):
    """Thresholded log mean square error: the SNR loss without the level of its reference."""

    def _value(self, error: Tensor, ref_energy: Tensor) -> Tensor:
        return self._log(error + self.tau * ref_energy)
