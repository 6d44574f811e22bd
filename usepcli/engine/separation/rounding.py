"""Rounding sources to an integer format so that the files add up to the rounded sum, not only nearly so."""

from __future__ import annotations

import numpy as np


class SumRounding:
    """Turns pieces (N, C, t) into multiples of `step` whose sum is the multiple nearest to the sum of the pieces.

    Rounded one by one, N sources of a 16-bit recording add up to it within N/2 codes only. Here the codes that
    are missing go to the sources that were rounded the furthest the other way (the method of largest
    remainders): each stays within one code of its value, and the sum of the files is the recording itself.
    `peak` and `power` tell what the sum still misses, over all pieces.
    """

    def __init__(self, step: float) -> None:
        self.step = step
        self.peak = self.power = 0.0

    def __call__(self, piece: np.ndarray, gain: float = 1.0) -> np.ndarray:
        """Return piece (N, C, t) times gain as float64 multiples of the step within [-1, 1 - step]."""
        exact = piece * (np.float64(gain) / self.step)
        codes, total = np.rint(exact), exact.sum(0)
        missing = np.rint(total) - codes.sum(0)  # (C, t)
        if missing.any():
            _hand_out(codes.reshape(len(codes), -1), exact.reshape(len(codes), -1), missing.ravel())
        top = 1 / self.step
        np.clip(codes, -top, top - 1, out=codes)
        gap = np.abs(codes.sum(0) - total)
        self.peak = max(self.peak, float(gap.max(initial=0.0)) * self.step)
        self.power += float(np.vdot(gap, gap)) * self.step**2
        codes *= self.step
        return codes


def _hand_out(codes: np.ndarray, exact: np.ndarray, missing: np.ndarray) -> None:
    """Add the missing codes (M,), one at a time, to the rows of codes (N, M) that are the furthest from exact."""
    where = np.flatnonzero(missing)
    owed, rest = exact[:, where] - codes[:, where], missing[where]
    owed[exact[:, where] == 0] = np.nan  # a value of exactly zero is silence, and stays it
    while rest.any():
        sign = np.sign(rest)
        row = np.nanargmax(np.where(sign == 0, 0.0, owed * sign), 0)
        codes[row, where] += sign
        owed[row, np.arange(len(where))] -= sign
        rest = rest - sign
