from __future__ import annotations

from pathlib import Path

import numpy as np
import pyloudnorm
import pytest

from usepcli.audio import io
from usepcli.data.heard_scenes import DRY, HeardPlan, HeardPlanner, through
from usepcli.data.loud_scenes import LoudPlanner
from usepcli.data.manifest import PoolRow
from usepcli.data.mixtures import Turn
from usepcli.data.scenes import SceneRecipe
from usepcli.errors import BadInput

RATE = 8000
RECIPE = SceneRecipe((1, 4), RATE, 2.0, 1.0, (-5.0, 25.0))


def rows(kind: str, count: int, frames: int = 7000) -> list[PoolRow]:
    names = [f"{kind}{k}" for k in range(count)]
    return [PoolRow(name, "train", f"train/{name}", name, RATE, frames, kind, "CC0") for name in names]


def responses(**rooms: int) -> list[PoolRow]:
    return [
        PoolRow(f"{room}{k}", "train", room, f"rooms/{room}{k}.wav", RATE, 800, f"hall {room}", "CC-BY")
        for room, count in rooms.items()
        for k in range(count)
    ]


def planner(**how: object) -> HeardPlanner:
    given: dict[str, object] = {"rt60_s": None, "rooms": 0, "responses": (), **how}
    return HeardPlanner(RECIPE, "train", rows("k", 6), rows("b", 2, 20_000), 0, 0, -45.0, **given)


def test_a_response_is_heard_from_its_direct_sound_on():
    dry = np.zeros(1000)
    dry[100:110] = np.arange(1, 11)
    response = np.zeros(700)
    response[:40], response[40], response[540] = 0.004, 0.5, -0.25  # a little noise, the direct sound, an echo
    wave = through(dry, response)
    assert wave[:100] == pytest.approx(0, abs=1e-12)
    assert wave[100:110] == pytest.approx(0.5 * dry[100:110]) and wave[600:610] == pytest.approx(-0.25 * dry[100:110])
    assert len(through(dry[:105], response)) == 105


def test_both_sounds_add_up_at_one_loudness_and_begin_together(tmp_path: Path):
    draw = np.random.default_rng(0)
    for name, decay in (("a", 400), ("b", 900)):
        wave = np.zeros(2000)
        wave[60:] = draw.normal(size=1940) * 10 ** (-3 * np.arange(1940) / decay / 2)
        wave[60] = 4.0
        io.write(tmp_path / f"rooms/{name}.wav", wave / 4, RATE, "FLOAT")
    pool = {"long": draw.integers(-3000, 3000, 16_000), "short": draw.integers(-300, 300, 3000)}
    load = {name: wave.astype(np.int16) for name, wave in pool.items()}.__getitem__
    turns = (Turn(("long",), "", (), 0, 16_000, 0, 0.0), Turn(("short",), "", (), 0, 3000, 9000, 8.0))
    plan = HeardPlan("x", "train", 16_000, turns, lufs=-40.0, measured=("rooms/a.wav", "rooms/b.wav"))
    assert plan.files() == ["s1.wav", "s2.wav", "d1.wav", "d2.wav", "dry.wav", "mix.wav"] and not plan.ahead()
    assert plan.twins()[DRY] == ("dry.wav", ("d1.wav", "d2.wav"))
    s1, s2, d1, d2, dry, mix = (wave.astype(int) for wave in plan.waves(RATE, tmp_path, load))
    assert np.array_equal(mix, s1 + s2) and np.array_equal(dry, d1 + d2)
    meter = pyloudnorm.Meter(RATE)
    levels = [meter.integrated_loudness(wave / 32768) for wave in (s1, d1, s2, d2)]
    assert levels == pytest.approx([-40, -40, -32, -32], abs=0.01)
    assert not s2[:9000].any() and not d2[:9000].any() and s2[9000:9010].any() and d2[9000:9010].any()
    assert not d2[12_000:].any() and s2[12_000:12_200].any()  # the room goes on


def test_the_scenes_are_those_without_rooms():
    plain = LoudPlanner(RECIPE, "train", rows("k", 6), rows("b", 2, 20_000), 0, 0, -45.0)
    for source in (planner(rt60_s=(0.2, 0.3)), planner(rt60_s=(0.2, 0.3), rooms=2), planner(responses=responses(a=5))):
        for i in range(12):
            assert source.plan(i).turns == plain.plan(i).turns and source.plan(i).id == plain.plan(i).id
        assert source.plan(7) == source.plan(7) != source.plan(8)


def test_every_source_has_its_own_place_in_one_room():
    source = planner(responses=responses(a=6, b=6, c=1))
    scenes = [source.plan(i) for i in range(300)]
    for plan in scenes:
        heard = [Path(name).name for name in plan.measured]
        assert len(heard) == len(plan.turns) and len({name[0] for name in heard}) == 1
        assert len(set(heard)) == (1 if heard[0][0] == "c" else len(heard))
        assert f"hall {heard[0][0]}" in plan.origins and "CC-BY" in plan.licences
    used = [Path(name).name for plan in scenes for name in plan.measured[:1]]
    assert len(set(used)) == 13 and used.count("c0.wav") == pytest.approx(300 / 13, abs=18)
    own = [planner(rt60_s=(0.2, 0.3)).plan(i) for i in range(8)]
    assert all(plan.room and len(plan.room.talkers) == len(plan.turns) and not plan.ahead() for plan in own)
    assert len({plan.room for plan in own}) == 8


def test_responses_that_are_named_for_a_role_are_for_it():
    names = ("background0", *(f"foreground{k}" for k in range(3)))
    rirs = [PoolRow(name, "train", "r", f"rooms/r/rir_{name}.wav", RATE, 800) for name in names]
    for i in range(60):
        plan = planner(responses=rirs).plan(i)
        assert plan.measured[0] == "rooms/r/rir_background0.wav" and len(set(plan.measured)) == len(plan.turns)
    orders = {planner(responses=rirs).plan(i).measured[1:] for i in range(60)}
    assert len(orders) > 6


def test_shared_rooms_have_places_for_the_largest_scene():
    source = planner(rt60_s=(0.2, 0.3), rooms=2)
    scenes = [source.plan(i) for i in range(30)]
    assert {file.name for plan in scenes for file in plan.ahead()} == {f"rooms/train_{n:05d}.wav" for n in range(2)}
    assert len({plan.room for plan in scenes}) == 2 and len({plan.places for plan in scenes}) > 5
    for plan in scenes:
        assert plan.room and len(plan.room.talkers) == 4 and len(set(plan.places)) == len(plan.turns)


def test_a_split_without_responses():
    with pytest.raises(BadInput, match=r"split train: no room response.*--rirs.*--train 0"):
        planner()
