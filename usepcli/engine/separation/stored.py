"""What is in the files of a separation: peak, level and loudness of every output as it is written.

Measured behind the common gain, rounding and limiting: what reaches 4 times full scale has full scale in a file of
integers, and whoever reads the table reads of the file.
"""

from __future__ import annotations

import math

import numpy as np

from usepcli.audio.loudness import LoudnessMeter


class Stored:
    """Takes the samples (N, C, t) of N files as they are written; lossy formats: as their coder gets them."""

    def __init__(self, rate: int, outputs: int, channels: int) -> None:
        self.peaks = np.zeros(outputs)
        self._power = np.zeros(outputs)
        self._taken = 0
        self._loudness = [LoudnessMeter(rate, channels) for _ in range(outputs)]

    def push(self, waves: np.ndarray) -> None:
        """Add samples."""
        if not waves.shape[2]:
            return
        self.peaks = np.maximum(self.peaks, np.maximum(waves.max(axis=(1, 2)), -waves.min(axis=(1, 2))))
        self._power += [np.vdot(wave, wave) for wave in waves.astype(np.float64, copy=False)]
        self._taken += waves.shape[1] * waves.shape[2]
        for meter, wave in zip(self._loudness, waves, strict=True):
            meter.push(wave)

    def levels_db(self) -> list[float]:
        """Return the mean power of each file over time and channels in dB of full scale; -inf for silence."""
        return [10 * math.log10(power / self._taken) if power > 0 else -math.inf for power in self._power]

    def lufs(self) -> list[float]:
        """Return the integrated loudness of each file: -inf for silence, nan under 0.4 s."""
        return [meter.lufs() for meter in self._loudness]
