"""How loud each source gets where it is itself: where it is the strongest of all.

A model that was not sure leaves something of every sound in every output. Such a trace can be loud, but it is a weaker
copy of what another output holds: in hardly any band at any moment is it the stronger. So what counts of source n is,
per window of two frames of 100 ms, each half over the one before,

    own_n = sum of |E_n(f)|^2 over the bins in which no |E_m(f)|^2 is larger,

as a mean power: Hann window w of L samples, divided by L sum w^2 as Parseval has it. The largest of the whole recording
is kept, beside that of the sum of all sources.
"""

from __future__ import annotations

import numpy as np


class Own:
    """Takes the pieces (N, C, t) of a separation; knows the loudest own window of each source, in constant memory."""

    def __init__(self, hop: int, n_src: int, channels: int) -> None:
        """hop: samples of a frame, half a window."""
        self.whole, self.tops = 0.0, np.zeros(n_src)  # mean powers of the loudest windows
        self._hop, self._end = hop, hop
        self._open = np.zeros((n_src, channels, 2 * hop), np.float32)  # before the first sample is silence
        self._window = np.hanning(2 * hop + 1)[:-1].astype(np.float32)
        self._norm = channels * float(np.square(self._window).sum())

    def push(self, piece: np.ndarray) -> None:
        """Add a piece (N, C, t)."""
        start = 0
        while start < piece.shape[2]:
            taken = min(2 * self._hop - self._end, piece.shape[2] - start)
            self._open[..., self._end : self._end + taken] = piece[..., start : start + taken]
            start, self._end = start + taken, self._end + taken
            if self._end == 2 * self._hop:
                self._close()

    def finish(self) -> None:
        """Take what is left, the last frame in the middle of a window; after this nothing can be pushed."""
        if self._end > self._hop:
            self._open[..., self._end :] = 0
            self._close()
        self._open[..., self._hop :] = 0
        self._close()

    def _close(self) -> None:
        waves = self._open * self._window  # (N, C, L)
        whole = waves.sum(0)
        self.whole = max(self.whole, float(np.vdot(whole, whole)) / self._norm)
        # No more than all of it can be its own, so most windows cannot raise a source that stands out, and are left.
        powers = np.einsum("nct,nct->n", waves, waves) / self._norm
        if (raised := np.flatnonzero(powers > self.tops)).size:
            self.tops[raised] = np.maximum(self.tops[raised], self._own(waves)[raised])
        self._open[..., : self._hop] = self._open[..., self._hop :]
        self._end = self._hop

    def _own(self, waves: np.ndarray) -> np.ndarray:
        """Return the own power of each source in the windows (N, C, L)."""
        power = _power(np.fft.rfft(waves)).sum(1)  # (N, F)
        power[power < power.max(0)] = 0
        power[:, 1:] *= 2  # the negative frequencies; of an even L, the last bin is its own
        power[:, -1] /= 2
        own: np.ndarray = power.sum(1, dtype=np.float64) / (2 * self._hop * self._norm)
        return own


def _power(spectrum: np.ndarray) -> np.ndarray:
    power: np.ndarray = np.square(spectrum.real) + np.square(spectrum.imag)
    return power
