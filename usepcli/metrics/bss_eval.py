"""BSS-eval version 3: SDR, SIR and SAR with distortion filters of 512 taps.

An estimate e of reference j is split by two orthogonal projections, on the 512 delayed copies of
reference j and on those of all references (Vincent et al. 2006, sections III and IV):
    P_j = ||proj_j e||^2,   P = ||proj_all e||^2,   E = ||e||^2
    SDR = P_j / (E - P_j),  SIR = P_j / (P - P_j),  SAR = P / (E - P)        (in dB)
The subspaces are nested, so three energies say all and no projection is ever filtered back to the
time axis. With Gram matrix G of the delayed references and d their products with e, P = d' G^-1 d
= ||L^-1 d||^2 for the Cholesky factor G = L L'. The first 512 rows of L^-1 d give P_1 as well. G is made of
Toeplitz blocks of correlations, which come from one FFT per signal.
Ratios beyond about 100 dB are limited by the rounding of E - P.
"""

from __future__ import annotations

import threading

import numpy as np
import scipy.fft
import scipy.linalg

from usepcli.dsp import decibels
from usepcli.metrics.base import FloatArray, Metric

TAPS = 512

# Pivots of L below this share of the largest mean a condition number above 1e12: rounding would be amplified into
# energy that is not there. Low-passed and upsampled references are such cases.
_WEAK_PIVOT = 1e-6

_last = threading.local()


def bss_eval(est: FloatArray, ref: FloatArray, mix: FloatArray | None = None) -> dict[str, FloatArray]:
    """Return "sdr", "sir" and "sar" (N,) in dB of est (N, T) against ref (N, T), row by row.

    With mix (T,), "mix_sdr" (N,) is the SDR of the mixture against each reference as well. Silent references
    take no part and score nan, as do silent estimates, and everything where T <= 512 N, since the
    delayed references then span every signal. Repeating a call returns the kept result.
    """
    arrays = [np.asarray(a, np.float64) for a in ((est, ref) if mix is None else (est, ref, mix))]
    known = getattr(_last, "call", None)
    # The four metrics ask for the same signals in turn; with or without the mixture, one result serves all.
    if not known or len(known[0]) < len(arrays) or not all(map(np.array_equal, known[0], arrays)):
        result = _compute(arrays[0], arrays[1], arrays[2] if mix is not None else None)
        known = _last.call = ([a.copy() for a in arrays], result)
    return {name: values.copy() for name, values in known[1].items()}


def _compute(est: FloatArray, ref: FloatArray, mix: FloatArray | None) -> dict[str, FloatArray]:
    n_src, length = ref.shape
    names = ("sdr", "sir", "sar") if mix is None else ("sdr", "sir", "sar", "mix_sdr")
    out = {name: np.full(n_src, np.nan) for name in names}
    rows = np.flatnonzero(ref.any(1))
    if too_short(length, len(rows)) or not len(rows):
        return out
    signals = est[rows] if mix is None else np.concatenate([est[rows], mix[None]])
    total = np.einsum("nt,nt->n", signals, signals)
    own, every = _projected(signals, ref[rows])
    n_est = len(rows)
    index = np.arange(n_est)
    p_own, p_all, e = own[index, index], every[:n_est], total[:n_est]
    sounding = e > 0
    ratio_of = {"sdr": (p_own, e - p_own), "sir": (p_own, p_all - p_own), "sar": (p_all, e - p_all)}
    for name, (signal, noise) in ratio_of.items():
        out[name][rows] = np.where(sounding, decibels.ratio_db(signal, np.maximum(noise, 0.0)), np.nan)
    if mix is not None:
        p_mix = own[:, n_est]
        value = decibels.ratio_db(p_mix, np.maximum(total[n_est] - p_mix, 0.0))
        out["mix_sdr"][rows] = value if total[n_est] > 0 else np.nan
    return out


def too_short(length: int, n_src: int) -> bool:
    """Return whether signals of `length` samples lie wholly in the span of the delayed references."""
    return length <= TAPS * n_src


def _projected(signals: FloatArray, ref: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the energies of signals (M, T) projected on each reference (K, M) and on all of them (M,)."""
    lags, products = _correlations(signals, ref)
    white = _cholesky_white(lags, products)
    every = _energy(lags, products) if white is None else np.square(white).sum(0)
    own = np.empty((len(ref), len(signals)))
    for j in range(len(ref)):
        if j == 0 and white is not None:
            own[j] = np.square(white[:TAPS]).sum(0)
        else:
            own[j] = _energy(lags[j : j + 1, j : j + 1], products[j * TAPS : (j + 1) * TAPS])
    return own, every


def _correlations(signals: FloatArray, ref: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the correlations (K, K, 1023) of references at lags -511 to 511, and the products (512 K, M)."""
    n_ref, length = ref.shape
    size = scipy.fft.next_fast_len(length + TAPS - 1, real=True)
    ref_spec = np.conj(scipy.fft.rfft(ref, size))
    # <s_i[t - a], e[t]> is the correlation at lag a; lag a - b joins s_i[t - a] and s_j[t - b].
    spec = scipy.fft.rfft(signals, size)
    products = np.empty((n_ref, TAPS, len(signals)))
    lags = np.empty((n_ref, n_ref, 2 * TAPS - 1))
    for i in range(n_ref):
        for m in range(len(signals)):
            products[i, :, m] = scipy.fft.irfft(ref_spec[i] * spec[m], size)[:TAPS]
        for j in range(i + 1):
            corr = scipy.fft.irfft(ref_spec[i] * np.conj(ref_spec[j]), size)
            lags[i, j] = np.concatenate([corr[1 - TAPS :], corr[:TAPS]])
            lags[j, i] = lags[i, j, ::-1]
    return lags, products.reshape(n_ref * TAPS, len(signals))


def _gram(lags: FloatArray) -> FloatArray:
    """Return the Gram matrix (512 K, 512 K) of the delayed references, its lower triangle of blocks, in columns."""
    n_ref = len(lags)
    gram = np.empty((n_ref * TAPS, n_ref * TAPS), order="F")
    for i in range(n_ref):
        for j in range(i + 1):
            # Row a of a block has the lags a - b from b = 0 on: those from a on, backwards.
            rows = np.lib.stride_tricks.sliding_window_view(lags[i, j], TAPS)[:, ::-1]
            gram[i * TAPS : (i + 1) * TAPS, j * TAPS : (j + 1) * TAPS] = rows
    return gram


def _cholesky_white(lags: FloatArray, products: FloatArray) -> FloatArray | None:
    """Return L^-1 d for products d (R, M), or None where G is singular or nearly so."""
    try:
        # In place: a second matrix of this size would cost as much time as a fifth of the factorisation.
        factor, _ = scipy.linalg.cho_factor(_gram(lags), lower=True, overwrite_a=True, check_finite=False)
    except scipy.linalg.LinAlgError:
        return None
    pivots = np.diagonal(factor)
    if pivots.min() < _WEAK_PIVOT * pivots.max():
        return None
    white: FloatArray = scipy.linalg.solve_triangular(factor, products, lower=True, check_finite=False)
    return white


def _energy(lags: FloatArray, products: FloatArray) -> FloatArray:
    """Return d' G^-1 d (M,) for products d (R, M), over the directions in which the references have energy."""
    white = _cholesky_white(lags, products)
    if white is None:
        # References without energy in part of the band, or equal ones: leave out the directions they lack.
        gram = _gram(lags)
        full = np.tril(gram) + np.tril(gram, -1).T
        values, vectors = scipy.linalg.eigh(full, check_finite=False)
        keep = values > values[-1] * len(values) * np.finfo(np.float64).eps
        white = (vectors[:, keep].T @ products) / np.sqrt(values[keep])[:, None]
    energy: FloatArray = np.square(white).sum(0)
    return energy


class _BSSEval(Metric):
    def __init__(self, name: str, key: str, improvement: bool = False) -> None:
        super().__init__(name, needs_mixture=improvement)
        self._key = key

    def _values(self, est: FloatArray, ref: FloatArray, mix: FloatArray | None) -> FloatArray:
        # The mixture costs one more column; with it, one result serves the improvement too.
        known = None if mix is None else np.nan_to_num(mix, nan=0.0, posinf=0.0, neginf=0.0)
        found = bss_eval(est, ref, known)
        return found[self._key] - found["mix_sdr"] if self.needs_mixture else found[self._key]

    def common_reason(self, ref: FloatArray, mix: FloatArray | None) -> str:
        why = super().common_reason(ref, mix)
        n_ref = int(ref.any(1).sum())
        if not why and n_ref and too_short(ref.shape[1], n_ref):
            why = f"{ref.shape[1]} samples, too short for {n_ref} filters of {TAPS} taps"
        if not why and n_ref == 1 and self._key == "sir":
            why = "no second reference that could interfere"
        return why


SDR = _BSSEval("sdr", "sdr")
SDRI = _BSSEval("sdri", "sdr", improvement=True)
SIR = _BSSEval("sir", "sir")
SAR = _BSSEval("sar", "sar")
