"""SI-SNR as universal sound separation scores it, from the cosine between the signals, in float64.

With r = <s, e> / (||s|| ||e||) for reference s and estimate e,
    SI-SNR = 10 log10( (r^2 + eps) / (1 - r^2 + eps) ),   eps = 1e-8,
which is the SI-SNR of Le Roux et al. 2019 kept within -80 and 80 dB, whatever the level (Wisdom et al. 2021,
"What's all the FUSS about free universal sound separation data"). A silent estimate scores -80 dB.
"""

from __future__ import annotations

import numpy as np

from usepcli.metrics.base import FloatArray, Metric

EPS = 1e-8

# Below this energy a signal counts as silence: its cosine fades to 0 instead of being made of rounding.
_SILENT_ENERGY = 1e-16

# Where 1 - r^2 is smaller than this, the difference has lost digits and the residual is taken on the waveforms.
_NEAR = 0.01


def si_snr_fuss_db(est: FloatArray, ref: FloatArray, zero_mean: bool = False) -> FloatArray:
    """Return the SI-SNR in dB, from -80 to 80, of est (..., T) against ref (..., T), which broadcast, in float64.

    zero_mean: take the means over time away first.
    """
    unit_ref, unit_est = (_unit(np.asarray(x, np.float64), zero_mean) for x in (ref, est))
    cosine = np.asarray(np.einsum("...t,...t->...", unit_ref, unit_est))
    noise = np.maximum(1.0 - cosine**2, 0.0)
    if np.any(noise < _NEAR):
        residual = unit_est - unit_ref * cosine[..., None]
        noise = np.where(noise < _NEAR, np.einsum("...t,...t->...", residual, residual), noise)
    out: FloatArray = 10.0 * np.log10((cosine**2 + EPS) / (noise + EPS))
    return out


def _unit(x: FloatArray, zero_mean: bool) -> FloatArray:
    if zero_mean:
        x = x - x.mean(-1, keepdims=True)
    energy = np.einsum("...t,...t->...", x, x)
    out: FloatArray = x / np.sqrt(np.maximum(energy, _SILENT_ENERGY))[..., None]
    return out


class _Cosine(Metric):
    scores_silence = True

    def _values(self, est: FloatArray, ref: FloatArray, mix: FloatArray | None) -> FloatArray:
        value = si_snr_fuss_db(est, ref)
        return value if mix is None or not self.needs_mixture else value - si_snr_fuss_db(mix, ref)


SI_SNR_FUSS = _Cosine("si-snr-fuss", needs_mixture=False)
SI_SNRI_FUSS = _Cosine("si-snri-fuss", needs_mixture=True)
