"""Whether what a query names is in a recording at all: one number for all of it, from its answer in every few seconds.

    odds = mean_v exp(b + sum_k w_k z_vk)      presence = odds / (1 + odds)      0.5: even odds, there or not

z_v are measures, in decibels, of an answer s beside the input x in a window v, both at the model's rate:

    level     10 log10( sum |s|^2 / sum |x|^2 )      how much of what sounds it is
    purity    10 log10( sum |s|^2 / sum <s, x> )     of a mask of ones and zeros 0, of m everywhere 10 log10 m

w and b are the model's, found on scenes that it did not learn from, whose length is that of the windows
(engine/scoring/asking.py), and kept on its card; a model without them has no presence. Of the measures that were tried
these two told 600 queries of 300 scenes apart as well as any three; the level of the loudest second, the best share of
a second and the correlation with the input added nothing to them.

exp(...) is a likelihood ratio, as both kinds of queries weighed the same. Of a sound that is in one window, nobody
knows which, the ratio of the whole is the mean of theirs: so a bark counts in an hour if it is clear enough, and what
resembles one now and then does not add up, however long the recording is. Windows overlap by half; those in which next
to nothing sounds are left out.
"""

from __future__ import annotations

import numpy as np

from usepcli.weights.cards import Calibration

EVEN = 0.5
_FRAME_S = 0.5
_FLOOR_DB = -60.0
_QUIET_DB = -50.0  # below the loudest window


class Evidence:
    """Takes what a model hears and answers, chunk by chunk, and keeps their powers in every half second.

    Three numbers for each answer: an hour of ten queries takes 1.2 MB.
    """

    def __init__(self, n_src: int, rate: int) -> None:
        self.n_src, self._size, self._heard = n_src, max(1, round(_FRAME_S * rate)), 0
        self._open = np.zeros((1 + 2 * n_src, 0))  # |x|^2, |s|^2 and <s, x> of a frame that is not full yet
        self._frames: list[np.ndarray] = []  # their sums

    def push(self, start: int, chunk: np.ndarray, found: np.ndarray) -> None:
        """Take the answers (N, C, L) to a chunk (C, L) that begins at sample `start`; what came before counts once."""
        begin = self._heard - start
        x, s = chunk[:, begin:].astype(np.float64), found[:, :, begin:].astype(np.float64)
        self._heard += x.shape[1]
        terms = [np.square(x).sum(0)[None], np.square(s).sum(1), np.einsum("nct,ct->nt", s, x)]
        held = np.concatenate([self._open, np.concatenate(terms)], axis=1)  # (1 + 2 N, t)
        whole = held.shape[1] // self._size
        if whole:
            self._frames += list(held[:, : whole * self._size].reshape(len(held), whole, -1).sum(2).T)
        self._open = held[:, whole * self._size :]

    def measures(self, window_s: float) -> np.ndarray:
        """Return the measures (V, N, 2) of every window of `window_s` seconds in which something sounds.

        A recording of less than one and a half windows is one, and the last holds what is left over; V is 0 in silence.
        """
        frames = np.array([*self._frames, *([self._open.sum(1)] if self._open.shape[1] else [])])  # (F, 1 + 2 N)
        size = max(1, round(window_s / _FRAME_S))
        starts = range(0, max(len(frames) - size, 0) + 1, max(1, size // 2))
        ends = [*(start + size for start in starts[:-1]), len(frames)]
        sums = np.array([frames[start:end].sum(0) for start, end in zip(starts, ends, strict=True)])
        least = sums[:, 0].max() * 10 ** (_QUIET_DB / 10)
        sums = sums[(sums[:, 0] > 0) & (sums[:, 0] >= least)]
        whole, power, shared = sums[:, :1], sums[:, 1 : 1 + self.n_src], sums[:, 1 + self.n_src :]
        return np.stack([_db(power, whole), _db(power, shared)], axis=2)

    def loudest(self, window_s: float) -> np.ndarray:
        """Return the measures (N, 2) of each answer in the window where it is the largest part of what sounds.

        Of silence they are the least that there are.
        """
        found = self.measures(window_s)
        if not len(found):
            return np.full((self.n_src, 2), _FLOOR_DB)
        return np.take_along_axis(found, found[:, :, :1].argmax(0)[None], axis=0)[0]

    def presence(self, calibration: Calibration) -> tuple[float, ...]:
        """Return a number from 0 to 1 for each answer; 0 where nothing sounds at all."""
        found = self.measures(calibration.window_s)
        if not len(found):
            return (0.0,) * self.n_src
        odds = np.array([[calibration.odds(answer) for answer in window] for window in found.tolist()]).mean(0)
        return tuple((odds / (1 + odds)).tolist())


def _db(power: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Return 10 log10 of a share (V, N), at least -60; the least, too, where there is nothing to have a share of."""
    least = 10 ** (_FLOOR_DB / 10)
    share = np.divide(power, of, out=np.full(power.shape, least), where=of > 0)
    return 10 * np.log10(np.maximum(share, least))
