from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usepcli.data.manifest import PoolRow
from usepcli.data.pairs import PairPlanner, RoomPlan, RoomRecipe
from usepcli.data.rooms import check_rt60
from usepcli.errors import BadInput, ConfigError

RATE = 1000


def pool(*sizes: int) -> list[PoolRow]:
    """Talker t with sizes[t] utterances of different lengths."""
    return [
        PoolRow(f"t{t}/{u}", "train", f"t{t}", f"pool/t{t}_{u}.wav", RATE, 1000 + 37 * t + 11 * u, "home", "CC0")
        for t, size in enumerate(sizes)
        for u in range(size)
    ]


def planner(*sizes: int, seed: int = 0, noise: tuple[PoolRow, ...] = (), **recipe: object) -> PairPlanner:
    texts = {"t0/0": "GOOD MORNING"}
    return PairPlanner(RoomRecipe(rate=RATE, **recipe), "train", pool(*sizes), noise, seed, 0, texts)


def test_plans_are_functions_of_the_counter():
    source = planner(3, 3, 3)
    plans = [source.plan(i) for i in range(30)]
    assert [planner(3, 3, 3).plan(i) for i in (25, 4)] == [plans[25], plans[4]]
    assert planner(3, 3, 3, seed=1).plan(4) != plans[4]
    assert len({plan.room for plan in plans}) == 30


@settings(max_examples=40)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=8), st.integers(0, 99), st.integers(2, 3))
def test_each_utterance_equally_often_and_no_talker_with_himself(sizes: list[int], seed: int, n_src: int):
    if 2 * (n_src - 1) * max(sizes) > sum(sizes):
        return  # a talker who says so much may be left without strangers
    source = planner(*sizes, seed=seed, n_src=n_src)
    first: Counter[str] = Counter()
    every: Counter[str] = Counter()
    for i in range(sum(sizes)):
        turns = source.plan(i).turns
        assert len({turn.speaker for turn in turns}) == n_src
        first[turns[0].paths[0]] += 1
        every.update(turn.paths[0] for turn in turns)
    assert set(first.values()) == {1} and set(every.values()) == {n_src} and len(every) == sum(sizes)


def test_the_longest_gives_the_length_and_levels_have_mean_zero():
    offsets, weights = [], []
    source = planner(4, 4, 4)
    for i in range(300):
        plan = source.plan(i)
        assert plan.frames == max(turn.frames for turn in plan.turns)
        assert all(0 <= turn.at <= plan.frames - turn.frames and turn.start == 0 for turn in plan.turns)
        offsets += [turn.at / (plan.frames - turn.frames) for turn in plan.turns if turn.frames < plan.frames]
        gains = [turn.gain_db for turn in plan.turns]
        assert sum(gains) == pytest.approx(0, abs=1e-12) and max(gains) <= 2.5
        weights.append(gains[0] - gains[1])
    assert np.mean(offsets) == pytest.approx(0.5, abs=0.06) and np.std(weights) == pytest.approx(5 / 6**0.5, rel=0.15)
    assert {turn.text for i in range(12) for turn in source.plan(i).turns} == {"", "GOOD MORNING"}


def test_shared_rooms_and_noise():
    street = PoolRow("n", "train", "", "noise/n.wav", RATE, 5000, "street", "CC-BY")
    source = planner(3, 3, noise=(street,), rooms=4, anechoic=True)
    plans = [source.plan(i) for i in range(12)]
    assert Counter(plan.response for plan in plans) == {f"rooms/train_{k:05d}.wav": 3 for k in range(4)}
    assert len({plan.room for plan in plans}) == 4 and plans[0].room == plans[4].room
    assert all(10 <= plan.noise_snr_db <= 20 and plan.noise_start <= 5000 - plan.frames for plan in plans)
    assert plans[0].files() == ["s1.wav", "s2.wav", "a1.wav", "a2.wav", "noise.wav", "mix.wav"]
    assert isinstance(plans[0], RoomPlan) and replace(plans[0], anechoic=False, noise="").files()[-1] == "mix.wav"


def test_unnamed_utterances_of_one_origin_never_meet():
    unnamed = [replace(row, speaker="") for row in pool(1, 1, 1)]
    with pytest.raises(BadInput, match=r"1 talkers known to differ, 2 are needed"):
        PairPlanner(RoomRecipe(), "train", unnamed, [], 0, 0)
    with pytest.raises(BadInput, match=r"too many of the 9 utterances"):
        planner(8, 1).plan(0)


def test_faults():
    for fault in ({"rooms": -1}, {"n_src": 0}, {"noise_snr_db": (3.0, 1.0)}):
        with pytest.raises(ConfigError, match=r"--(rooms|n-src|noise-snr)"):
            RoomRecipe(**fault).check()
    for range_s in ((0.05, 0.5), (0.5, 0.3), (0.2, float("nan"))):
        with pytest.raises(ConfigError, match=r"--rt60"):
            check_rt60(range_s)
