"""Signal-to-noise ratios of arrays in dB, in float64: the algebra behind metrics, without torch."""

from __future__ import annotations

from typing import Any

import numpy as np

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

# A perfect estimate scores 200 dB, far above what float64 files can hold apart.
EPS = 1e-20


def snr_db(est: FloatArray, ref: FloatArray, eps: float = EPS) -> FloatArray:
    """Return 10 log10(||s||^2 / ||s - e||^2) in dB for (..., T) arrays, in float64; eps bounds it."""
    ref64, est64 = np.asarray(ref, np.float64), np.asarray(est, np.float64)
    difference = ref64 - est64
    return ratio_db(_dot(ref64, ref64), _dot(difference, difference), eps)


def si_snr_db(est: FloatArray, ref: FloatArray, eps: float = EPS) -> FloatArray:
    """Return the scale-invariant SNR in dB for (..., T) arrays, in float64.

    With the projection a s of e on s, a = <s, e> / ||s||^2, it is 10 log10(||a s||^2 / ||a s - e||^2)
    (Le Roux et al. 2019, equation 4). No mean is removed; eps bounds a perfect estimate.
    """
    ref64, est64 = np.asarray(ref, np.float64), np.asarray(est, np.float64)
    ref_energy, cross, est_energy = _dot(ref64, ref64), _dot(ref64, est64), _dot(est64, est64)
    gain = cross / np.maximum(ref_energy, np.finfo(np.float64).tiny)
    target = gain * cross
    noise = np.maximum(est_energy - target, 0.0)
    if np.any(noise < 1e-6 * est_energy):
        # Above 60 dB the difference has lost ten digits and more: take the residual on the waveforms.
        residual = est64 - gain[..., None] * ref64
        noise = _dot(residual, residual)
    return ratio_db(target, noise, eps)


def _dot(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("...t,...t->...", a, b))


def ratio_db(signal: FloatArray, noise: FloatArray, eps: float = EPS) -> FloatArray:
    """Return 10 log10((signal + eps) / (noise + eps)) in dB; eps is relative to the sum of both energies."""
    total = signal + noise
    floor = np.where(total > 0, eps * total, 1.0)
    out: FloatArray = 10.0 * np.log10((signal + floor) / (noise + floor))
    return out
