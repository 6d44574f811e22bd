"""What every metric offers: one value per source, and a reason where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
# A mixture this near to its one source (90 dB) is that source, and its ratio is rounding.
SAME = 1e-9


class Metric:
    """A score per source, in `unit`; est and ref are (N, T) in the same order, mix is (T,), rate is in Hz."""

    unit = "dB"
    higher_is_better = True
    # A silent estimate has a score: false for ratios that are blind to its level.
    scores_silence = False

    def __init__(self, name: str, needs_mixture: bool) -> None:
        """Set the name under which users ask for it, and whether it reads the mixture."""
        self.name = name
        self.needs_mixture = needs_mixture

    def __call__(
        self, est: FloatArray, ref: FloatArray, mix: FloatArray | None = None, rate: int | None = None
    ) -> FloatArray:
        """Return one value per source (N,), nan where `score` says why; ValueError for unfit shapes."""
        return self.score(est, ref, mix, rate)[0]

    def score(
        self, est: FloatArray, ref: FloatArray, mix: FloatArray | None = None, rate: int | None = None
    ) -> tuple[FloatArray, list[str]]:
        """Return one value per source (N,) and why it is missing, '' where it is not; ValueError for unfit shapes."""
        del rate  # ratios of energies are the same at any rate
        est, ref, mix = self._signals(est, ref, mix)
        reasons = self.reason(est, ref, mix)
        missing = np.array([bool(why) for why in reasons])
        out = np.full(len(ref), np.nan)
        if not missing.all():
            # A non-finite sample, which is a reason, would spoil more than its own source.
            clean = np.nan_to_num(est, nan=0.0, posinf=0.0, neginf=0.0) if missing.any() else est
            values = self._values(clean, ref, mix)
            out[~missing] = values[~missing]
        return out, reasons

    def missing(self) -> str:
        """Return why this metric cannot be computed here at all, '' where it can."""
        return ""

    def reason(self, est: FloatArray, ref: FloatArray, mix: FloatArray | None = None) -> list[str]:
        """Return per source what in the signals rules a value out, '' where nothing does."""
        est, ref, mix = self._signals(est, ref, mix)
        whole = self.common_reason(ref, mix)
        return [whole or self._own_reason(e, s) for e, s in zip(est, ref, strict=True)]

    def _values(self, est: FloatArray, ref: FloatArray, mix: FloatArray | None) -> FloatArray:
        raise NotImplementedError

    def common_reason(self, ref: FloatArray, mix: FloatArray | None) -> str:
        """Return what in the references (N, T) or the mixture (T,) rules every value out, '' where nothing does."""
        if not np.isfinite(ref).all():
            return "reference not finite"
        if self.needs_mixture and mix is not None:
            if not np.isfinite(mix).all():
                return "mixture not finite"
            if not mix.any():
                return "silent mixture"
            if self.unit == "dB" and len(ref) == 1 and np.sum((mix - ref[0]) ** 2) <= SAME * np.sum(ref[0] ** 2):
                return "the mixture is this source alone"
        return ""

    def _own_reason(self, est: FloatArray, ref: FloatArray) -> str:
        if not np.isfinite(est).all():
            return "estimate not finite"
        if not ref.any():
            return "silent reference"
        if not est.any() and not self.scores_silence:
            return "silent estimate"
        return ""

    def _signals(
        self, est: FloatArray, ref: FloatArray, mix: FloatArray | None
    ) -> tuple[FloatArray, FloatArray, FloatArray | None]:
        est, ref = np.asarray(est, np.float64), np.asarray(ref, np.float64)
        if est.ndim != 2 or est.shape != ref.shape:
            raise ValueError(f"{self.name}: estimates {est.shape}, references {ref.shape}; expected (N, T) twice")
        if mix is None:
            if self.needs_mixture:
                raise ValueError(f"{self.name}: no mixture; this metric compares with it")
            return est, ref, None
        mix = np.asarray(mix, np.float64)
        if mix.shape != ref.shape[1:]:
            raise ValueError(f"{self.name}: mixture {mix.shape} for references {ref.shape}; expected (T,)")
        return est, ref, mix
