"""Spectral holes as scores: shares in closed form, anchors, and what is missing."""

from __future__ import annotations

import numpy as np
import pytest

from usepcli import registry
from usepcli.dsp import holes

RATE = 8000
TIME = np.arange(2 * RATE) / RATE


def tone(hz: float, level: float = 1.0) -> np.ndarray:
    return level * np.sin(2 * np.pi * hz * TIME)


def score(name: str, est: np.ndarray, ref: np.ndarray, rate: int | None = RATE) -> tuple[np.ndarray, list[str]]:
    return registry.load("metric", name).score(est, ref, None, rate)


@pytest.mark.parametrize("name", ["holes", "holes-area"])
def test_nothing_lost_everything_lost_and_what_has_no_score(name: str) -> None:
    ref = np.stack([tone(500), tone(700), np.zeros_like(TIME), tone(900)])
    est = np.stack([0.1 * tone(500), np.zeros_like(TIME), tone(700), np.full_like(TIME, np.nan)])
    values, reasons = score(name, est, ref)
    assert values[:2] == pytest.approx([0, 100]) and np.isnan(values[2:]).all()
    assert reasons == ["", "", "silent reference", "estimate not finite"]
    metric = registry.load("metric", name)
    assert metric.unit == "%" and not metric.higher_is_better and not metric.needs_mixture


def test_a_tone_that_is_lost_counts_by_its_energy() -> None:
    # Amplitudes 1 and 1/2: what is lost is a fifth of the energy, and as many cells as what is kept.
    ref, est = tone(500) + tone(2000, 0.5), tone(500)
    assert score("holes", est[None], ref[None])[0] == pytest.approx([20], abs=1)
    found = holes.find(est, ref, RATE)
    assert score("holes-area", est[None], ref[None])[0] == pytest.approx([100 * found.area])
    assert 30 < 100 * found.area < 70


def test_the_mixture_has_no_holes_and_a_rate_is_needed() -> None:
    ref = np.stack([tone(500), tone(2000)])
    mix = np.broadcast_to(ref.sum(0), ref.shape)
    assert score("holes", mix, ref)[0] == pytest.approx([0, 0])
    with pytest.raises(ValueError, match="no sample rate"):
        score("holes", mix, ref, None)
