"""Metrics of speech that a library computes for one estimate at a time, at the signals' own rate."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from usepcli.metrics.base import FloatArray, Metric
from usepcli.versions import why_not

# An item asks for the same pairs up to four times: the score, its improvement, and both for the unprocessed mixture.
_KEPT = 64


class Unscored(Exception):
    """The library has no score for a pair of signals; the message is the reason."""


class Listener:
    """A library's score of one estimate; it keeps the last results, so that an improvement costs no second listening.

    listen(library, ref, est, rate) returns the score of (T,) signals at `rate` Hz, or raises Unscored.
    """

    def __init__(self, package: str, listen: Callable[[Any, FloatArray, FloatArray, int], float]) -> None:
        """Name the package to import on first use, and the function that calls it."""
        self.package = package
        self._listen = listen
        self._local = threading.local()

    def missing(self) -> str:
        """Return why the library cannot be used, '' where it can."""
        return why_not("metrics", self.package)

    def __call__(self, ref: FloatArray, est: FloatArray, rate: int) -> tuple[float, str]:
        """Return the score of est (T,) against ref (T,) at `rate` Hz, or nan and the reason."""
        kept: dict[tuple[int, int, int], tuple[float, str]] = self._local.__dict__.setdefault("kept", {})
        # 64 bits of either signal: a digest of more would be a thirtieth of the time that listening takes.
        key = rate, hash(ref.tobytes()), hash(est.tobytes())
        if key not in kept:
            if len(kept) >= _KEPT:
                del kept[next(iter(kept))]
            try:
                kept[key] = self._listen(importlib.import_module(self.package), ref, est, rate), ""
            except Unscored as fault:
                kept[key] = float("nan"), str(fault)
        return kept[key]


class Speech(Metric):
    """A metric made of a Listener's scores; an improvement is the estimate's less the mixture's."""

    def __init__(self, name: str, listener: Listener, unit: str, improvement: bool = False) -> None:
        """Set the name, who listens, the unit, and whether the mixture's score is taken away."""
        super().__init__(name, needs_mixture=improvement)
        self.unit = unit
        self._listener = listener

    def missing(self) -> str:
        """Return why the library cannot be used, '' where it can."""
        return self._listener.missing()

    def score(
        self, est: FloatArray, ref: FloatArray, mix: FloatArray | None = None, rate: int | None = None
    ) -> tuple[FloatArray, list[str]]:
        """Return one value per source (N,) and why it is missing; ValueError for unfit shapes or without a rate."""
        est, ref, mix = self._signals(est, ref, mix)
        if rate is None:
            raise ValueError(f"{self.name}: no sample rate; this metric depends on it")
        why = self.missing()
        reasons = [why] * len(ref) if why else self.reason(est, ref, mix)
        values = np.full(len(ref), np.nan)
        for n, known in enumerate(reasons):
            if not known:
                values[n], reasons[n] = self._one(est[n], ref[n], mix, rate)
        return values, reasons

    def _one(self, est: FloatArray, ref: FloatArray, mix: FloatArray | None, rate: int) -> tuple[float, str]:
        value, why = self._listener(ref, est, rate)
        if why or mix is None or not self.needs_mixture:
            return value, why
        before, why = self._listener(ref, mix, rate)
        return value - before, why and f"mixture: {why}"
