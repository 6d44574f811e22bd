"""A look-ahead limiter of the true peak for streams, in constant memory; the channels share one gain.

Sample n needs the reduction q[n] = max(0, 20 log10(p[n] / ceiling)) in dB, p[n] the true peak around it. Then

    hold      m[n] = max(q[n], ..., q[n + L])                    known L samples (5 ms) ahead
    release   d[n] = max_k m[n - k] exp(-k / (tau rate))         falls back by 63 % in tau = 0.1 s
    smooth    s[n] = sum_j w[j] d[n - j], j = 0..L               w a triangle of sum one: no step, no zipper

and the gain is 10^(-s[n] / 20). As every d[n - j] of the last line is at least q[n], so is s[n]: no value passes the
ceiling but by what the slow change of the gain adds between samples (under 0.1 dB; who needs
less measures the result and lowers the ceiling). Where nothing is near the
ceiling the samples come back as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from usepcli.audio.true_peak import Interpolator

LOOK_AHEAD_S, RELEASE_S = 0.005, 0.1
_NOTHING_DB = 1e-3  # a release ends here
_HEARD_DB = 0.1


class Limiter:
    """Keep the true peak of a stream under `ceiling` (linear): `push` blocks, then `finish`.

    `reduction_db` is the largest reduction so far, `limited` the number of samples turned
    down by more than 0.1 dB.
    """

    def __init__(self, rate: int, channels: int, ceiling: float) -> None:
        if not ceiling > 0:
            raise ValueError(f"ceiling {ceiling}; expected a linear amplitude above 0")
        self.ceiling, self.reduction_db, self.limited = ceiling, 0.0, 0
        self._between = Interpolator(rate)
        self._ahead = max(2, round(LOOK_AHEAD_S * rate))
        self._decay = 1 / (RELEASE_S * rate)
        self.delay = self._between.reach + self._ahead
        self._wave = np.zeros((channels, self.delay))
        self._context = np.zeros((channels, 2 * self._between.reach))
        self._last_peak = 0.0
        self._needed = np.zeros(self._ahead)
        self._released = 0.0
        self._history = np.zeros(self._ahead)
        self._skip = self.delay  # the silence that the delay line begins with

    def push(self, block: np.ndarray) -> np.ndarray:
        """Take a block (C, T) and return what is ready (C, T'), about 5 ms behind."""
        if not block.shape[1]:
            return block
        drop = self._smooth(self._release(self._hold(self._need(block))))
        wave = np.concatenate([self._wave, block], axis=1)
        out, self._wave = wave[:, : block.shape[1]], wave[:, block.shape[1] :]
        if drop.any():
            out = out * 10 ** (drop / -20)
        skip = min(self._skip, out.shape[1])
        self._skip -= skip
        self.reduction_db = max(self.reduction_db, float(drop[skip:].max(initial=0)))
        self.limited += int(np.count_nonzero(drop[skip:] > _HEARD_DB))
        return out[:, skip:]

    def finish(self) -> np.ndarray:
        """Return the rest (C, T'), so that as many samples came out as went in."""
        return self.push(np.zeros_like(self._wave))

    def _need(self, block: np.ndarray) -> np.ndarray:
        """Return the reduction in dB (T,) that the samples up to `reach` behind the block's need."""
        wave = np.concatenate([self._context, block], axis=1)
        self._context = wave[:, wave.shape[1] - self._context.shape[1] :]
        peak = np.concatenate([[self._last_peak], self._between.peaks(wave, self.ceiling)])
        self._last_peak = float(peak[-1])
        # A value between two samples binds both of them.
        return 20 * np.log10(np.maximum(np.maximum(peak[1:], peak[:-1]) / self.ceiling, 1))

    def _hold(self, need: np.ndarray) -> np.ndarray:
        line = np.concatenate([self._needed, need])
        self._needed = line[len(line) - self._ahead :]
        width = self._ahead + 1
        # m[n] = max q[n .. n + L]: a window of L + 1 that begins at its own sample, where the filter centres its own.
        from scipy.ndimage import maximum_filter1d

        return maximum_filter1d(line, width, mode="constant", origin=-(width // 2))[: len(need)]

    def _release(self, held: np.ndarray) -> np.ndarray:
        if not self._released and not held.any():
            return held
        # d[n] = max_k m[n - k] e^(-a k), a = 1 / (tau rate). With j = n - k,
        #     log d[n] + a n = max_{j <= n} (log m[j] + a j),
        # a running maximum; the block before stands at n = 0 as one more m, log d of its last sample.
        steps = self._decay * np.arange(1, len(held) + 1)
        with np.errstate(divide="ignore"):
            line = np.concatenate([[np.log(self._released)], np.log(held) + steps])
        drop = np.exp(np.maximum.accumulate(line)[1:] - steps)
        drop[drop < _NOTHING_DB] = 0
        self._released = float(drop[-1])
        return drop

    def _smooth(self, drop: np.ndarray) -> np.ndarray:
        line = np.concatenate([self._history, drop])
        self._history = line[len(line) - self._ahead :]
        if not line.any():
            return drop
        short = self._ahead // 2 + 1
        # Boxes of a and b taps in a row have a + b - 1 taps: a triangle of L + 1, j = 0..L, for b = L + 2 - a.
        smooth = _mean(_mean(line, short), self._ahead + 2 - short)
        smooth[smooth < 1e-9] = 0
        return smooth


def limit(blocks: Iterable[np.ndarray], limiter: Limiter) -> Iterator[np.ndarray]:
    """Yield the blocks (C, T) through a limiter, as many samples as they hold."""
    for block in blocks:
        yield limiter.push(block)
    yield limiter.finish()


def _mean(line: np.ndarray, width: int) -> np.ndarray:
    """Return the means of `width` neighbours, width - 1 fewer of them."""
    total = np.concatenate([[0.0], np.cumsum(line)])
    return (total[width:] - total[:-width]) / width
