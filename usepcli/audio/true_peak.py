"""True peak of a stream of blocks (ITU-R BS.1770-4, Annex 2): the largest value between the samples, too.

A signal x[n] of band-limited origin has between its samples the values y(n + d) = sum_k x[n + k] h(k - d) with
h(t) = sinc(t) kaiser(t / reach). Annex 2 asks for four times the rate below 96 kHz; this filter is within 0.01 dB
of the ideal one up to 0.45 of the rate.
"""

from __future__ import annotations

import math

import numpy as np

_REACH, _BETA = 24, 6.0  # half length of the filter in samples, and its Kaiser window
_PART = 4096  # samples that are looked at together: a quiet part is not interpolated


class Interpolator:
    """Largest values over the channels at and between samples; four times the rate, fewer from 96 kHz on."""

    def __init__(self, rate: int) -> None:
        factor = 4 if rate < 96_000 else 2 if rate < 192_000 else 1
        self.reach = _REACH
        offsets = np.arange(1 - _REACH, _REACH + 1)  # of the samples that a value after sample n is made of
        self._filters = [_sinc(offsets - phase / factor) for phase in range(1, factor)]
        # No value between samples is larger than this times the largest sample that it is made of.
        self.most = max([1.0, *(float(np.abs(taps).sum()) for taps in self._filters)])

    def peaks(self, wave: np.ndarray, floor: float = 0.0) -> np.ndarray:
        """Return (T,) for wave (C, T + 2 reach): the largest of |x[n]| and of the values between n and n + 1.

        n counts from `reach` on. Parts of the signal that cannot pass `floor` give the largest sample alone.
        """
        length, reach = wave.shape[1] - 2 * self.reach, self.reach
        size = np.abs(wave).max(axis=0)
        found = size[reach : reach + length].copy()
        for start in range(0, length, _PART):
            stop = min(start + _PART, length)
            if size[start : stop + 2 * reach].max() * self.most <= floor:
                continue
            for channel in wave:
                part = channel[start + 1 : stop + 2 * reach]
                for taps in self._filters:
                    between = np.abs(np.convolve(part, taps[::-1], "valid"))  # (stop - start,)
                    np.maximum(found[start:stop], between, out=found[start:stop])
        return found


class TruePeakMeter:
    """True peak: `push` blocks (C, T), then read `peak` (linear) or `dbtp`."""

    def __init__(self, rate: int, channels: int) -> None:
        self._between = Interpolator(rate)
        self._tail = np.zeros((channels, 2 * self._between.reach))
        self._peak = 0.0

    def push(self, block: np.ndarray) -> None:
        """Add a block (C, T)."""
        wave = np.concatenate([self._tail, np.asarray(block, np.float64)], axis=1)
        if block.shape[1]:
            self._peak = max(self._peak, float(self._between.peaks(wave, self._peak).max()))
        self._tail = wave[:, wave.shape[1] - 2 * self._between.reach :]

    @property
    def peak(self) -> float:
        """The true peak so far, full scale 1; the signal is taken to end in silence."""
        end = np.pad(self._tail, ((0, 0), (0, self._between.reach)))
        return max(self._peak, float(self._between.peaks(end, self._peak).max()))

    @property
    def dbtp(self) -> float:
        """The true peak so far in dB relative to full scale; -inf for silence."""
        return decibel(self.peak)


def decibel(size: float) -> float:
    """Return 20 log10 of an amplitude, -inf for 0."""
    return 20 * math.log10(size) if size > 0 else -math.inf


def _sinc(t: np.ndarray) -> np.ndarray:
    window = np.i0(_BETA * np.sqrt(np.clip(1 - (t / _REACH) ** 2, 0, 1))) / np.i0(_BETA)
    return np.sinc(t) * window
