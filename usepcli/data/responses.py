"""A recording as another microphone would hear it: random frequency responses, so that none is known by its own.

X(f) <- X(f) 10^(g(f) / 20)        g: straight lines over log f between points an octave apart, each in [-d, d] dB
"""

from __future__ import annotations

import numpy as np

_LOWEST_HZ = 62.5


def heard_through(wave: np.ndarray, rate: int, most_db: float, draw: np.random.Generator) -> np.ndarray:
    """Return a wave (T,) at `rate` Hz through a response of +-most_db dB that is drawn anew, its phase as it was.

    The segment counts as one period: what of its end comes to its beginning is as long as a response rings, some 10 ms.
    """
    points = np.arange(np.log2(_LOWEST_HZ), np.log2(rate / 2) + 1)
    gains = draw.uniform(-most_db, most_db, len(points))
    freqs = np.fft.rfftfreq(wave.size, 1 / rate)
    gain = np.interp(np.log2(np.maximum(freqs, _LOWEST_HZ)), points, gains)
    return np.fft.irfft(np.fft.rfft(wave) * 10 ** (gain / 20), wave.size)
