"""What of each source is its own, beside the plain way, and wherever it stands in a recording."""

from __future__ import annotations

import numpy as np
import pytest

from usepcli.engine.separation.own import Own

HOP = 80


def taken(sources: np.ndarray, step: int) -> Own:
    own = Own(HOP, len(sources), sources.shape[1])
    for start in range(0, sources.shape[2], step):
        own.push(sources[:, :, start : start + step])
    own.finish()
    return own


def plain(sources: np.ndarray) -> tuple[float, list[float]]:
    """Return the same from a table of all windows, with all bins of whole spectra."""
    frames = -(-sources.shape[2] // HOP)
    padded = np.pad(sources.astype(float), [(0, 0), (0, 0), (HOP, (frames + 1) * HOP - sources.shape[2])])
    w = 0.5 - 0.5 * np.cos(np.pi * np.arange(2 * HOP) / HOP)
    norm = 2 * HOP * sources.shape[1] * (w**2).sum()
    tops, whole = np.zeros(len(sources)), 0.0
    for k in range(frames + 1):
        spectra = np.fft.fft(padded[..., k * HOP : (k + 2) * HOP] * w)
        power = (np.abs(spectra) ** 2).sum(1)
        tops = np.maximum(tops, (power * (power >= power.max(0))).sum(1) / norm)
        whole = max(whole, (np.abs(spectra.sum(0)) ** 2).sum() / norm)
    return whole, tops.tolist()


@pytest.mark.parametrize("step", [7, 80, 161, 10_000])
@pytest.mark.parametrize("length", [1, 79, 80, 1000])
def test_pieces_of_any_length_give_what_the_plain_way_gives(step: int, length: int) -> None:
    draw = np.random.default_rng(length)
    sources = draw.standard_normal((3, 2, length)).astype(np.float32) * 10 ** draw.uniform(-2, 0, (3, 1, length))
    sources = sources.astype(np.float32)
    whole, tops = plain(sources)
    found = taken(sources, step)
    assert found.whole == pytest.approx(whole, rel=1e-4)
    assert found.tops == pytest.approx(tops, rel=1e-3, abs=1e-6 * whole)


@pytest.mark.parametrize("at", [0, HOP - 1, HOP, 5 * HOP + 3, 10 * HOP - 1])
def test_a_click_counts_wherever_it_is(at: int) -> None:
    steady = 1e-3 * np.random.default_rng(0).standard_normal(10 * HOP).astype(np.float32)
    click = np.zeros_like(steady)
    click[at] = 1.0
    found = taken(np.stack([steady, click])[:, None], 100)
    # In one of its two windows a sample has a weight of at least sqrt(1/2), squared 1/2.
    assert found.tops[1] >= 0.24 / (0.75 * HOP) and found.tops[1] == pytest.approx(found.whole, rel=0.1)


def test_a_source_alone_is_all_its_own() -> None:
    wave = np.random.default_rng(0).standard_normal((1, 2, 1000)).astype(np.float32)
    found = taken(wave, 300)
    assert found.tops[0] == pytest.approx(found.whole, rel=1e-5)
    halves = taken(np.concatenate([wave / 2, wave / 4, wave / 4]), 300)
    assert list(halves.tops[1:]) == [0, 0]
    alike = taken(np.concatenate([wave, wave]), 300)  # two that are the same are both there
    assert alike.tops[0] == alike.tops[1] == pytest.approx(found.tops[0], rel=1e-5)
