"""Decoded audio kept in memory as int16 while it fits, so that an epoch decodes each file once.

Of a file longer than LONG_S only the stretch that is asked for is read and resampled, with LEAD_S more at either end.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from usepcli.audio import io
from usepcli.audio.resample import length_after, resample
from usepcli.errors import BadInput

LONG_S = 600.0
LEAD_S = 0.1  # longer than the resampler's filter


class AudioStore:
    """Reads mono segments at one rate; keeps whole decoded files up to `limit_bytes`.

    seek: read stretches of long files in place of the whole.  channels: "mix", their mean, or "first".
    """

    def __init__(
        self, rate: int, keep: bool = True, limit_bytes: int = 4 << 30, seek: bool = True, channels: str = "mix"
    ) -> None:
        self.rate, self.keep, self.limit, self.seek = rate, keep, limit_bytes, seek
        self.channels = channels
        self.lengths: dict[Path, io.Info] = {}
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
        wave, rate = self._read(path)
        if wave.size == 0 or not np.isfinite(wave).all():
            raise BadInput(f"{path}: empty or not finite; replace or remove the file")
        if rate != self.rate or speed != 1.0:
            wave = resample(wave, round(rate * speed), self.rate).astype(np.float32)
        if self.keep and self.held + 2 * wave.size <= self.limit:
            self.files[key] = _codes(wave)
            self.held += 2 * wave.size
            # The stored copy is what later epochs see; return the same numbers now.
            return self.files[key].astype(np.float32) / 32768.0
        return wave

    def segment(self, path: Path, start: int, frames: int) -> np.ndarray:
        """Return float32 (frames,) from sample `start`, reading only that part when nothing is kept."""
        self.read_last = path
        if self._long(path):
            return self._stretch(path, start, frames)
        if self.keep:
            return self.whole(path)[start : start + frames]
        wave, rate = self._read(path, start, frames)
        if rate != self.rate:
            return self.whole(path)[start : start + frames]
        if not np.isfinite(wave).all():
            raise BadInput(f"{path}: holds values that are not finite; replace or remove the file")
        return wave

    def some(self, path: Path, frames: int, speed: float, draw: np.random.Generator) -> np.ndarray:
        """Return one file as `whole` does, or of a long one (frames,) from a place that is drawn."""
        self.read_last = path
        if not self._long(path):
            return self.whole(path, speed)
        said = self.lengths[path]
        total = length_after(said.frames, round(said.rate * speed), self.rate)
        return self._stretch(path, int(draw.integers(max(total - frames, 0) + 1)), frames, speed)

    def _read(self, path: Path, start: int = 0, frames: int = -1) -> tuple[np.ndarray, int]:
        if self.channels == "mix":
            return io.read_mono(path, start, frames)
        wave, rate = io.read(path, start, frames)
        return wave[0], rate

    def _long(self, path: Path) -> bool:
        if not self.seek:
            return False
        if path not in self.lengths:
            self.lengths[path] = io.info(path)
        return self.lengths[path].seconds > LONG_S

    def _stretch(self, path: Path, start: int, frames: int, speed: float = 1.0) -> np.ndarray:
        """Return float32 (<= frames,) from sample `start` at the store's rate, as `whole` would give it."""
        own = round(self.lengths[path].rate * speed)
        step = math.gcd(own, self.rate)
        taken, given = own // step, self.rate // step  # so many samples of the file are so many here
        lead = round(LEAD_S * self.rate) if own != self.rate else 0
        first = max(0, start - lead) // given
        count = math.ceil((start + frames + lead - first * given) * own / self.rate)
        wave, _ = self._read(path, first * taken, count)
        if own != self.rate:
            wave = resample(wave, own, self.rate).astype(np.float32)
        wave = wave[start - first * given :][:frames]
        return _codes(wave).astype(np.float32) / 32768.0 if self.keep else wave


def _codes(wave: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(wave * 32768.0), -32768, 32767).astype(np.int16)
