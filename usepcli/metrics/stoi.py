"""Short-time objective intelligibility, from 0 to 1 (Taal et al. 2011), by the library pystoi.

The signals are resampled to 10 kHz and frames 40 dB below the loudest one of the reference are left out. Not the
extended form.
"""

from __future__ import annotations

import warnings
from typing import Any

from usepcli.metrics.base import FloatArray
from usepcli.metrics.speech import Listener, Speech, Unscored

_LEAST_S = 0.39  # 30 frames of 256 samples, 128 apart, at 10 kHz
_TOO_SHORT = "less than 0.4 s of reference that is not silent"


def _listen(library: Any, ref: FloatArray, est: FloatArray, rate: int) -> float:
    if len(ref) < _LEAST_S * rate:
        raise Unscored(_TOO_SHORT)  # the library fails on less than a frame
    with warnings.catch_warnings():
        # The library warns and returns 1e-5, which a mean would take for a score.
        warnings.filterwarnings("error", message="Not enough STFT frames", category=RuntimeWarning)
        try:
            return float(library.stoi(ref, est, rate, extended=False))
        except RuntimeWarning as fault:
            raise Unscored(_TOO_SHORT) from fault


_LISTENER = Listener("pystoi", _listen)
STOI = Speech("stoi", _LISTENER, unit="")
STOII = Speech("stoii", _LISTENER, unit="", improvement=True)
