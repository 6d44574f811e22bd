"""Whatever is no rate or no waveform is BadInput, in every way into a Separator; more overlap and shifts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from usepcli.errors import BadInput, UsageError
from usepcli.separator.flow import shifted, sped
from usepcli.separator.how import How
from usepcli.separator.separator import Separator

WAVE = np.random.default_rng(0).uniform(-0.3, 0.3, 6000).astype(np.float32)
WAYS: dict[str, Callable[[Separator, Any, Any], Any]] = {
    "call": lambda separator, wave, rate: separator(wave, rate),
    "batch": lambda separator, wave, rate: separator.batch([wave], rate),
    "stream": lambda separator, wave, rate: list(separator.stream([wave], rate)),
}


@pytest.fixture(scope="module")
def separator() -> Separator:
    return Separator.load("default", "cpu", threads=1)


@pytest.mark.parametrize("way", WAYS)
def test_rates(separator: Separator, way: str):
    for rate in (0, -1, 8000.5, "8000", None, np.nan, np.inf, True, 1, 10**9, 8000j, [8000], np.array(8000)):
        with pytest.raises(BadInput, match="rate: found"):
            WAYS[way](separator, WAVE, rate)
    for rate in (8000.0, np.int64(8000), np.float32(8000)):
        WAYS[way](separator, WAVE, rate)


@pytest.mark.parametrize("way", WAYS)
def test_waveforms(separator: Separator, way: str):
    for wave in (
        WAVE.astype(complex), WAVE.reshape(2, 3, -1), WAVE[:0], np.zeros((0, 5), np.float32), WAVE.astype(bool),
        np.array([1, "a"], object), np.full(9, 1e300), np.array([np.nan]), "abc", None, 3.0, [[1.0], [1.0, 2.0]],
        np.zeros((100, 3), np.float32), np.zeros(5, np.int16),
    ):  # fmt: skip
        with pytest.raises(BadInput):
            WAYS[way](separator, wave, 8000)
    for whole in (None, 3, "abc"):
        with pytest.raises(BadInput):
            list(separator.stream(whole, 8000))
        with pytest.raises(BadInput):
            separator.batch(whole, 8000)
    with pytest.raises(UsageError, match="how"):
        separator(WAVE, 8000, "linked")


def test_how_refuses_numbers_out_of_range():
    for wrong in (
        {"overlap": -0.1},
        {"overlap": 0.6},
        {"overlap": np.nan},
        {"shifts": 0},
        {"shifts": 1.5},
        {"shifts": True},
        {"speeds": 0},
        {"speeds": 6},
        {"speeds": 2.0},
    ):
        with pytest.raises(UsageError, match="--"):
            How(**wrong)


def test_shifts_average_what_depends_on_the_place():
    # Outputs in another order each time, and a part that changes sign with the place of the wave: the mean is the wave.
    asked = []

    def rows(waves: np.ndarray) -> np.ndarray:
        asked.append(waves.shape[1])
        sign = -1.0 if len(asked) % 2 else 1.0
        found = np.stack([waves, 0.1 * waves], 1) + sign * 0.01
        return found[:, ::-1] if len(asked) == 3 else found

    wave = np.random.default_rng(1).standard_normal((2, 500)).astype(np.float32)
    found = shifted(rows, 4, 8000)(wave)
    assert np.allclose(found, np.stack([wave, 0.1 * wave], 1), atol=1e-6)
    assert asked[0] == 500 and asked == sorted(set(asked)) and max(asked) < 500 + 4000
    assert shifted(rows, 1, 8000) is rows


def test_speeds_average_what_depends_on_the_pitch():
    # Outputs change places at every other speed; what the model adds depends on how often the wave turns its sign.
    tone = np.sin(2 * np.pi * 500 * np.arange(8000) / 8000 + 0.1).astype(np.float32)
    asked = []

    def rows(waves: np.ndarray) -> np.ndarray:
        asked.append(waves.shape[1])
        found = np.stack([waves * (1 + 0.01 * len(asked)), 0.1 * waves], 1)
        return found[:, ::-1] if len(asked) % 2 == 0 else found

    wave = np.stack([tone, 0.5 * tone])
    found = sped(rows, 3)(wave)
    assert asked == [8000, 8572, 7467] and found.shape == (2, 2, 8000)
    # A filter of the best quality that soxr has here leaves 1e-4 of a tone's peak in the middle of its length.
    assert np.abs(found - np.stack([1.02 * wave, 0.1 * wave], 1))[..., 500:-500].max() < 1e-3
    kept = sped(rows, 2, ordered=True)(wave)  # the fourth and fifth answer: the first of them has its outputs exchanged
    assert np.abs(kept[:, 0] - (0.1 + 1.05) / 2 * wave)[..., 500:-500].max() < 1e-3
    assert sped(rows, 1) is rows


@pytest.mark.parametrize(
    "how", [How(overlap=0.5), How(shifts=3), How(speeds=5), How(overlap=0.25, shifts=2, speeds=2, channels="each")]
)
def test_sources_still_add_up_and_batch_agrees(separator: Separator, how: How):
    wave = np.random.default_rng(2).uniform(-0.3, 0.3, (2, 30000)).astype(np.float32)
    short = Separator(separator.model, separator.card, chunk_s=1.5)
    usual, found = short(wave, 8000).sources, short(wave, 8000, how).sources
    assert np.abs(found.sum(0) - wave).max() < 1e-6 and not np.array_equal(found, usual)
    assert np.abs(short.batch([wave], 8000, how)[0].sources - found).max() < 1e-5
