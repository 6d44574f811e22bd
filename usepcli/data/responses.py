"""A recording as another microphone or line would give it: random frequency responses, and less of the band.

X(f) <- X(f) 10^(g(f) / 20)        g: straight lines over log f between points an octave apart, each in [-d, d] dB
X(f) <- X(f) h(f / c)              h: 1 below the cut, falling as cos^2 to 0 within a tenth of it
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_LOWEST_HZ = 62.5
_SKIRT = 0.1  # of the cut


def heard_through(wave: np.ndarray, rate: int, most_db: float, draw: np.random.Generator) -> np.ndarray:
    """Return a wave (T,) at `rate` Hz through a response of +-most_db dB that is drawn anew, its phase as it was.

    The segment counts as one period: what of its end comes to its beginning is as long as a response rings, some 10 ms.
    It is computed, and comes back, in the precision of the wave.
    """
    points = np.arange(np.log2(_LOWEST_HZ), np.log2(rate / 2) + 1)
    gains = draw.uniform(-most_db, most_db, len(points))
    gain = np.exp(np.interp(_octaves(wave.size, rate), points, np.log(10) / 20 * gains).astype(wave.dtype))
    return np.fft.irfft(np.fft.rfft(wave) * gain, wave.size)


@lru_cache(maxsize=8)
def _octaves(size: int, rate: int) -> np.ndarray:
    """Return log2 of the frequencies of a spectrum."""
    return np.log2(np.maximum(np.fft.rfftfreq(size, 1 / rate), _LOWEST_HZ))  # type: ignore[no-any-return]


def low_passed(waves: np.ndarray, rate: int, cut_hz: float) -> np.ndarray:
    """Return waves (..., T) at `rate` Hz without what lies above cut_hz, as a telephone or a coder leaves them.

    Computed, as it comes back, in the precision of the waves.
    """
    over = (np.fft.rfftfreq(waves.shape[-1], 1 / rate) / cut_hz - 1) / _SKIRT
    first, last = np.searchsorted(over, (0, 1))
    spec = np.fft.rfft(waves)
    spec[..., first:last] *= np.cos(np.pi / 2 * over[first:last]).astype(waves.dtype) ** 2
    spec[..., last:] = 0
    return np.fft.irfft(spec, waves.shape[-1])
