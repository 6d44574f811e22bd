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
        # A value of exactly zero is silence, and stays it.
        room = np.where(exact == 0, -np.inf, 0.0)
        for _ in range(int(np.abs(missing).max(initial=0.0))):
            sign = np.sign(missing)
            owed = (exact - codes) * sign + room
            first = owed.argmax(0)[None]
            given = np.where(np.isfinite(np.take_along_axis(owed, first, 0)), sign, 0.0)
            np.put_along_axis(codes, first, np.take_along_axis(codes, first, 0) + given, 0)
            missing = missing - sign
        top = 1 / self.step
        np.clip(codes, -top, top - 1, out=codes)
        gap = (codes.sum(0) - total) * self.step
        self.peak = max(self.peak, float(np.abs(gap).max(initial=0.0)))
        self.power += float(np.square(gap).sum())
        return codes * self.step
