"""Weak supervision by words: the terms by hand for a network whose masks are constants, and where gradients go."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from usepcli.data.batch import Batch
from usepcli.data.manifest import Phrase
from usepcli.errors import BadInput, ConfigError
from usepcli.losses.magnitude import MagnitudeL1
from usepcli.models.queried import QueriedModel
from usepcli.objectives.text_weak import TextWeak


def batch(phrases: list[list[tuple[str, float]]], captions: list[str], length: int = 800) -> Batch:
    mix = torch.randn(len(phrases), length, generator=torch.Generator().manual_seed(0))
    ids = [f"item{k}" for k in range(len(phrases))]
    words = [tuple(Phrase(*phrase) for phrase in own) for own in phrases]
    return Batch(mix, None, ids, caption=captions, phrases=words)


def objective(model: QueriedModel, **options: Any) -> TextWeak:
    made = TextWeak(model, MagnitudeL1(weighted=False), **options)
    made.rng.manual_seed(0)
    return made


def never_paired(made: TextWeak, given: Batch) -> None:
    """In a batch without partners there is nothing to learn; where that goes on, it is told."""
    for _ in range(19):
        found = made.losses(given)["url"]
        assert float(found.detach()) == 0.0 and made.step_logs["paired"] == 0.0
    found.backward()
    assert made.student.weight.grad == 0.0
    with pytest.raises(BadInput, match=r"20 batches in a row every two of \d mixtures share a phrase"):
        made.losses(given)


def magnitude(model: QueriedModel, wave: Tensor) -> Tensor:
    return model.transform(wave).abs()


def test_captions_are_asked_of_the_sum_and_compared_with_their_own_mixtures(constant: type[QueriedModel]) -> None:
    model = constant()
    given = batch([[("a 1", 1.0)], [("b 1", 1.0)]], ["x 0.25", "y 0.5"])
    found = objective(model, url=2.0, crl=0.0, cnt=0.0).losses(given)
    both = magnitude(model, given.mix.sum(0))
    each = [(m * both - magnitude(model, x)).abs().mean() for m, x in zip((0.25, 0.5), given.mix, strict=True)]
    assert list(found) == ["url"]
    torch.testing.assert_close(found["url"].detach(), 2 * sum(each))


@pytest.mark.parametrize("norm", ["none", "std"])
def test_phrases_add_up_by_their_weights_at_the_level_of_the_network(constant: type[QueriedModel], norm: str) -> None:
    model = constant(norm)
    # 0.5 + two copies of half a share of 0.25: 0.75 of the mixture, the rest is missing.
    given = batch([[("a 0.5", 1.0), ("b 0.25", 0.5), ("b 0.25", 0.5)], [("c 1", 1.0)]], ["x 1", "y 1"])
    found = objective(model, url=0.0, crl=4.0, cnt=0.0).losses(given)
    level = given.mix[0].std(correction=0) if norm == "std" else 1.0
    expected = 4 * (0.25 * magnitude(model, given.mix[0]).mean() / level + 0.0) / 2
    torch.testing.assert_close(found["crl"].detach(), expected)


@pytest.mark.parametrize(("skip", "expected"), [(True, 0.25), (False, (0.25 + 0.5) / 2)])
def test_a_mixture_of_whose_phrases_some_are_left_out_has_no_sum(
    constant: type[QueriedModel], skip: bool, expected: float
) -> None:
    model = constant()
    given = batch([[("a 0.75", 1.0)], [("b 0.5", 1.0)]], ["x 1", "y 1"])
    given.mix[1] = given.mix[0]
    given.incomplete = [False, True]
    made = objective(model, url=0.0, crl=1.0, cnt=0.0, crl_skip_incomplete=skip)
    found = made.losses(given)["crl"]
    torch.testing.assert_close(found.detach(), expected * magnitude(model, given.mix[0]).mean())
    given.incomplete = [True, True]
    none = made.losses(given)["crl"]
    none.backward()
    assert none.isfinite() and model.weight.grad is not None and (model.weight.grad == 0) == skip


def test_a_recording_is_no_partner_of_itself_under_other_words(constant: type[QueriedModel]) -> None:
    given = batch([[("a 1", 1.0)], [("b 1", 1.0)], [("c 1", 1.0)]], ["x 1", "y 1", "z 1"])
    given.files = [("one.wav",), ("one.wav",), ("two.wav",)]
    made = objective(constant(), url=1.0, crl=0.0, cnt=0.0)
    for _ in range(8):
        made.losses(given)
        assert made.step_logs["paired"] == pytest.approx(2 / 3)
    given.files = [("one.wav",)] * 3
    never_paired(made, given)


def test_asked_of_the_sum_the_phrases_of_each_mixture_aim_at_it(constant: type[QueriedModel]) -> None:
    model = constant()
    given = batch([[("a 0.5", 1.0), ("b 0.25", 1.0)], [("c 1", 1.0)]], ["x 1", "y 1"])
    found = objective(model, url=0.0, crl=1.0, cnt=0.0, source_input="mom").losses(given)
    both = magnitude(model, given.mix.sum(0))
    each = [(m * both - magnitude(model, x)).abs().mean() for m, x in zip((0.75, 1.0), given.mix, strict=True)]
    torch.testing.assert_close(found["crl"].detach(), sum(each) / 2)


def test_a_judge_tells_estimates_apart_and_only_the_network_learns(constant: type[QueriedModel]) -> None:
    model = constant()
    given = batch([[("first 1", 1.0)], [("second 1", 1.0), ("first 1", 1.0)]], ["x 1", "y 1"])
    given.mix[0, 400:] = 0.0
    made = objective(model, url=0.0, crl=0.0, cnt=1.0, judge="ear")
    found = made.losses(given)["cnt"]
    heard = made.judge.module.hear(torch.stack([given.mix[0], given.mix[1], given.mix[1]]))  # type: ignore[union-attr]
    logits = 3.0 * heard
    expected = -(logits.log_softmax(1)[[0, 1, 2], [0, 1, 0]]).mean()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)  # the STFT there and back
    found.backward()
    assert model.weight.grad is not None and made.judge.module.weight.grad is None  # type: ignore[union-attr]
    assert list(made.state_dict()) == [f"student.{name}" for name in model.state_dict()]
    assert made.fixed()["judge"].reference == "ear"
    assert 0 <= float(made.step_logs["judged_right"]) <= 1


def test_mixtures_that_share_a_phrase_are_no_partners(constant: type[QueriedModel]) -> None:
    given = batch([[("a 1", 1.0)], [("a 1", 1.0), ("b 1", 1.0)], [("c 1", 1.0)]], ["x 1"] * 3)
    made = objective(constant(), crl=0.0, cnt=0.0)
    made.losses(given)
    assert made.step_logs["paired"] == pytest.approx(2 / 3)
    alone = batch([[("a 1", 1.0)], [("a 1", 1.0)]], ["x 1"] * 2)
    never_paired(objective(constant(), crl=0.0, cnt=0.0), alone)


def test_a_mixture_without_words_is_told_by_name(constant: type[QueriedModel]) -> None:
    for given in (batch([[("a 1", 1.0)], []], ["x 1", "y 1"]), batch([[("a 1", 1.0)], [("b 1", 1.0)]], ["x 1", " "])):
        with pytest.raises(BadInput, match="item1: no caption or no phrase"):
            objective(constant(), cnt=0.0).losses(given)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "objective.judge: empty"),
        ({"url": 0.0, "crl": 0.0, "cnt": 0.0}, "nothing is left"),
        ({"url": -1.0}, "objective.url"),
        ({"crl": math.inf}, "objective.crl"),
        ({"cnt": 0.0, "absent": 1.0}, "objective.absent"),
        ({"cnt": 0.0, "url": 0.0, "absent": 0.5}, "objective.absent"),
        ({"cnt": 0.0, "source_input": "mim"}, "objective.source_input"),
    ],
)
def test_settings_that_mean_nothing(constant: type[QueriedModel], options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        objective(constant(), **options)


def test_words_of_a_third_mixture_are_answered_by_silence(
    constant: type[QueriedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, told = constant(), list[list[list[str]]]()
    ask = model.conditions
    monkeypatch.setattr(model, "conditions", lambda queries: told.append(queries) or ask(queries))
    words = [("a 0.125", "x 0.25"), ("b 0.375", "y 0.5"), ("c 0.625", "z 0.75"), ("d 0.875", "w 1")]
    given = batch([[(phrase, 1.0)] for phrase, _ in words], [caption for _, caption in words])
    given.mix[:] = given.mix[0]
    found = objective(model, url=1.0, crl=0.0, cnt=0.0, absent=0.999).losses(given)["url"].detach()
    (asked,) = told
    whose = [{k for k, own in enumerate(words) if said in own} for row in asked for said in row]
    assert (whose[0] | whose[1]).isdisjoint(whose[2] | whose[3])  # the words of one pair ask the other
    masks = sum(float(said.split()[1]) for row in asked for said in row)
    torch.testing.assert_close(found, masks * magnitude(model, 2 * given.mix[0]).mean() / 2)
    for none in (batch([[("a 1", 1.0)], [("b 1", 1.0)]], ["x 1", "y 1"]), given):  # no third one; or who knows
        none.incomplete = [True] * len(none)
        told.clear()
        objective(model, url=1.0, crl=0.0, cnt=0.0, absent=0.999).losses(none)
        assert sorted(said for row in told[0] for said in row) == sorted(none.caption)
