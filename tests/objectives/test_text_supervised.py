"""Supervision by queries for a network whose masks are constants, and what is asked for that is not there."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from usepcli import registry
from usepcli.data.batch import Batch
from usepcli.errors import BadInput, ConfigError
from usepcli.losses.magnitude import MagnitudeL1
from usepcli.models.queried import QueriedModel
from usepcli.objectives.questions import Question, absent, questions, some_absent


def batch(queries: list[tuple[str, ...]], labels: list[str] | None = None, length: int = 800) -> Batch:
    most = max(map(len, queries))
    sources = torch.randn(len(queries), most, length, generator=torch.Generator().manual_seed(0))
    for k, own in enumerate(queries):
        sources[k, len(own) :] = 0.0
    ids = [f"item{k}" for k in range(len(queries))]
    return Batch(sources.sum(1), sources, ids, queries=queries, label=labels or [])


def objective(name: str, model: QueriedModel, **options: Any) -> Any:
    made = registry.load("objective", name)(model, MagnitudeL1(weighted=False), **options)
    made.rng.manual_seed(0)
    return made


def l1(model: QueriedModel, mask: float, heard: Tensor, aim: Tensor) -> Tensor:
    return (mask * model.transform(heard).abs() - model.transform(aim).abs()).abs().mean()


@pytest.mark.parametrize("norm", ["none", "std"])
def test_each_query_is_compared_with_its_own_source_at_the_level_of_the_network(
    norm: str, constant: type[QueriedModel]
) -> None:
    model = constant(norm)
    given = batch([("dog 0.25", "rain 0.5", "cat 1"), ("cat 0.75",), ("rain 0.5", "dog 0.25")])
    found = objective("mix_and_separate", model).losses(given)["mix_and_separate"].detach()
    expected = torch.zeros(())
    for k, own in enumerate(given.queries):
        level = given.mix[k].std(correction=0) if norm == "std" else 1.0
        for n, words in enumerate(own):
            expected += l1(model, float(words.split()[1]), given.mix[k] / level, given.sources[k, n] / level)
    torch.testing.assert_close(found, expected / 3)


def test_one_query_of_two_sources_is_one_question_for_their_sum(constant: type[QueriedModel]) -> None:
    model = constant()
    given = batch([("dog 0.5", "rain 1", " DOG  0.5")])
    found = objective("mix_and_separate", model).losses(given)["mix_and_separate"].detach()
    dogs, rain = given.sources[0, [0, 2]].sum(0), given.sources[0, 1]
    torch.testing.assert_close(found, l1(model, 0.5, given.mix[0], dogs) + l1(model, 1.0, given.mix[0], rain))


def test_a_loss_on_waves_serves_as_well(constant: type[QueriedModel]) -> None:
    model, loss = constant(), registry.load("loss", "snr")(snr_max_db=None)
    given = batch([("dog 0.5", "rain 0.5")])
    found = registry.load("objective", "mix_and_separate")(model, loss).losses(given)["mix_and_separate"]
    wanted = sum(
        -10 * torch.log10(s.square().sum() / (0.5 * given.mix[0] - s).square().sum()) for s in given.sources[0]
    )
    torch.testing.assert_close(found.detach(), wanted, rtol=1e-4, atol=1e-3)  # the STFT there and back


def test_what_is_absent_is_no_query_of_the_mixture_and_of_none_of_its_classes() -> None:
    given = batch(
        [("a dog barks", "rain"), ("Rain ", "a cat"), ("a puppy", "wind")], ["dog;rain", "rain;cat", "dog; wind"]
    )
    asked = questions(given)
    assert asked[1] == [Question("Rain ", (0,)), Question("a cat", (1,))]
    gen = torch.Generator().manual_seed(0)
    all_gone = some_absent(given, asked, 0.999999, gen)
    assert {one.words for one in all_gone[0]} == {"a cat", "wind"}
    assert {one.words for one in all_gone[1]} <= {"a dog barks", "a puppy", "wind"}
    assert {one.words for one in all_gone[2]} == {"rain", "a cat"} or {one.words for one in all_gone[2]} == {
        "Rain ",
        "a cat",
    }
    assert all(one.sources == () for own in all_gone for one in own)
    given.label = []  # nobody says that a puppy is a dog
    assert "a puppy" in {one.words for n in range(20) for one in some_absent(given, asked, 0.9, gen)[0]}
    assert some_absent(given, asked, 0.0, gen) is asked
    alike = batch([("rain",), ("rain",)])
    assert some_absent(alike, questions(alike), 0.999999, gen) == questions(alike)


def test_the_share_of_absent_queries_is_the_one_that_is_asked_for() -> None:
    many = batch([(f"{k} a", f"{k} b") for k in range(500)], length=1)
    gone = some_absent(many, questions(many), 0.3, torch.Generator().manual_seed(1))
    share = sum(not one.sources for own in gone for one in own) / 1000
    assert abs(share - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 1000)


def test_what_is_absent_is_answered_by_silence(constant: type[QueriedModel]) -> None:
    model = constant()
    given = batch([("a 0.5",), ("b 0.25",)])
    made = objective("mix_and_separate", model, absent=0.999999)
    found = made.losses(given)["mix_and_separate"].detach()
    halves = [m * model.transform(x).abs().mean() for m, x in zip((0.25, 0.5), given.mix, strict=True)]
    torch.testing.assert_close(found, sum(halves) / 2)
    level = (20 * math.log10(0.25) + 20 * math.log10(0.5)) / 2
    assert float(made.step_logs["absent_db"]) == pytest.approx(level, abs=1e-3)
    with pytest.raises(ConfigError, match="expected 2 or more"):
        made.check(1)


def test_a_judge_hears_the_estimates_of_what_is_there(constant: type[QueriedModel]) -> None:
    model = constant()
    given = batch([("first 1",), ("second 1", "first 0.5")])
    made = objective("text_supervised", model, url=2.0, cnt=3.0, judge="ear")
    found = made.losses(given)
    bare = objective("mix_and_separate", model).losses(given)["mix_and_separate"]
    torch.testing.assert_close(found["url"], 2 * bare)
    heard = made.judge.module.hear(torch.stack([given.mix[0], given.mix[1], given.mix[1] / 2]))
    logits = 3.0 * heard @ torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]).T  # three different phrases
    expected = -logits.log_softmax(1)[[0, 1, 2], [0, 1, 2]].mean()
    torch.testing.assert_close(found["cnt"].detach(), 3 * expected.detach(), rtol=1e-4, atol=1e-5)
    sum(found.values()).backward()
    assert model.weight.grad is not None and made.judge.module.weight.grad is None
    none = objective("text_supervised", model, cnt=0.1, judge="ear", absent=0.999999)
    assert none.losses(batch([("first 1",), ("second 1",)]))["cnt"].detach() == 0.0


def test_sources_without_words_are_told_by_name(constant: type[QueriedModel]) -> None:
    for queries in ([("a 1", "b 1"), ()], [("a 1",), ("a 1", "b 1", "c 1")]):
        given = batch([("a 1", "b 1")] * 2)
        given.queries = queries
        with pytest.raises(BadInput, match=rf"item1: {len(queries[1])} queries for 2 sources"):
            objective("mix_and_separate", constant()).losses(given)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("mix_and_separate", {"absent": 1.0}, "objective.absent"),
        ("mix_and_separate", {"absent": -0.1}, "objective.absent"),
        ("text_supervised", {}, "objective.judge: empty, and objective.cnt needs one"),
        ("text_supervised", {"url": 0.0, "judge": "ear"}, "objective.url"),
        ("text_supervised", {"cnt": math.nan, "judge": "ear"}, "objective.cnt"),
        ("text_supervised", {"cnt": 0.1, "judge": "eer"}, "ear"),
    ],
)
def test_settings_that_mean_nothing(
    name: str, options: dict[str, Any], told: str, constant: type[QueriedModel]
) -> None:
    with pytest.raises(ConfigError, match=told):
        objective(name, constant(), **options)


def test_nothing_is_absent_where_all_mixtures_name_the_same() -> None:
    assert absent([{"rain": ("rain", "")}, {"rain": ("Rain", "")}], 0) == []
    assert absent([{"rain": ("rain", "")}, {"the sound of rain": ("The sound of rain", "")}], 0) == []
