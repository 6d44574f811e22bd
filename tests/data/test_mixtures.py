from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from usepcli.data.manifest import PoolRow
from usepcli.data.mixtures import Plan, Planner, Recipe
from usepcli.errors import BadInput, ConfigError

RATE = 1000


def pool(talkers: int = 6, each: int = 3, frames: int = 2500) -> list[PoolRow]:
    return [
        PoolRow(f"t{t}/u{u}", "train", f"t{t}", f"pool/t{t}u{u}.wav", RATE, frames + 100 * t + 10 * u, "home", "CC0")
        for t in range(talkers)
        for u in range(each)
    ]


def plans(
    count: int = 60, rows: list[PoolRow] | None = None, noise: Sequence[PoolRow] = (), **recipe: object
) -> list[Plan]:
    planner = Planner(
        Recipe(rate=RATE, **recipe), "train", pool() if rows is None else rows, noise, seed=3, split_index=0
    )
    return [planner.plan(i) for i in range(count)]


def lengths(rows: list[PoolRow]) -> dict[str, int]:
    return {row.path: row.frames for row in rows}


def test_plans_are_functions_of_the_counter():
    planner = Planner(Recipe(rate=RATE), "train", pool(), [], 3, 0)
    assert [planner.plan(i) for i in (41, 7)] == [plans()[41], plans()[7]]
    assert Planner(Recipe(rate=RATE), "train", pool(), [], 4, 0).plan(7) != plans()[7]
    assert Planner(Recipe(rate=RATE), "train", pool(), [], 3, 1).plan(7) != plans()[7]


def test_talkers_of_a_mixture_differ_and_all_speak_equally_often():
    counts: Counter[str] = Counter()
    for plan in plans(60):
        speakers = [turn.speaker for turn in plan.turns]
        assert len(set(speakers)) == 2
        counts.update(speakers)
    assert set(counts.values()) == {20}


def test_seconds_rule_gives_one_length_and_stays_inside_the_recordings():
    for plan in plans(seconds=2.0):
        assert plan.frames == 2000
        for turn in plan.turns:
            assert turn.frames == 2000 and turn.at == 0
            assert 0 <= turn.start <= lengths(pool())[turn.paths[0]] - turn.frames


def test_short_recordings_stand_somewhere_in_silence():
    places = set()
    for plan in plans(seconds=4.0):
        assert plan.frames == 4000
        for turn in plan.turns:
            assert turn.start == 0 and turn.frames == lengths(pool())[turn.paths[0]]
            assert 0 <= turn.at <= 4000 - turn.frames
            places.add(turn.at)
    assert len(places) > 60


@pytest.mark.parametrize("rule", ["min", "max"])
def test_min_and_max_rules(rule: str):
    for plan in plans(length=rule):
        totals = [lengths(pool())[turn.paths[0]] for turn in plan.turns]
        assert plan.frames == (min(totals) if rule == "min" else max(totals))
        for turn, total in zip(plan.turns, totals, strict=True):
            assert turn.frames == min(total, plan.frames) and turn.at + turn.frames <= plan.frames


@pytest.mark.parametrize("rule", ["min", "max"])
def test_max_s_caps_both_rules(rule: str):
    assert {plan.frames for plan in plans(length=rule, max_s=1.5)} == {1500}


@pytest.mark.parametrize("rule", ["seconds", "min", "max"])
@pytest.mark.parametrize("n_src", [2, 3])
def test_no_overlap_means_one_after_the_other(rule: str, n_src: int):
    for plan in plans(20, length=rule, n_src=n_src, overlap=(0.0, 0.0), seconds=3.0):
        ends = [turn.at + turn.frames for turn in plan.turns]
        starts = [turn.at for turn in plan.turns]
        assert all(start >= end - 2 for start, end in zip(starts[1:], ends, strict=False)), plan
        assert max(ends) <= plan.frames


def test_half_overlap_in_numbers():
    # T = L (1 + (1 - r)) with r = 1/2: L = 2 T / 3, the second starts at T - L.
    for plan in plans(20, overlap=(0.5, 0.5), seconds=3.0):
        assert [(turn.at, turn.frames) for turn in plan.turns] == [(0, 2000), (1000, 2000)]


def test_level_differences_are_uniform_and_centred():
    differences = [plan.turns[0].gain_db - plan.turns[1].gain_db for plan in plans(400, level_db=5.0)]
    assert all(abs(plan.turns[0].gain_db + plan.turns[1].gain_db) < 1e-9 for plan in plans(20))
    assert max(map(abs, differences)) <= 5 and min(differences) < -4.5 and max(differences) > 4.5
    assert abs(sum(differences) / 400) < 0.6  # four standard errors of a uniform mean


def test_join_fills_the_length_from_one_talker():
    rows = pool(each=8, frames=700)
    for plan in plans(rows=rows, join=True, seconds=4.0, pause_s=(0.1, 0.3)):
        for turn in plan.turns:
            assert len(set(turn.paths)) == len(turn.paths) >= 3
            assert {path.split("/")[1][:2] for path in turn.paths} == {turn.speaker}
            assert len(turn.pauses) == len(turn.paths) - 1 and all(100 <= pause <= 300 for pause in turn.pauses)
            total = sum(lengths(rows)[path] for path in turn.paths) + sum(turn.pauses)
            assert turn.start + turn.frames <= total and (turn.frames == 4000 or total < 4000)


def test_unnamed_utterances_of_one_origin_never_meet():
    coffee = [PoolRow(f"c{i}", "train", "", f"c{i}.wav", RATE, 2000, "coffee") for i in range(10)]
    other = [PoolRow(f"n{i}", "train", "", f"n{i}.wav", RATE, 2000, "news") for i in range(3)]
    for plan in plans(rows=[*pool(2), *coffee, *other], n_src=3):
        kinds = [turn.paths[0][0] for turn in plan.turns]
        assert len(kinds) == 3 and kinds.count("c") <= 1 and kinds.count("n") <= 1
        assert all(turn.speaker.startswith("?") for turn in plan.turns if turn.paths[0][0] in "cn")
    with pytest.raises(BadInput, match="1 talkers known to differ"):
        plans(rows=coffee)


def test_noise_is_placed_and_credited():
    noise = [
        PoolRow("n", "train", "", "noise/n.wav", RATE, 1000, "street", "CC-BY"),
        PoolRow("m", "train", "", "m.wav", RATE, 9000),
    ]
    made = plans(noise=noise, noise_snr_db=(3.0, 6.0), seconds=2.0)
    assert {plan.noise for plan in made} == {"noise/n.wav", "m.wav"}
    for plan in made:
        assert 3 <= plan.noise_snr_db <= 6
        assert 0 <= plan.noise_start < 1000 if plan.noise == "noise/n.wav" else plan.noise_start <= 7000
        if plan.noise == "noise/n.wav":
            assert plan.licences == ("CC0", "CC-BY") and plan.origins == ("home", "street")


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_src": 0}, {"rate": 0}, {"seconds": 0.0}, {"seconds": float("nan")}, {"max_s": -1.0}, {"level_db": -1.0},
        {"overlap": (0.6, 0.5)}, {"overlap": (0.0, 1.1)}, {"pause_s": (-0.1, 0.2)}, {"noise_snr_db": (9.0, 3.0)},
    ],
    ids=str,
)  # fmt: skip
def test_impossible_recipes(wrong: dict[str, object]):
    with pytest.raises(ConfigError, match="expected"):
        Recipe(**wrong).check()
    Recipe().check()
