"""Prompt tuning by a conditioner and ears that can be reckoned: the loss, who moves, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from usepcli import registry
from usepcli.data.batch import Batch
from usepcli.encoders.base import Condition, Conditioner, Judge
from usepcli.errors import BadInput, ConfigError
from usepcli.losses.magnitude import MagnitudeL1
from usepcli.models.cond_unet import CondUNet
from usepcli.objectives.prompt_tuning import PromptTuning


class Tower(Conditioner):
    """Reads "one" and "two" as the axes of a plane; the first vector before the words is added to either."""

    name, takes_context, length = "plain", True, 1

    def read(self, phrases: Sequence[str]) -> Condition:
        axes = torch.tensor([[1.0, 0.0] if phrase == "one" else [0.0, 1.0] for phrase in phrases])
        return Condition(axes[:, None], torch.ones(len(phrases), 1, dtype=torch.bool), axes)

    def behind(self, context: Tensor, phrases: Sequence[str]) -> Condition:
        tokens, mask, pooled = self.read(phrases)
        return Condition(tokens, mask, pooled + context[0])


class Ear(Judge):
    """Hears a constant wave as its level and what is missing to 1."""

    rate, dim, scale, sha256, reference = 8000, 2, 2.0, "0" * 64, "ear"

    def __init__(self, path: str, sha256: str = "") -> None:
        super().__init__()
        self.opened = path, sha256

    def hear(self, waves: Tensor, rate: int = 0) -> Tensor:
        level = waves.mean(-1)
        return torch.stack([level, 1 - level], -1)


@pytest.fixture
def student(monkeypatch: pytest.MonkeyPatch) -> CondUNet:
    found = {"conditioner": Tower, "judge": Ear}
    monkeypatch.setattr(registry, "load", lambda kind, name: found[kind])
    torch.manual_seed(0)
    return CondUNet(**CondUNet.PRESETS["tiny"], conditioner="plain", conditioner_path="p", context=3, cond_dim=2,
                    emb_dim=2)  # fmt: skip


def batch(levels: Sequence[float], queries: Sequence[tuple[str, ...]]) -> Batch:
    mix = torch.tensor(levels)[:, None].expand(-1, 100)
    return Batch(mix, None, [f"item{k}" for k in range(len(levels))], queries=list(queries))


def test_the_loss_is_that_of_the_class_among_all_and_the_vectors_alone_move(student: CondUNet) -> None:
    made = PromptTuning(student, MagnitudeL1())
    made.knows(lambda: dict.fromkeys(["The sound of two", "one", "The sound of one"], "item"))
    assert made.classes == ("one", "two") and made.settled() == {"classes": ["one", "two"]}
    given = batch([0.75, 0.25, 1.0], [("The sound of one",), ("two",), ("One ",)])
    first = student.words.context[0].detach()  # type: ignore[index]
    heard = torch.tensor([[0.75, 0.25], [0.25, 0.75], [1.0, 0.0]])
    logits = 2 * heard @ (torch.eye(2) + first).T
    loss = made.losses(given)["prompt"]
    torch.testing.assert_close(loss.detach(), -logits.log_softmax(1)[[0, 1, 2], [0, 1, 0]].mean())
    assert float(made.step_logs["right"]) == 1
    loss.backward()
    (moved,) = [p for part in made.groups().values() for p in part.parameters()]
    assert moved is student.words.context and moved.grad is not None
    assert all(p.grad is None for name, p in student.named_parameters() if name != "conditioner.context")
    found = made.validated(student, batch([0.75], [("one",)]))
    one = -logits.log_softmax(1)[0, 0]
    assert found == {"held_loss": pytest.approx(float(one)), "held_right": 1.0}
    assert made.fixed()["judge"].reference == "ear" and made.judge.module.opened == ("p", "")


def test_recordings_of_no_or_several_sounds_and_of_unknown_ones_are_told_by_name(student: CondUNet) -> None:
    made = PromptTuning(student, MagnitudeL1())
    with pytest.raises(ConfigError, match="all recordings are of one class, 'one'"):
        made.knows(lambda: {"one": "a", "The sound of one": "b"})
    made.knows(lambda: {"one": "a", "two": "b"})
    for queries, said in ((("one", "two"), "item0: 2 queries"), ((), "item0: 0 queries"), (("x",), "'x' is none of")):
        with pytest.raises(BadInput, match=said):
            made.losses(batch([0.5], [queries]))


def test_a_model_without_vectors_to_learn_is_refused() -> None:
    model = CondUNet(**CondUNet.PRESETS["tiny"], classes=("one", "two"))
    with pytest.raises(ConfigError, match=r"model\.context: no vectors to learn.*clap"):
        PromptTuning(model, MagnitudeL1())
    with pytest.raises(ConfigError, match=r"model\.context: found 8, and model\.conditioner labels reads no words"):
        CondUNet(**CondUNet.PRESETS["tiny"], classes=("one", "two"), context=8)


def test_who_trains_no_separator_is_listed() -> None:
    own = tuple(name for name in registry.OBJECTIVES if registry.load("objective", name).own)
    assert own == registry.PREPARING
