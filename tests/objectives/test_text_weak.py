"""Weak supervision by words: the terms by hand for a network whose masks are constants, and where gradients go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from usepcli import registry
from usepcli.data.batch import Batch
from usepcli.data.manifest import Phrase
from usepcli.dsp.parts import Parts
from usepcli.dsp.stft import STFT
from usepcli.encoders.base import Judge
from usepcli.errors import BadInput, ConfigError
from usepcli.losses.magnitude import MagnitudeL1
from usepcli.models.queried import Conditions, QueriedModel
from usepcli.objectives.text_weak import TextWeak


class Constant(QueriedModel):
    """A network whose mask for a phrase is the number that its last word says, times one weight."""

    def __init__(self, input_norm: str = "none") -> None:
        super().__init__(sample_rate=8000, hop=32, input_norm=input_norm)
        self.stft = STFT(64, 64, 32)
        self.weight = nn.Parameter(torch.ones(()))

    def encode(self, queries: Sequence[str]) -> Conditions:
        return (torch.tensor([float(query.split()[-1]) for query in queries]),)

    def estimate_parts(self, mix: Tensor, *conditions: Tensor) -> Parts:
        spectrum = self.stft(mix)
        masks = (self.weight * conditions[0])[..., None, None].expand(-1, -1, *spectrum.shape[1:])
        return Parts(self.stft.inverse(masks * spectrum[:, None], mix.shape[-1]), masks, spectrum)

    def transform(self, wave: Tensor) -> Tensor:
        return self.stft(wave)


class Ear(Judge):
    """Hears two numbers of a wave, its first and its second half; reads them from a phrase's first word."""

    rate, dim, scale, reference, sha256 = 8000, 2, 3.0, "ear", "0" * 64

    def __init__(self, path: str = "") -> None:
        super().__init__()
        self.path, self.weight = path, nn.Parameter(torch.ones(()))

    def hear(self, waves: Tensor, rate: int = 0) -> Tensor:
        assert rate in (0, 8000)
        halves = torch.stack([half.square().mean(-1) for half in waves.chunk(2, -1)], -1)
        return nn.functional.normalize(self.weight * halves, dim=-1)

    def read(self, phrases: Sequence[str]) -> Tensor:
        return torch.tensor([[1.0, 0.0] if phrase.startswith("first") else [0.0, 1.0] for phrase in phrases])


def batch(phrases: list[list[tuple[str, float]]], captions: list[str], length: int = 800) -> Batch:
    mix = torch.randn(len(phrases), length, generator=torch.Generator().manual_seed(0))
    ids = [f"item{k}" for k in range(len(phrases))]
    words = [tuple(Phrase(*phrase) for phrase in own) for own in phrases]
    return Batch(mix, None, ids, caption=captions, phrases=words)


def objective(model: Constant, **options: Any) -> TextWeak:
    made = TextWeak(model, MagnitudeL1(weighted=False), **options)
    made.rng.manual_seed(0)
    return made


def magnitude(model: Constant, wave: Tensor) -> Tensor:
    return model.stft(wave).abs()


def test_captions_are_asked_of_the_sum_and_compared_with_their_own_mixtures() -> None:
    model = Constant()
    given = batch([[("a 1", 1.0)], [("b 1", 1.0)]], ["x 0.25", "y 0.5"])
    found = objective(model, url=2.0, crl=0.0, cnt=0.0).losses(given)
    both = magnitude(model, given.mix.sum(0))
    each = [(m * both - magnitude(model, x)).abs().mean() for m, x in zip((0.25, 0.5), given.mix, strict=True)]
    assert list(found) == ["url"]
    torch.testing.assert_close(found["url"].detach(), 2 * sum(each))


@pytest.mark.parametrize("norm", ["none", "std"])
def test_phrases_add_up_by_their_weights_at_the_level_of_the_network(norm: str) -> None:
    model = Constant(norm)
    # 0.5 + two copies of half a share of 0.25: 0.75 of the mixture, the rest is missing.
    given = batch([[("a 0.5", 1.0), ("b 0.25", 0.5), ("b 0.25", 0.5)], [("c 1", 1.0)]], ["x 1", "y 1"])
    found = objective(model, url=0.0, crl=4.0, cnt=0.0).losses(given)
    level = given.mix[0].std(correction=0) if norm == "std" else 1.0
    expected = 4 * (0.25 * magnitude(model, given.mix[0]).mean() / level + 0.0) / 2
    torch.testing.assert_close(found["crl"].detach(), expected)


@pytest.mark.parametrize(("skip", "expected"), [(True, 0.25), (False, (0.25 + 0.5) / 2)])
def test_a_mixture_of_whose_phrases_some_are_left_out_has_no_sum(skip: bool, expected: float) -> None:
    model = Constant()
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


def test_a_recording_is_no_partner_of_itself_under_other_words() -> None:
    given = batch([[("a 1", 1.0)], [("b 1", 1.0)], [("c 1", 1.0)]], ["x 1", "y 1", "z 1"])
    given.files = [("one.wav",), ("one.wav",), ("two.wav",)]
    made = objective(Constant(), url=1.0, crl=0.0, cnt=0.0)
    for _ in range(8):
        made.losses(given)
        assert made.step_logs["paired"] == pytest.approx(2 / 3)
    given.files = [("one.wav",)] * 3
    with pytest.raises(BadInput, match="every two share a phrase"):
        made.losses(given)


def test_asked_of_the_sum_the_phrases_of_each_mixture_aim_at_it() -> None:
    model = Constant()
    given = batch([[("a 0.5", 1.0), ("b 0.25", 1.0)], [("c 1", 1.0)]], ["x 1", "y 1"])
    found = objective(model, url=0.0, crl=1.0, cnt=0.0, source_input="mom").losses(given)
    both = magnitude(model, given.mix.sum(0))
    each = [(m * both - magnitude(model, x)).abs().mean() for m, x in zip((0.75, 1.0), given.mix, strict=True)]
    torch.testing.assert_close(found["crl"].detach(), sum(each) / 2)


def test_a_judge_tells_estimates_apart_and_only_the_network_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "load", lambda kind, name: {"judge": Ear}[kind])
    model = Constant()
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


def test_mixtures_that_share_a_phrase_are_no_partners() -> None:
    given = batch([[("a 1", 1.0)], [("a 1", 1.0), ("b 1", 1.0)], [("c 1", 1.0)]], ["x 1"] * 3)
    made = objective(Constant(), crl=0.0, cnt=0.0)
    made.losses(given)
    assert made.step_logs["paired"] == pytest.approx(2 / 3)
    alone = batch([[("a 1", 1.0)], [("a 1", 1.0)]], ["x 1"] * 2)
    with pytest.raises(BadInput, match="every two share a phrase"):
        objective(Constant(), crl=0.0, cnt=0.0).losses(alone)


def test_a_mixture_without_words_is_told_by_name() -> None:
    for given in (batch([[("a 1", 1.0)], []], ["x 1", "y 1"]), batch([[("a 1", 1.0)], [("b 1", 1.0)]], ["x 1", " "])):
        with pytest.raises(BadInput, match="item1: no caption or no phrase"):
            objective(Constant(), cnt=0.0).losses(given)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "objective.judge: empty"),
        ({"url": 0.0, "crl": 0.0, "cnt": 0.0}, "nothing is left"),
        ({"url": -1.0}, "objective.url"),
        ({"crl": math.inf}, "objective.crl"),
        ({"cnt": 0.0, "source_input": "mim"}, "objective.source_input"),
    ],
)
def test_settings_that_mean_nothing(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        objective(Constant(), **options)
