"""Decoded audio kept in memory as int16 while it fits, so that an epoch decodes each file once."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from usepcli.audio import io
from usepcli.audio.resample import resample
from usepcli.errors import BadInput


class AudioStore:
    """Reads mono segments at one rate; keeps whole decoded files up to `limit_bytes`."""

    def __init__(self, rate: int, keep: bool = True, limit_bytes: int = 4 << 30) -> None:
        self.rate, self.keep, self.limit = rate, keep, limit_bytes
        self.held = 0
        self.read_last = Path()  # the file that was asked for last
        self.files: dict[tuple[str, float], np.ndarray] = {}

    def whole(self, path: Path, speed: float = 1.0) -> np.ndarray:
        """Return one file as float32 (T,), played `speed` times faster by resampling (pitch moves along).

        Raises BadInput if the file is empty or holds a value that is not finite.
        """
        self.read_last = path
        key = (str(path), speed)
        if key in self.files:
            return self.files[key].astype(np.float32) / 32768.0
        wave, rate = io.read_mono(path)
        if wave.size == 0 or not np.isfinite(wave).all():
            raise BadInput(f"{path}: empty or not finite; replace or remove the file")
        if rate != self.rate or speed != 1.0:
            wave = resample(wave, round(rate * speed), self.rate).astype(np.float32)
        if self.keep and self.held + 2 * wave.size <= self.limit:
            self.files[key] = np.clip(np.rint(wave * 32768.0), -32768, 32767).astype(np.int16)
            self.held += 2 * wave.size
            # The stored copy is what later epochs see; return the same numbers now.
            return self.files[key].astype(np.float32) / 32768.0
        return wave

    def segment(self, path: Path, start: int, frames: int) -> np.ndarray:
        """Return float32 (frames,) from sample `start`, reading only that part when nothing is kept."""
        self.read_last = path
        if self.keep:
            return self.whole(path)[start : start + frames]
        wave, rate = io.read_mono(path, start, frames)
        if rate != self.rate:
            return self.whole(path)[start : start + frames]
        if not np.isfinite(wave).all():
            raise BadInput(f"{path}: holds values that are not finite; replace or remove the file")
        return wave
