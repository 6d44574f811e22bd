"""Spectral holes: how much of a reference its estimate lacks in time and frequency, in per cent (dsp/holes.py).

Masks that are too small leave holes where another source sounds, which a ratio of energies hardly sees; nobody has
published a measure, so this one is usep's own. A silent estimate is one hole: 100 %.
"""

from __future__ import annotations

import numpy as np

from usepcli.dsp import holes
from usepcli.metrics.base import FloatArray, Metric


class SpectralHoles(Metric):
    """The share of the sounding cells of a spectrogram, by energy or by area, that lies in holes."""

    unit = "%"
    higher_is_better = False
    scores_silence = True

    def __init__(self, name: str, area: bool) -> None:
        """Set the name, and whether cells count alike or by their energy."""
        super().__init__(name, needs_mixture=False)
        self._area = area

    def score(
        self, est: FloatArray, ref: FloatArray, mix: FloatArray | None = None, rate: int | None = None
    ) -> tuple[FloatArray, list[str]]:
        """Return one value per source (N,) and why it is missing; ValueError for unfit shapes or without a rate."""
        est, ref, _ = self._signals(est, ref, None)
        if rate is None:
            raise ValueError(f"{self.name}: no sample rate; this metric depends on it")
        reasons, values = self.reason(est, ref), np.full(len(ref), np.nan)
        for n, why in enumerate(reasons):
            if not why:
                found = holes.find(est[n], ref[n], rate)
                values[n] = 100 * (found.area if self._area else found.energy)
        return values, reasons


HOLES = SpectralHoles("holes", area=False)
HOLES_AREA = SpectralHoles("holes-area", area=True)
