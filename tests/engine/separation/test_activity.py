from __future__ import annotations

import itertools

import numpy as np
import pytest

from usepcli.engine.separation import activity
from usepcli.engine.separation.activity import Meter


def tone(seconds: float, level_db: float, rate: int = 8000, hz: int = 100) -> np.ndarray:
    """A sine of this mean level in dB of full scale: whole periods in every frame."""
    t = np.arange(round(seconds * rate)) / rate
    return (10 ** (level_db / 20) * np.sqrt(2) * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def measured(sources: np.ndarray, rate: int = 8000, step: int = 1777) -> Meter:
    meter = Meter(rate, len(sources), sources.shape[1])
    for start in range(0, sources.shape[2], step):
        meter.push(sources[:, :, start : start + step])
    meter.finish()
    return meter


def test_share_of_active_frames_by_the_rule_of_the_module():
    rest = np.zeros_like(tone(6, 0))
    first = np.concatenate([tone(6, -20), rest])[None]
    # 28 dB below the loudest frame of the whole is active, 32 dB is not.
    second = np.concatenate([rest, tone(3, -48), tone(3, -52)])[None]
    meter = measured(np.stack([first, second]))
    assert meter.activity() == pytest.approx([0.5, 0.25]) and meter.silent([0, 1]) == [False, False]
    assert meter.levels_db[0] == pytest.approx(-20 - 3.01, abs=0.01)


def test_quiet_recordings_have_an_absolute_floor():
    meter = measured(np.stack([tone(1, -55)[None], tone(1, -65)[None]]))
    assert meter.activity() == [1.0, 0.0] and meter.silent([0, 1]) == [False, True]


def test_one_sentence_in_an_hour_is_no_silence():
    brief = np.zeros(8000 * 600, np.float32)
    brief[: 8000 * 2] = tone(2, -20, hz=300)
    meter = measured(np.stack([np.tile(tone(60, -20), 10)[None], brief[None]]), step=40_000)
    assert meter.levels_db[1] < meter.levels_db[0] - 24 and meter.silent([0, 1]) == [False, False]
    assert meter.activity()[1] == pytest.approx(2 / 600)


def test_a_trace_of_another_source_is_near_silent_however_loud():
    draw = np.random.default_rng(0)
    first, second = (0.1 * draw.standard_normal((2, 16_000))).astype(np.float32)
    second[8000:] = 0
    meter = measured(np.stack([0.7 * first, 0.3 * first, second])[:, None])
    assert meter.silent([0, 1, 2]) == [False, True, False]
    assert meter.below_db()[1] == np.inf and max(meter.below_db()[::2]) < 8
    assert meter.levels_db[1] > meter.levels_db[0] - 8


def test_what_is_its_own_and_30_db_below_is_near_silent():
    tones = [tone(2, -20), tone(2, -47, hz=300), tone(2, -53, hz=500)]
    meter = measured(np.stack(tones)[:, None])
    assert meter.silent([0, 1, 2]) == [False, False, True]
    assert meter.below_db() == pytest.approx([0.01, 27.01, 33.01], abs=0.02)


def test_a_silent_file_keeps_one_source():
    meter = measured(np.zeros((3, 1, 100), np.float32))
    assert meter.silent([0, 1, 2]) == [False, True, True] and meter.silent([2]) == [False]
    assert meter.levels_db == [-np.inf] * 3 and meter.activity() == [0.0] * 3


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100])
def test_pieces_of_any_length_give_the_same(rate: int):
    draw = np.random.default_rng(0)
    envelope = np.repeat(10 ** draw.uniform(-3, 0, (2, 1, 40)), rate // 13, axis=2)
    wave = (envelope * draw.standard_normal(envelope.shape) * 0.1).astype(np.float32)
    whole, parts = measured(wave, rate, 10**9), measured(wave, rate, 997)
    assert whole.activity() == parts.activity()
    assert whole.levels_db == pytest.approx(parts.levels_db)
    np.testing.assert_allclose(whole.curves()[1], parts.curves()[1], atol=0.11)
    # The frames, computed the plain way.
    edges = [round(k * 0.1 * rate) for k in range(1000) if round(k * 0.1 * rate) < wave.shape[2]] + [wave.shape[2]]
    power = [float((wave[0, 0, a:b].astype(np.float64) ** 2).mean()) for a, b in itertools.pairwise(edges)]
    np.testing.assert_allclose(parts.curves()[1][0], 10 * np.log10(power), atol=0.11)


def test_curves_of_long_recordings_stay_short():
    wave = np.concatenate([np.full(10 * 2500, 0.1), np.full(10 * 2500, 0.01)]).astype(np.float32)
    step, (curve,) = measured(wave[None, None], rate=100, step=777).curves()
    assert len(curve) <= activity.POINTS and step == pytest.approx(0.8)
    assert step * len(curve) == pytest.approx(500, abs=step)
    assert curve[0] == -20.0 and curve[-1] == -40.0
