"""Sample-rate conversion of arrays and of streams (soxr, high quality)."""

from __future__ import annotations

import numpy as np
import soxr


def length_after(frames: int, rate_in: int, rate_out: int) -> int:
    """Return ceil(frames * rate_out / rate_in): the output lasts at least as long."""
    return -(-frames * rate_out // rate_in)


def resample(wave: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    """Convert (..., T) at rate_in Hz to (..., ceil(T * rate_out / rate_in)); equal rates change nothing.

    float64 stays float64, everything else is computed in float32. The filter is symmetric: nothing is
    delayed.
    """
    if rate_in == rate_out:
        return wave
    kind = np.float64 if wave.dtype == np.float64 else np.float32
    flat = np.ascontiguousarray(wave.reshape(-1, wave.shape[-1]).T, dtype=kind)  # (T, C)
    out = soxr.resample(flat, rate_in, rate_out, quality="HQ").T
    frames = length_after(wave.shape[-1], rate_in, rate_out)
    return np.ascontiguousarray(_fit(out, frames).reshape(*wave.shape[:-1], frames))


class StreamResampler:
    """Convert a stream of blocks in constant memory; the total length is that of `resample` on the whole."""

    def __init__(self, rate_in: int, rate_out: int, channels: int) -> None:
        self.rate_in, self.rate_out, self.channels = rate_in, rate_out, channels
        self._taken = self._given = 0
        self._stream = None
        if rate_in != rate_out:
            self._stream = soxr.ResampleStream(rate_in, rate_out, channels, dtype="float32", quality="HQ")

    def push(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """Take a block (C, T) and return what is ready (C, T'); with `last`, return all the rest."""
        if self._stream is None:
            return block
        self._taken += block.shape[1]
        flat = np.ascontiguousarray(block.T, dtype=np.float32)
        out = self._stream.resample_chunk(flat, last=last).T
        if last:
            out = _fit(out, length_after(self._taken, self.rate_in, self.rate_out) - self._given)
        self._given += out.shape[1]
        return np.ascontiguousarray(out)


def _fit(wave: np.ndarray, frames: int) -> np.ndarray:
    # soxr rounds the length to the nearest sample; the promise is the next whole one
    missing = frames - wave.shape[1]
    return np.pad(wave, ((0, 0), (0, missing))) if missing > 0 else wave[:, :frames]
