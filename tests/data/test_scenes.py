from __future__ import annotations

from collections import Counter

import pytest

from usepcli.data.manifest import PoolRow
from usepcli.data.mixtures import Plan
from usepcli.data.scenes import ScenePlanner, SceneRecipe
from usepcli.errors import BadInput, ConfigError

RATE = 1000


def events(kinds: int = 6, each: int = 2, frames: int = 700) -> list[PoolRow]:
    return [
        PoolRow(f"k{k}/{u}", "train", f"train/k{k}", f"pool/k{k}_{u}.wav", RATE, frames + 10 * k, "home", "CC0")
        for k in range(kinds)
        for u in range(each)
    ]


def behind(count: int = 3, frames: int = 900) -> list[PoolRow]:
    return [PoolRow(f"b{i}", "train", "", f"noise/b{i}.wav", RATE, frames, "street", "CC-BY") for i in range(count)]


def planner(seed: int = 0, **recipe: object) -> ScenePlanner:
    return ScenePlanner(SceneRecipe(rate=RATE, seconds=2.0, **recipe), "train", events(), behind(), seed, 0)


def plans(count: int = 240, **recipe: object) -> list[Plan]:
    source = planner(**recipe)
    return [source.plan(i) for i in range(count)]


def test_plans_are_functions_of_the_counter():
    assert [planner().plan(i) for i in (31, 7)] == [plans()[31], plans()[7]]
    assert planner(seed=1).plan(7) != planner().plan(7)


def test_every_number_of_sources_and_always_one_background():
    counts: Counter[int] = Counter()
    for plan in plans():
        counts[len(plan.turns)] += 1
        roles = ["noise/" in turn.paths[0] for turn in plan.turns]
        assert roles == [True] + [False] * (len(roles) - 1)
        assert plan.label.split(";")[0] == "background" and len(plan.label.split(";")) == len(plan.turns)
        foregrounds = plan.label.split(";")[1:]
        assert len(set(foregrounds)) == len(foregrounds)
    assert set(counts) == {1, 2, 3, 4} and min(counts.values()) > 35


def test_a_background_is_repeated_and_plays_all_along():
    for plan in plans(40, sources=(1, 1)):
        (turn,) = plan.turns
        assert turn.paths == (turn.paths[0],) * 3 and turn.pauses == (0, 0)
        assert (turn.at, turn.frames, turn.gain_db) == (0, plan.frames, 0.0) and 0 <= turn.start <= 3 * 900 - 2000


def test_foregrounds_start_anywhere_and_stay_inside():
    starts = []
    for plan in plans():
        for turn in plan.turns[1:]:
            assert turn.at >= 0 and turn.at + turn.frames <= plan.frames and turn.start == 0
            starts.append(turn.at / (plan.frames - turn.frames))
    assert min(starts) < 0.05 and max(starts) > 0.95 and sum(starts) / len(starts) == pytest.approx(0.5, abs=0.05)


def test_levels_keep_to_their_range_below_the_loudest():
    spread = []
    for plan in plans(event_snr_db=(-5.0, 25.0)):
        gains = [turn.gain_db for turn in plan.turns]
        assert max(gains) == 0
        spread += [gain - gains[0] for gain in gains[1:]]
    assert -5 <= min(spread) < -3 and 23 < max(spread) <= 25


def test_a_share_of_scenes_has_a_background():
    found = [any("noise/" in turn.paths[0] for turn in plan.turns) for plan in plans(400, background=0.25)]
    assert sum(found) == pytest.approx(100, abs=30)
    assert not any("noise/" in turn.paths[0] for plan in plans(50, background=0.0) for turn in plan.turns)


def test_events_and_backgrounds_play_about_equally_often():
    counts = Counter(turn.paths[0] for plan in plans(960, sources=(4, 4)) for turn in plan.turns)
    assert {counts[f"noise/b{i}.wav"] for i in range(3)} == {320}
    each = [counts[row.path] for row in events()]
    assert sum(each) == 3 * 960 and max(each) < 1.25 * min(each)


def test_a_longer_event_is_cut_at_its_end():
    source = ScenePlanner(SceneRecipe((2, 2), RATE, 0.5), "train", events(), behind(), 0, 0)
    assert {(t.start, t.frames, t.at) for i in range(20) for t in source.plan(i).turns[1:]} == {(0, 500, 0)}


def test_too_few_recordings():
    with pytest.raises(BadInput, match=r"split train: foregrounds of 2 classes, 3 are needed"):
        ScenePlanner(SceneRecipe(), "train", events(2), behind(), 0, 0)
    with pytest.raises(BadInput, match=r"no background recording.*--background 0"):
        ScenePlanner(SceneRecipe(), "train", events(), [], 0, 0)
    assert ScenePlanner(SceneRecipe(background=0.0), "train", events(), [], 0, 0).plan(3).turns


@pytest.mark.parametrize(
    "fault", [{"sources": (2, 1)}, {"sources": (0, 2)}, {"background": 1.5}, {"event_snr_db": (3.0, 1.0)}]
)
def test_faults(fault: dict[str, object]):
    with pytest.raises(ConfigError, match=r"--(sources|background|event-snr)"):
        SceneRecipe(**fault).check()
