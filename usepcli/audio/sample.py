"""The recording of two talkers that comes with usep, as something that a model can be tried on."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np

from usepcli.audio import io, resample


def two_talkers(rate: int) -> np.ndarray:
    """Return two talkers as (T,) float32 at `rate` Hz."""
    wave, own = io.read_mono(Path(str(resources.files("usepcli"))) / "samples" / "two_talkers.flac")
    return np.ascontiguousarray(resample.resample(wave, own, rate), dtype=np.float32)


def cut(wave: np.ndarray, count: int, start: int = 0) -> np.ndarray:
    """Return (1, count) samples of (T,) from `start` on, beginning again at the end of the recording."""
    return np.take(wave, np.arange(start, start + count), mode="wrap")[None]
