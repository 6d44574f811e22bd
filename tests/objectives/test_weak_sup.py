"""Classes that are there or not: the terms by hand for a network whose masks are constants."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from usepcli.data.batch import Batch
from usepcli.errors import BadInput, ConfigError
from usepcli.losses.magnitude import MagnitudeL1
from usepcli.models.cond_unet import CondUNet
from usepcli.models.queried import QueriedModel
from usepcli.objectives.weak_sup import WeakSup

LIST = ("first 0.5", "second 0.25", "third 0.125", "fourth 1")


@pytest.fixture
def made(constant: type[QueriedModel], tmp_path: Path) -> Any:
    """Builds the objective around a network of constant masks, with the list of classes in a file."""
    (tmp_path / "classes.txt").write_text("\n".join(LIST))

    def make(norm: str = "none", **options: Any) -> WeakSup:
        options = {"classes": str(tmp_path / "classes.txt"), **options}
        found = WeakSup(constant(norm), MagnitudeL1(weighted=False), **options)
        found.rng.manual_seed(0)
        return found

    return make


def batch(*queries: tuple[str, ...]) -> Batch:
    mix = torch.randn(len(queries), 800, generator=torch.Generator().manual_seed(0))
    return Batch(mix, None, [f"item{k}" for k in range(len(queries))], queries=list(queries))


@pytest.mark.parametrize("norm", ["none", "std"])
def test_what_is_there_adds_up_to_the_mixture_and_what_is_not_to_silence(norm: str, made: Any) -> None:
    objective = made(norm, mixture=2.0, classifier=0.0, absent_classes=0)
    given = batch(("first 0.5", "Second  0.25"), ("third 0.125",))
    found = objective.losses(given)
    assert list(found) == ["mixture"]
    model, expected = objective.student, torch.zeros(())
    for wave, missing, too_much in zip(given.mix, (0.25, 0.875), (1.125, 1.75), strict=True):
        level = wave.std(correction=0) if norm == "std" else 1.0
        expected += (missing + too_much) * model.transform(wave / level).abs().mean() / 2
    torch.testing.assert_close(found["mixture"].detach(), 2 * expected)


def test_some_of_the_absent_classes_are_drawn(made: Any) -> None:
    objective = made(classifier=0.0, absent_classes=2)
    given = batch(("fourth 1",))
    whole = float(objective.student.transform(given.mix[0]).abs().mean())
    seen = {round(float(objective.losses(given)["mixture"].detach()) / 10 / whole, 4) for _ in range(30)}
    assert seen == {0.75, 0.625, 0.375}  # 0.5 + 0.25, 0.5 + 0.125, 0.25 + 0.125; the mixture itself is whole
    every = made(classifier=0.0, absent_classes=99).losses(given)["mixture"].detach()
    assert float(every) == pytest.approx(8.75 * whole, rel=1e-5)


def test_a_frozen_classifier_knows_the_whole_list(made: Any) -> None:
    objective = made(mixture=0.0, classifier=4.0, judge="ear")
    given = batch(("first 0.5", "fourth 1"), ("second 0.25",))
    found = objective.losses(given)
    heard = objective.judge.module.hear(torch.stack([given.mix[0], given.mix[0], given.mix[1]])).detach()
    read = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])  # all four, asked for or not
    log_share = (3.0 * heard @ read.T).log_softmax(1)
    expected = -(log_share[0, 0] + log_share[1, 3] + log_share[2, 1]) / 3
    torch.testing.assert_close(found["classifier"].detach(), 4 * expected, rtol=1e-4, atol=1e-5)
    found["classifier"].backward()
    assert objective.student.weight.grad is not None and objective.judge.module.weight.grad is None
    assert objective.fixed()["judge"].reference == "ear"


def test_the_list_is_the_models_own() -> None:
    options = {**CondUNet.PRESETS["tiny"], "classes": ("dog", "rain", "cat")}
    found = WeakSup(CondUNet(**options), MagnitudeL1(), classifier=0.0)
    assert list(found.classes.values()) == ["dog", "rain", "cat"]
    assert torch.isfinite(found.losses(batch(("dog",), ("The sound of Rain", "cat")))["mixture"])


@pytest.mark.parametrize(
    ("queries", "told"), [((), "item0: no query"), (("fifth 1",), "item0: query 'fifth 1'.*4 classes")]
)
def test_a_mixture_of_no_known_class_is_told_by_name(queries: tuple[str, ...], told: str, made: Any) -> None:
    with pytest.raises(BadInput, match=told):
        made(classifier=0.0).losses(batch(queries))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "objective.judge: empty, and objective.classifier needs one"),
        ({"classifier": 0.0, "classes": ""}, "objective.classes: empty"),
        ({"classifier": 0.0, "mixture": 0.0}, "nothing is left"),
        ({"classifier": 0.0, "mixture": math.nan}, "objective.mixture"),
        ({"classifier": 0.0, "absent_classes": -1}, "objective.absent_classes"),
    ],
)
def test_settings_that_mean_nothing(options: dict[str, Any], told: str, made: Any) -> None:
    with pytest.raises(ConfigError, match=told):
        made(**options)
