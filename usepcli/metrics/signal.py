"""SNR and scale-invariant SNR of estimates, and their improvement over the mixture, in float64.

SI-SNR is the SI-SDR of Le Roux et al. 2019 without removal of means. An improvement is the value of the
estimate minus the value of the unprocessed mixture against the same reference.
"""

from __future__ import annotations

from collections.abc import Callable

from usepcli.dsp import decibels
from usepcli.metrics.base import FloatArray, Metric


class _Ratio(Metric):
    def __init__(
        self,
        name: str,
        ratio: Callable[[FloatArray, FloatArray], FloatArray],
        improvement: bool,
        scores_silence: bool,
    ) -> None:
        super().__init__(name, needs_mixture=improvement)
        self._ratio = ratio
        self.scores_silence = scores_silence

    def _values(self, est: FloatArray, ref: FloatArray, mix: FloatArray | None) -> FloatArray:
        value = self._ratio(est, ref)
        return value if mix is None or not self.needs_mixture else value - self._ratio(mix, ref)


SI_SNR = _Ratio("si-snr", decibels.si_snr_db, improvement=False, scores_silence=False)
SI_SNRI = _Ratio("si-snri", decibels.si_snr_db, improvement=True, scores_silence=False)
SNR = _Ratio("snr", decibels.snr_db, improvement=False, scores_silence=True)
SNRI = _Ratio("snri", decibels.snr_db, improvement=True, scores_silence=True)
