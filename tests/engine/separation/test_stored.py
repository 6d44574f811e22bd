"""What tables say of a file is what is in it, whatever was rounded or limited on the way."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from usepcli.audio import io
from usepcli.audio.loudness import LoudnessMeter
from usepcli.engine.separation import outputs
from usepcli.engine.separation.stored import Stored

RATE = 8000
EPS = float(np.finfo(np.float32).eps)


def measured(wave: np.ndarray) -> tuple[float, float, float]:
    """Peak, level and loudness of a waveform (C, T), the plain way."""
    meter = LoudnessMeter(RATE, len(wave))
    meter.push(wave)
    power = float(np.square(wave, dtype=np.float64).mean())
    return float(np.abs(wave).max()), 10 * math.log10(power) if power else -math.inf, meter.lufs()


@pytest.mark.parametrize("step", [1, 777, 10**9])
def test_pieces_of_any_length_give_the_same(step: int) -> None:
    waves = np.random.default_rng(0).standard_normal((2, 2, 9000)).astype(np.float32)
    waves[1] *= 1e-3
    stored = Stored(RATE, 2, 2)
    for start in range(0, 9000 if step > 1 else 50, step):
        stored.push(waves[:, :, start : start + step])
    whole = waves if step > 1 else waves[:, :, :50]
    for k, (peak, level, lufs) in enumerate(map(measured, whole)):
        assert stored.peaks[k] == np.float64(peak)
        assert stored.levels_db()[k] == pytest.approx(level, abs=1e-9)
        assert stored.lufs()[k] == pytest.approx(lufs, abs=1e-6, nan_ok=True)


def test_silence_and_nothing() -> None:
    stored = Stored(RATE, 1, 1)
    assert stored.levels_db() == [-math.inf] and stored.peaks.tolist() == [0.0]
    stored.push(np.zeros((1, 1, 0), np.float32))
    stored.push(np.zeros((1, 1, 4000), np.float32))
    assert stored.levels_db() == [-math.inf] and stored.lufs() == [-math.inf]


@pytest.mark.parametrize("clip", ["gain", "allow"])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("scale", [3.0, 0.1, 1e-4])
def test_of_every_format_it_says_what_the_file_reads_as(tmp_path: Path, subtype: str, clip: str, scale: float) -> None:
    waves = np.random.default_rng(1).uniform(-1, 1, (2, 1, 9000)).astype(np.float32) * np.float32(scale)
    waves[1] *= np.float32(1e-3)  # below half a code of eight bits: silence
    paths = [tmp_path / f"{k}.wav" for k in range(2)]
    found = outputs.write_all(
        paths, RATE, 1, subtype, lambda: iter([waves[:, :, :5000], waves[:, :, 5000:]]), clip=clip
    ).stored
    for k, path in enumerate(paths):
        peak, level, lufs = measured(io.read(path)[0])
        # The file is read as float32, in which the last codes of 32 bits are rounded.
        assert found.peaks[k] == pytest.approx(peak, rel=EPS)
        assert found.levels_db()[k] == pytest.approx(level, abs=1e-5)
        assert found.lufs()[k] == pytest.approx(lufs, abs=1e-5)
