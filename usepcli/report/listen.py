"""Sound and pictures of sound for a page: audio as data URIs, spectrograms and waveforms as small arrays.

A picture has a fixed number of columns at most: where a signal has more, neighbours are merged pairwise (largest and
smallest sample, mean power), so that any length takes the same memory. Bands are triangles on the mel scale
2595 log10(1 + f / 700) (O'Shaughnessy 1987), never narrower than a bin; levels are dB of a full-scale sine.
"""

from __future__ import annotations

import base64
import io as _io
from collections.abc import Sequence
from typing import Any

import numpy as np
import soundfile as sf

from usepcli.audio.resample import StreamResampler
from usepcli.report.streamed import MP3_RATES

TOP_RATE = 48_000
LOWEST_DB = -110.0
_CODECS = {"flac": ("FLAC", "PCM_16", "audio/flac"), "mp3": ("MP3", "MPEG_LAYER_III", "audio/mpeg")}
_WINDOW_S, _HOP_S = 0.046, 0.008
_FRAMES_AT_ONCE = 2048
_FRAMES_PER_COLUMN = 4


def encode(wave: np.ndarray, rate: int, codec: str = "flac", gain: float = 1.0) -> str:
    """Return a `data:` URI of a waveform (C, T) or (T,) times `gain`; see `Encoder`."""
    wave = np.atleast_2d(np.asarray(wave, np.float32)) * np.float32(gain)
    encoder = Encoder(rate, len(wave), codec)
    encoder.push(wave)
    return encoder.finish()


class Encoder:
    """A waveform on its way into a page, at most 48 kHz and two channels: `push` blocks (C, t), then `finish`.

    flac keeps every track of a page aligned to the sample and loses 16-bit rounding only; mp3 is about six times
    smaller. More than two channels are averaged into one. What passes full scale is clipped: give the tracks of one
    page one common gain that avoids it.
    """

    def __init__(self, rate: int, channels: int, codec: str = "flac") -> None:
        self.channels = channels if channels <= 2 else 1
        form, subtype, self._mime = _CODECS[codec]
        self._lossless = codec == "flac"
        target = page_rate(rate, codec)
        self._sampler = StreamResampler(rate, target, self.channels)
        self._blank, self._some = np.zeros((self.channels, 0), np.float32), False
        self._sink = _io.BytesIO()
        self._file = sf.SoundFile(self._sink, "w", target, self.channels, format=form, subtype=subtype)

    def push(self, block: np.ndarray, last: bool = False) -> None:
        """Add a block."""
        few = block if len(block) == self.channels else block.mean(0, keepdims=True)
        self._some = self._some or few.shape[1] > 0
        ready = self._sampler.push(few, last)
        # libsndfile scales by 2^15 - 1; rounding here keeps 16-bit input as it is. Of int16 in two channels it gives
        # LAME twice what there is (1.2.2), not so of floats.
        codes = np.clip(np.rint(ready * np.float32(32768.0)), -32768, 32767)
        self._file.write(np.ascontiguousarray(codes.T.astype(np.int16) if self._lossless else codes.T / 32768))

    def finish(self) -> str:
        """Return the whole waveform as a `data:` URI; ValueError if it has no samples."""
        if not self._some:
            raise ValueError("a waveform without samples cannot be encoded")
        self.push(self._blank, last=True)
        self.close()
        return f"data:{self._mime};base64,{base64.b64encode(self._sink.getvalue()).decode('ascii')}"

    def close(self) -> None:
        """Let go of what is not finished; safe to call twice."""
        self._file.close()  # while what it writes to is there


def page_rate(rate: int, codec: str = "flac") -> int:
    """Return the rate in Hz at which `encode` stores a signal of `rate`."""
    if codec == "flac":
        return min(rate, TOP_RATE)
    return min((known for known in MP3_RATES if known >= rate), default=TOP_RATE)


def picture(wave: np.ndarray, rate: int, columns: int = 1200, rows: int = 96) -> dict[str, Any]:
    """Return the picture of a waveform (C, T) or (T,); see `Painter.finish`."""
    wave = np.atleast_2d(wave)
    painter = Painter(rate, columns, rows, seconds=wave.shape[1] / rate)
    painter.push(wave)
    return painter.finish()


class Painter:
    """The picture of a stream: `push` blocks (C, t), then `finish`.  Memory does not grow with the length.

    `seconds`, the expected length, spares frames that would be merged at once; 0 if it is unknown.
    """

    def __init__(self, rate: int, columns: int = 1200, rows: int = 96, seconds: float = 0.0) -> None:
        if rate < 1 or columns < 2 or columns % 2 or rows < 1:
            raise ValueError(f"rate {rate}, columns {columns}, rows {rows}: expected columns even and all positive")
        self.rate, self.columns, self.rows = rate, columns, rows
        self.hop = max(1, round(max(_HOP_S, seconds / columns / _FRAMES_PER_COLUMN) * rate))
        self._size = 1 << max(5, round(np.log2(_WINDOW_S * rate)))
        # Samples that a hop looks at: its window, and itself where it is longer.
        self._need = max(self._size, self.hop + self._size // 2)
        self._window = np.hanning(self._size + 1)[:-1].astype(np.float32)
        self._bands = mel_bands(rate, self._size, rows) * np.float32((2 / self._window.sum()) ** 2)
        self._held = np.zeros((0, 0), np.float32)
        self.frames = 0
        self._merged = 1  # hops per column
        self._power: list[np.ndarray] = []  # finished columns (rows,)
        self._ends: list[tuple[float, float, float]] = []  # smallest, largest sample, mean square
        self._open: list[np.ndarray] = []  # hops of the column under way
        self._open_ends: list[tuple[float, float, float]] = []

    def push(self, block: np.ndarray) -> None:
        """Add a block (C, t) or (t,)."""
        block = np.atleast_2d(np.asarray(block, np.float32))
        if not self._held.size:
            # Half a window before the first sample, so that frames are centred on their hops.
            self._held = np.zeros((len(block), self._size // 2), np.float32)
        self.frames += block.shape[1]
        self._held = np.concatenate([self._held, block], 1)
        self._take(self._held.shape[1])

    def finish(self) -> dict[str, Any]:
        """Return columns, rows, step_s (seconds per column), hz (lowest, highest), floor_db, and as base64:

        `spectrum` uint8 (columns, rows), lowest band first, and `level` uint8 (columns,), both 0 for floor_db and 255
        for 0 dB; `low` and `high` int8 (columns,), the smallest and largest sample times 127.
        """
        if self.frames:
            # What is left: less than a window; silence behind the end completes the last hops.
            missing = -(-self.frames // self.hop) - self._done
            pad = max(0, (missing - 1) * self.hop + self._need - self._held.shape[1]) if missing > 0 else 0
            self._held = np.pad(self._held, ((0, 0), (0, pad)))
            self._take(self._held.shape[1], missing)
        if self._open:
            self._close()
        power = np.array(self._power, np.float32).reshape(-1, self.rows)
        ends = np.array(self._ends, np.float32).reshape(-1, 3)
        sides = np.clip(np.rint(ends * 127), -127, 127).astype(np.int8)
        return {
            "columns": len(power), "rows": self.rows, "step_s": self._merged * self.hop / self.rate,
            "hz": [0, self.rate / 2], "floor_db": LOWEST_DB, "spectrum": to_base64(_codes(power)),
            "level": to_base64(_codes(2 * ends[:, 2])), "low": to_base64(sides[:, 0]), "high": to_base64(sides[:, 1]),
        }  # fmt: skip

    @property
    def _done(self) -> int:
        return len(self._power) * self._merged + len(self._open)

    def _take(self, available: int, limit: int = -1) -> None:
        """Turn the hops that are complete among the held samples into columns."""
        count = max(0, (available - self._need) // self.hop + 1)
        count = count if limit < 0 else min(count, limit)
        for first in range(0, count, _FRAMES_AT_ONCE):
            some = min(_FRAMES_AT_ONCE, count - first)
            begin = first * self.hop
            stop = begin + (some - 1) * self.hop + self._size
            views = np.lib.stride_tricks.sliding_window_view(self._held[:, begin:stop], self._size, 1)[:, :: self.hop]
            power = (np.abs(np.fft.rfft(views * self._window)) ** 2).mean(0) @ self._bands  # (some, rows)
            half = self._size // 2
            # Every sample counts for the waveform, also between the windows where hops are longer than these.
            for k in range(some):
                part = self._held[:, begin + k * self.hop + half : begin + (k + 1) * self.hop + half]
                square = float(np.square(part).mean())
                self._add(power[k], (float(part.min(initial=0.0)), float(part.max(initial=0.0)), square))
        self._held = self._held[:, count * self.hop :]

    def _add(self, power: np.ndarray, ends: tuple[float, float, float]) -> None:
        self._open.append(power)
        self._open_ends.append(ends)
        if len(self._open) < self._merged:
            return
        self._close()
        if len(self._power) == self.columns:
            pairs = zip(self._power[::2], self._power[1::2], strict=True)
            self._power = [(a + b) / 2 for a, b in pairs]
            self._ends = [_joined(two) for two in zip(self._ends[::2], self._ends[1::2], strict=True)]
            self._merged *= 2

    def _close(self) -> None:
        self._power.append(np.mean(self._open, axis=0))
        self._ends.append(_joined(self._open_ends))
        self._open, self._open_ends = [], []


def _joined(ends: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
    low, high, square = zip(*ends, strict=True)
    return min(low), max(high), sum(square) / len(square)


def _codes(power: np.ndarray) -> np.ndarray:
    """Return power relative to a full-scale sine as uint8: 0 for LOWEST_DB, 255 for 0 dB."""
    level = 10 * np.log10(np.maximum(power, 10 ** (LOWEST_DB / 10)))
    return np.clip(np.rint((1 - level / LOWEST_DB) * 255), 0, 255).astype(np.uint8)


def mel_bands(rate: int, size: int, rows: int) -> np.ndarray:
    """Return triangular weights (size // 2 + 1, rows) from 0 to rate / 2 Hz, each with its largest weight 1."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, rows + 2) / 2595) - 1)
    bins = np.arange(size // 2 + 1) * rate / size
    low, mid, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, None] - mid) / np.maximum(mid - low, rate / size)
    falling = (mid - bins[:, None]) / np.maximum(high - mid, rate / size)
    return np.maximum(0, 1 + np.minimum(rising, falling)).astype(np.float32)


def to_base64(array: np.ndarray) -> str:
    """Return the bytes of an array as base64 text."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
