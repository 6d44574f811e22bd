"""Spectral holes: where in time and frequency a reference sounds and its estimate does not.

With power spectrograms S (reference) and E (estimate at the reference's level), both averaged over 3 bins by 3 frames,
    sounding = S >= max(S) / 10^4          (within 40 dB of the loudest)
    hole     = sounding and E <= S / 10^2  (20 dB or more below)
The level: where the cosine c of both signals is 0.1 or more, the reference's part in the estimate is brought to the
reference's level, E / (<e, s> / <s, s>)^2, as in SI-SNR; below that both are brought to the same power.
Limits: windows and means blur the edges of a hole by about two cells on each side, which do not count; and what an
estimate holds of a source more than 20 dB below the rest of it is missing by this measure.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

WINDOW_S, HOP_S = 0.064, 0.016
SOUNDING_DB, BELOW_DB = 40.0, 20.0
SMOOTH = 3  # bins and frames
ALIKE = 0.1  # cosine below which a projection says nothing of the level


class Holes(NamedTuple):
    """The mask (F, L) with the times (L,) and frequencies (F,) of its cells, and the shares lost, 0 to 1.

    energy: of the energy in the sounding cells; area: of these cells.  nan where the reference is silent.
    """

    mask: Mask
    times_s: FloatArray
    bins_hz: FloatArray
    energy: float
    area: float


def find(est: FloatArray, ref: FloatArray, rate: int) -> Holes:
    """Return the holes of an estimate (T,) against its reference (T,) at `rate` Hz; ValueError for unequal shapes.

    Of channels (C, T) the powers are added up.
    """
    est, ref = np.asarray(est, np.float64), np.asarray(ref, np.float64)
    if est.ndim not in (1, 2) or est.shape != ref.shape:
        raise ValueError(f"estimate {est.shape}, reference {ref.shape}; expected (T,) or (C, T) twice")
    window, hop = _sizes(rate)
    sounds, heard = _power(ref, window, hop), _power(est, window, hop) * _gain(est, ref) ** 2
    times = np.arange(sounds.shape[1]) * hop / rate
    bins = np.arange(sounds.shape[0]) * rate / window
    blurred = _blur(sounds)
    sounding = (blurred >= blurred.max(initial=0) * 10 ** (-SOUNDING_DB / 10)) & (blurred > 0)
    mask = sounding & (_blur(heard) <= blurred * 10 ** (-BELOW_DB / 10))
    if not sounding.any():
        return Holes(mask, times, bins, float("nan"), float("nan"))
    energy = float(blurred[mask].sum() / blurred[sounding].sum())
    return Holes(mask, times, bins, energy, float(mask.sum() / sounding.sum()))


def on_grid(found: Holes, times_s: FloatArray, rows_hz: FloatArray) -> Mask:
    """Return the mask (columns, rows) on the rising times and frequencies of a picture.

    A cell is set where at least half of the cells nearest to it are, or where it has none, the one nearest to it.
    """
    share = _nearest(np.asarray(found.mask, np.float64), found.bins_hz, rows_hz)
    return _nearest(share.T, found.times_s, times_s) >= 0.5


def _nearest(cells: FloatArray, at: FloatArray, to: FloatArray) -> FloatArray:
    """Return cells (A, ...) at places `at` (A,) as means over those nearest to the places `to` (B,)."""
    index = np.searchsorted((to[1:] + to[:-1]) / 2, at)
    counts = np.bincount(index, minlength=len(to))
    sums = np.zeros((len(to), *cells.shape[1:]))
    np.add.at(sums, index, cells)
    own = np.searchsorted((at[1:] + at[:-1]) / 2, to)
    return np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], cells[own])


def _sizes(rate: int) -> tuple[int, int]:
    window = max(16, 2 * round(WINDOW_S * rate / 2))
    return window, max(1, round(HOP_S * rate))


def _gain(est: FloatArray, ref: FloatArray) -> float:
    """Return the factor that brings the estimate to the reference's level; 1 for a silent one."""
    both, e, s = float(np.vdot(est, ref)), float(np.vdot(est, est)), float(np.vdot(ref, ref))
    if e == 0 or s == 0:
        return 1.0
    cosine = abs(both) / np.sqrt(e * s)
    return s / abs(both) if cosine >= ALIKE else float(np.sqrt(s / e))


def _power(wave: FloatArray, window: int, hop: int) -> FloatArray:
    """Return the power spectrogram (F, L) of a wave (T,), Hann window, frames centred on multiples of the hop.

    Of channels (C, T) it is their sum.
    """
    if wave.ndim == 2:
        return np.asarray(sum(_power(one, window, hop) for one in wave))
    padded = np.pad(wave, (window // 2, window // 2 + (-len(wave)) % hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    shape = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    # In blocks: a minute of frames at once takes as much memory as the rest of the page.
    parts = [np.abs(np.fft.rfft(frames[i : i + 512] * shape)) ** 2 for i in range(0, len(frames), 512)]
    return np.concatenate(parts).T


def _blur(power: FloatArray) -> FloatArray:
    from scipy.ndimage import uniform_filter

    # A running sum leaves rounding of the loudest cell in the silent ones.
    return np.maximum(np.asarray(uniform_filter(power, SMOOTH, mode="nearest")), 0.0)
