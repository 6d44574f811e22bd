from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from usepcli.data.rooms import MIC_M, SIZE_M, Room, arrival, draw_room, need_simulator, responses, sabine
from usepcli.errors import MissingDependency

RATE = 8000
ROOM = draw_room(np.random.default_rng(0), 2, (0.2, 0.2))


def decay_s(response: np.ndarray, rate: int) -> float:
    """Time of a decay by 60 dB, extrapolated from -5 to -25 dB of Schroeder's backward integral."""
    energy = np.cumsum(response[::-1].astype(float) ** 2)[::-1]
    level = 10 * np.log10(energy / energy[0])
    first, last = np.argmax(level < -5), np.argmax(level < -25)
    return 3 * (last - first) / rate


def test_geometry():
    draw = np.random.default_rng(1)
    rooms = [draw_room(draw, 3, (0.2, 1.0)) for _ in range(300)]
    sizes, mics = np.array([room.size for room in rooms]), np.array([room.mic for room in rooms])
    assert np.abs(sizes - SIZE_M).max() <= 0.2 and np.abs(mics - MIC_M).max() <= 0.2
    talkers = np.array([room.talkers for room in rooms]) - mics[:, None]
    away = np.linalg.norm(talkers[..., :2], axis=-1)
    assert not talkers[..., 2].any() and 1 <= away.min() < 1.02 and 1.98 < away.max() <= 2
    angle = np.arctan2(talkers[..., 1], talkers[..., 0]).ravel()
    assert abs(np.exp(1j * angle).mean()) < 0.1
    times = [room.rt60_s for room in rooms]
    assert min(times) < 0.22 and max(times) > 0.98 and np.mean(times) == pytest.approx(0.6, abs=0.05)
    assert all(0 < c < s for room in rooms for talker in room.talkers for c, s in zip(talker, room.size, strict=True))


def test_sabine_by_hand():
    # A cube of side 6 m: V / S = 1, so the absorption is 24 ln 10 / (343 T), and the nearest walls of images meet the
    # sphere at 6 / sqrt 2 m per order.
    absorption, order = sabine((6.0, 6.0, 6.0), 0.5)
    assert absorption == pytest.approx(24 * np.log(10) / 343 / 0.5)
    assert order == int(np.ceil(343 * 0.5 / (6 / np.sqrt(2)) - 1))
    assert sabine((6.0, 6.0, 6.0), 1.0)[0] == pytest.approx(absorption / 2)


def test_arrival_is_the_direct_sound():
    response = np.zeros(100)
    response[[30, 40, 60]] = 0.05, 1.0, 0.9
    assert arrival(response) == 40 == arrival(-3 * response)


def test_the_simulator_is_named_when_it_is_absent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    with pytest.raises(MissingDependency, match=r"pip install 'usepcli\[sim\]'"):
        need_simulator()
    with pytest.raises(MissingDependency):
        responses(ROOM, RATE)


def test_simulated_responses():
    pra = pytest.importorskip("pyroomacoustics")
    assert sabine(ROOM.size, 0.4) == pytest.approx(pra.inverse_sabine(0.4, list(ROOM.size)))
    heard = responses(ROOM, RATE)
    assert heard.dtype == np.float32 and len(heard) == 4
    assert np.array_equal(heard, responses(ROOM, RATE))
    assert not np.array_equal(heard, responses(replace(ROOM, seed=1), RATE))
    for talker, whole, direct in zip(ROOM.talkers, heard[::2], heard[1::2], strict=True):
        away = float(np.linalg.norm(np.subtract(talker, ROOM.mic)))
        peak = int(np.abs(direct).argmax())
        # 8 cm of jitter along each axis are at most 14 cm; the filters of 81 taps delay by 40 samples.
        assert abs(peak - 40 - away / 343 * RATE) < 0.14 / 343 * RATE + 1
        assert abs(peak - int(np.abs(whole[: peak + 5]).argmax())) <= 1
        assert np.sum(direct[peak + 60 :] ** 2) < 1e-3 * np.sum(direct**2) < 1e-3 * np.sum(whole**2)


def test_reverberation_grows_with_the_time_asked_for():
    pytest.importorskip("pyroomacoustics")
    one = Room(ROOM.size, ROOM.mic, ROOM.talkers[:1], 0.2, 0)
    short, longer = (decay_s(responses(replace(one, rt60_s=t), RATE)[0], RATE) for t in (0.2, 0.35))
    assert 0.12 < short < 0.28 and 0.25 < longer < 0.55
