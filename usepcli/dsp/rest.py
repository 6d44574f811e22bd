"""Sharing out what a separation leaves over, so that the sources add up to the input.

Source i of N gets w_i r of the rest r = x - sum_k s_k, with w_i >= 0 and sum_i w_i = 1.

Within the band of the model (`share`), w_i(t, f) = A_i / sum_k A_k by the amplitudes A of the sources in windows of
32 ms: what masks leave of a bin goes where the rest of that bin went, and a silent source stays silent. On 120 scenes
of one to four sounds, `universal`, whose masks need not add up, gains 0.34 dB SI-SNR of two sounds and 3.6 dB of one
by it, beside shares by the power of all bins together.

What lies above the band of a slow model goes by the amplitude in the top of that band over time alone (`Weights`),
w_i(t) = sqrt(P_i) / sum_k sqrt(P_k): voices and instruments fade in and out there together with what lies higher,
though less exactly, which the root allows for. On 40 two-talker mixtures at 16 kHz and the 8 kHz model: SI-SDRi 1.22 dB
above leaving it out (0.73 for equal shares). Letters: N sources, C channels, T or t samples, M frames, F bins.
"""

from __future__ import annotations

import numpy as np

_HOP_S = 0.008
_SPAN = 4  # hops in a window
_AT_ONCE = 100  # frames
_TOP = 0.7  # the top of the band begins at this share of half the model's rate
_BROAD = 1e-3  # say of the whole spectrum beside that of the top: it decides where the top is empty


def share(sources: np.ndarray, wave: np.ndarray, rate: int) -> np.ndarray:
    """Return sources (N, C, T) plus their shares of wave (C, T) minus their sum, by amplitude in every bin of 32 ms."""
    rest = wave - sources.sum(0, dtype=np.float64)
    if not rest.any():
        return sources
    hop = max(1, round(_HOP_S * 2 * rate))
    # Half a period of a sine: its squares at a distance of half a window add up to one.
    window = np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop)).astype(np.float32)
    length = sources.shape[-1]
    frames = 1 - (-length // hop)  # of which every sample has two
    edges = (hop, frames * hop - length)
    mine = np.pad(sources, [(0, 0), (0, 0), edges])
    left = np.pad(rest.astype(np.float32), [(0, 0), edges])
    shares = np.zeros_like(mine)
    for at in range(0, frames, _AT_ONCE):
        part = slice(at * hop, (min(at + _AT_ONCE, frames) + 1) * hop)
        amplitude = np.sqrt(np.square(np.abs(_spectra(mine[..., part], window))).sum(1))  # (N, M, F)
        found = normalised(amplitude)[:, None] * _spectra(left[..., part], window)
        cut = np.fft.irfft(found, 2 * hop) * window  # (N, C, M, V)
        into = shares[..., part].reshape(*shares.shape[:2], -1, hop)
        into[..., :-1, :] += cut[..., :hop]
        into[..., 1:, :] += cut[..., hop:]
    shares = shares[..., hop : hop + length]
    # Exact in what was rounded on the way, too; the loudest hides it best.
    loudest = np.square(sources, dtype=np.float64).sum((1, 2)).argmax()
    shares[loudest] += (rest - shares.sum(0, dtype=np.float64)).astype(np.float32)
    return (sources + shares.astype(np.float64)).astype(np.float32)


def _spectra(waves: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Return the spectra (..., M, F) of waves (..., T), in windows half over each other."""
    cut = np.lib.stride_tricks.sliding_window_view(waves, len(window), axis=-1)[..., :: len(window) // 2, :]
    return np.fft.rfft(cut * window)


def normalised(power: np.ndarray) -> np.ndarray:
    """Return power (N, ...) as weights that add up to one over N: equal ones where there is no power at all."""
    total = power.sum(0)
    return np.where(total > 0, power / np.where(total > 0, total, 1), 1 / len(power))


class Weights:
    """Weights of N sources over time at `rate_out`, from a stream of the sources at the model's `rate`.

    `high` weighs by the amplitude in the top of the model's band, otherwise by the power of the whole spectrum.
    """

    def __init__(self, n_src: int, rate: int, rate_out: int, high: bool) -> None:
        self.hop = max(1, round(_HOP_S * rate))
        self.rate, self.rate_out = rate, rate_out
        # sin^2 without its two zeros: V = 4 hops samples, of which every one counts.
        self._window = np.hanning(_SPAN * self.hop + 2)[1:-1]
        bins = len(self._window) // 2 + 1
        self._high = high
        # P = sum_f b_f |S_f|^2; where the top is empty in all sources, its b = 1 gives way to the b = 1e-3 of the rest.
        self._bands = np.where(np.arange(bins) >= _TOP * bins, 1.0, _BROAD if high else 1.0)
        self._held: np.ndarray | None = None  # the model's sources that later frames still need
        self._frames = np.zeros((n_src, 0))  # weights at the centres of frames `_first`, `_first` + 1, ...
        self._first = self._given = 0
        self._complete = False

    def hear(self, sources: np.ndarray, last: bool = False) -> None:
        """Take the next sources (N, C, t) at the model's rate; `last` ends the stream."""
        before = after = len(self._window) // 2
        if self._held is None:
            self._held = np.zeros((*sources.shape[:2], before), np.float32)
        parts = [self._held, sources]
        if last:
            parts.append(np.zeros((*sources.shape[:2], after + self.hop), np.float32))
            self._complete = True
        held = np.concatenate(parts, axis=2)
        # Frame m covers [m hop, m hop + V) of what is held: m hop + V <= H for m < (H - V) // hop + 1.
        count = max(0, (held.shape[2] - len(self._window)) // self.hop + 1)
        self._held = held[:, :, count * self.hop :]
        if count:
            cut = np.lib.stride_tricks.sliding_window_view(held, len(self._window), axis=2)[:, :, :: self.hop]
            fresh = [self._weigh(cut[:, :, at : at + _AT_ONCE]) for at in range(0, count, _AT_ONCE)]
            self._frames = np.concatenate([self._frames, normalised(np.concatenate(fresh, axis=1))], axis=1)

    def _weigh(self, frames: np.ndarray) -> np.ndarray:
        """Return the weights (N, M), not yet normalised, of frames (N, C, M, V) in the bands that count."""
        spectrum = np.fft.rfft(frames * self._window)
        power = (np.square(np.abs(spectrum)) @ self._bands).sum(1)
        return np.sqrt(power) if self._high else power

    def ready(self) -> int | None:
        """Number of samples at `rate_out` whose weights are known and not taken yet; None for all that come."""
        if self._complete:
            return None
        # V / 2 zeros went first, so frame m stands at sample m hop of the model, m hop rate_out / rate of the output;
        # weights lie between two frames, so those up to the last frame's place are known.
        last = self._first + self._frames.shape[1] - 1
        return max(0, last * self.hop * self.rate_out // self.rate - self._given)

    def take(self, count: int) -> np.ndarray:
        """Return the weights (N, count) of the next samples."""
        # Output sample n lies n rate / (rate_out hop) frames after the first; in between, straight lines.
        at = (self._given + np.arange(count)) * (self.rate / (self.rate_out * self.hop)) - self._first
        low = np.clip(at.astype(int), 0, self._frames.shape[1] - 1)
        high = np.minimum(low + 1, self._frames.shape[1] - 1)
        part = np.clip(at - low, 0, 1)
        found = self._frames[:, low] * (1 - part) + self._frames[:, high] * part
        self._given += count
        drop = min(
            int((self._given * self.rate) // (self.rate_out * self.hop)) - self._first, self._frames.shape[1] - 1
        )
        self._frames, self._first = self._frames[:, max(0, drop) :], self._first + max(0, drop)
        return found
