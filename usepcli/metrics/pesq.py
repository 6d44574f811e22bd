"""Perceptual evaluation of speech quality as MOS-LQO, from about 1 to 4.6, by the library pesq.

ITU-T P.862 with the mapping of P.862.1 (narrow band) at 8 kHz, and P.862.2 (wide band) at 16 kHz; there is none for
other rates, and nothing is resampled.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.signal

from usepcli.metrics.base import FloatArray
from usepcli.metrics.speech import Listener, Speech, Unscored

_MODES = {8000: "nb", 16000: "wb"}

# The library keeps utterances in arrays of 50 and writes on beyond their end: wrong scores, or a crash. An utterance
# is at least 46 windows of 4 ms long, and more than 50 lie between two, so this many seconds cannot hold 50.
_WINDOW_S, _SPEECH, _PAUSE = 0.004, 46, 50
_SAFE_S = 49 * (_SPEECH + _PAUSE + 1) * _WINDOW_S
_MOST = 40  # where they are counted, with room for the library's own idea of what is speech
_AROUND = 10.0 ** np.linspace(-0.6, 0.6, 9)  # thresholds within 6 dB
_FAULTS = {-6: "shorter than 0.25 s", -7: "no utterance found"}


def _listen(library: Any, ref: FloatArray, est: FloatArray, rate: int) -> float:
    if rate not in _MODES:
        raise Unscored(f"{rate} Hz, defined at 8000 and 16000 Hz only")
    if len(ref) > _SAFE_S * rate and utterances(ref, rate) > _MOST:
        raise Unscored(f"more than {_MOST} utterances, too many for the library; score shorter pieces")
    # Codes, not exceptions: the library's own raising fails on nan.
    found = float(library.pesq(rate, ref, est, _MODES[rate], on_error=library.PesqError.RETURN_VALUES))
    if math.isnan(found):
        raise Unscored("one signal too quiet beside the other")
    if found < 0:
        raise Unscored(_FAULTS.get(int(found), f"the library failed with code {found:g}"))
    return found


def utterances(ref: FloatArray, rate: int) -> int:
    """Return about how many utterances PESQ finds in ref (T,) at `rate` Hz: rather too many than too few.

    Noise is what stays below its own mean plus two deviations, as the threshold between it and speech settles; an
    utterance is at least 46 windows of 4 ms in which no more than 50 in a row are noise (ITU-T P.862).
    """
    # what each mode listens to
    band, kind = (100.0, "highpass") if rate > 8000 else ((300.0, 3400.0), "bandpass")
    heard = scipy.signal.sosfilt(scipy.signal.butter(2, band, kind, fs=rate, output="sos"), ref)
    size = round(_WINDOW_S * rate)
    power = np.square(heard[: len(heard) // size * size]).reshape(-1, size).mean(1)  # (windows,)
    power = np.maximum(power, 1e-4 * power.max())
    threshold = 1.001 * power.mean()  # never below every power, whatever the rounding
    for _ in range(12):
        noise = power[power <= threshold]
        threshold = noise.mean() + 2 * noise.std()
    return max(_runs(power > threshold * factor) for factor in _AROUND)


def _runs(speech: np.ndarray[Any, np.dtype[np.bool_]]) -> int:
    where = np.flatnonzero(speech)
    if not len(where):
        return 0
    breaks = np.flatnonzero(np.diff(where) > _PAUSE + 1)
    starts, ends = where[np.r_[0, breaks + 1]], where[np.r_[breaks, len(where) - 1]]
    return int((ends - starts + 1 >= _SPEECH).sum())


_LISTENER = Listener("pesq", _listen)
PESQ = Speech("pesq", _LISTENER, unit="MOS")
PESQI = Speech("pesqi", _LISTENER, unit="MOS", improvement=True)
