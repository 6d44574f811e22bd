"""Sample-rate conversion of a stream that waits for nothing but its filter.

An output at the time t, in samples of the input, is
    y(t) = sum_k g(t - k) x(k),    g(u) = 2 f sinc(2 f u) w(u / H),    w Kaiser's window,
with H = 64 samples of the slower rate on either side: 4 ms of 16 kHz. Between rates in the ratio L : M there are L
places of t between two samples, so L rows of weights. With beta = 8 the stop band lies 80 dB down and its edge, at half
of the slower rate, (80 - 7.95) / 14.36 = 5.02 over the filter's length above the pass band's (Kaiser 1974): 627 Hz at
16 kHz. soxr filters in blocks instead, sharper, and holds 37 to 58 ms back between the usual rates and 16 kHz.
"""

from __future__ import annotations

import math

import numpy as np

from usepcli.audio.resample import length_after

_SIDE, _BETA, _EDGE = 64, 8.0, 5.02
_KEPT = 4096  # rows


class LiveResampler:
    """Convert a stream of blocks (C, T) in constant memory, `wait_s` behind; the length is that of `resample`."""

    def __init__(self, rate_in: int, rate_out: int, channels: int) -> None:
        self.rate_in, self.rate_out = rate_in, rate_out
        common = math.gcd(rate_in, rate_out)
        self._up, self._down = rate_out // common, rate_in // common
        self._side = math.ceil(_SIDE * rate_in / min(rate_in, rate_out))
        self._held = np.zeros((channels, self._side - 1), np.float32)  # from sample `_first` of the input on
        self._first, self._taken, self._given = 1 - self._side, 0, 0
        self._rows: dict[int, np.ndarray] = {}

    @property
    def wait_s(self) -> float:
        """Most seconds of input that are held back."""
        return 0.0 if self.rate_in == self.rate_out else self._side / self.rate_in + 1 / self.rate_out

    def push(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """Take a block (C, T) and return what is ready (C, T') as float32; with `last`, return all the rest."""
        if self.rate_in == self.rate_out:
            return block
        self._taken += block.shape[1]
        parts = [self._held, np.asarray(block, np.float32)]
        if last:
            parts.append(np.zeros((len(block), self._side + 1), np.float32))
        self._held = np.concatenate(parts, axis=1)
        # Output n lies at sample n down / up and needs `side` samples behind the one before it.
        end = self._first + self._held.shape[1]
        ready = max(-(-(end - self._side) * self._up // self._down), self._given)
        if last:
            ready = length_after(self._taken, self.rate_in, self.rate_out)
        out = self._made(self._given, ready)
        self._given = ready
        keep = max(ready * self._down // self._up - self._side + 1 - self._first, 0)
        self._held, self._first = self._held[:, keep:].copy(), self._first + keep
        return out

    def _made(self, start: int, stop: int) -> np.ndarray:
        """Return outputs start to stop (C, stop - start): those between the same two places of samples at once."""
        out = np.empty((len(self._held), stop - start), np.float32)
        if not out.size:
            return out
        windows = np.lib.stride_tricks.sliding_window_view(self._held, 2 * self._side, axis=1)
        for first in range(start, min(start + self._up, stop)):
            at = first * self._down // self._up - self._side + 1 - self._first
            count = len(range(first, stop, self._up))
            seen = windows[:, at : at + (count - 1) * self._down + 1 : self._down]  # (C, count, 2 side)
            out[:, first - start :: self._up] = seen @ self._row(first * self._down % self._up)
        return out

    def _row(self, phase: int) -> np.ndarray:
        """Return the weights (2 side) of an output phase / up behind a sample, which add up to 1."""
        if phase not in self._rows:
            if len(self._rows) == _KEPT:  # rates of no common measure have as many places as samples
                self._rows.clear()
            slower = min(self.rate_in, self.rate_out) / self.rate_in
            u = phase / self._up + self._side - 1 - np.arange(2 * self._side)
            edge = slower * (0.5 - _EDGE / (2 * _SIDE) / 2)
            span = 1 - np.square(np.clip(u / (_SIDE / slower), -1, 1))
            row = np.sinc(2 * edge * u) * np.i0(_BETA * np.sqrt(span)) * (span > 0)
            self._rows[phase] = (row / row.sum()).astype(np.float32)
        return self._rows[phase]
