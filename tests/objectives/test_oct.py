"""Optimal condition training: which source has which trait, and the loss of the condition that serves best."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from usepcli.data.batch import Batch
from usepcli.dsp.parts import Parts
from usepcli.encoders.traits import TRAITS
from usepcli.errors import ConfigError
from usepcli.losses.magnitude import MagnitudeL1
from usepcli.models.cond_unet import CondUNet
from usepcli.objectives.heard_traits import harmonicity, level_db, onset_s, traits_of
from usepcli.objectives.oct import OCT

RATE = 8000


def tone(frames: int = RATE) -> Tensor:
    t = torch.arange(frames) / RATE
    return sum(torch.sin(2 * math.pi * 220 * k * t) / k for k in range(1, 6)) * 0.1  # type: ignore[return-value]


def strokes(frames: int = RATE) -> Tensor:
    wave = torch.zeros(frames)
    wave[200::1600] = 1.0
    return wave


def test_measures_have_the_values_that_they_should() -> None:
    wave = tone()
    assert float(level_db(2 * wave) - level_db(wave)) == pytest.approx(20 * math.log10(2), abs=1e-4)
    assert float(harmonicity(wave)) > 0.9 > 0.1 > float(harmonicity(strokes())) > 0
    assert float(harmonicity(torch.zeros(100))) == 0.5
    torch.testing.assert_close(
        harmonicity(torch.stack([3 * wave, strokes()])), harmonicity(torch.stack([wave, strokes()]))
    )
    late = torch.cat([torch.zeros(RATE // 2), wave])
    assert float(onset_s(late, RATE) - onset_s(wave, RATE)) == pytest.approx(0.5, abs=2 / RATE)
    assert float(onset_s(torch.ones(1000), 1000)) == pytest.approx(0.05, abs=0.0015)


def test_a_source_has_the_traits_by_which_it_stands_out() -> None:
    late_tone = torch.cat([torch.zeros(4000), 2 * tone(4000)])
    found = traits_of(torch.stack([late_tone, strokes()])[None], RATE, TRAITS)
    assert found == [[["louder", "harmonic", "last"], ["quieter", "percussive", "first"]]]
    assert traits_of(torch.stack([late_tone, strokes()])[None], RATE, ("last",)) == [[["last"], []]]


def test_what_is_alike_or_silent_or_alone_has_none() -> None:
    wave, nothing = tone(), torch.zeros(RATE)
    for sources in ([wave, wave], [wave, nothing], [nothing, nothing], [wave]):
        assert traits_of(torch.stack(sources)[None], RATE, TRAITS) == [[[] for _ in sources]]
    found = traits_of(torch.stack([wave, 4 * wave, nothing, 0.2 * wave])[None], RATE, ("louder", "quieter"))
    assert found == [[[], ["louder"], [], ["quieter"]]]


class Masked(CondUNet):
    """A network whose mask for a query is what `masks` says of it, times one weight."""

    masks: dict[str, float]

    def logits(self, level: Tensor, tokens: Tensor, mask: Tensor, pooled: Tensor) -> Tensor:
        raise AssertionError

    def conditions(self, queries):  # type: ignore[no-untyped-def, override]
        self.words.encode([query for asked in queries for query in asked])
        return (torch.tensor([[self.masks[query] for query in asked] for asked in queries]),)

    def estimate_parts(self, mix: Tensor, *conditions: Tensor) -> Parts:
        spec = self.stft(mix)
        masks = (self.bias + 1) * conditions[0][..., None, None].expand(-1, -1, *spec.shape[1:])
        return Parts(self.stft.inverse(masks * spec[:, None], mix.shape[-1]), masks, spec)


def test_the_best_condition_and_the_words_are_what_is_minimised() -> None:
    """By constant masks: of source k with traits, the loss is that of the nearest mask, beside that of its words."""
    model = Masked(
        **{**CondUNet.PRESETS["tiny"], "input_norm": "none"}, classes=("a", "b"), traits=("louder", "quieter")
    )
    model.masks = {"a": 0.5, "b": 0.1, "[louder]": 0.75, "[quieter]": 0.9}
    wave = tone(2000)
    sources = torch.stack([0.8 * wave, 0.2 * wave])[None]
    batch = Batch(wave[None], sources, ["item"], queries=[("a", "b")])
    size = model.stft(wave[None]).abs().mean()
    for asked in (0.0, 2.0):
        found = OCT(model, MagnitudeL1(weighted=False), asked=asked).losses(batch)
        torch.testing.assert_close(found["oct"], (0.05 + 0.1) * size)  # a by [louder], b by its word
        if asked:
            torch.testing.assert_close(found["asked"], 2 * (0.3 + 0.1) * size)
        assert set(found) == ({"oct", "asked"} if asked else {"oct"})
    made = OCT(model, MagnitudeL1(weighted=False))
    made.losses(batch)
    assert float(made.step_logs["best_is_words"]) == 0.5 and float(made.step_logs["conditions"]) == 2.0


def test_mixtures_of_several_sizes_count_what_they_have() -> None:
    """A mixture of one source is asked by its words alone; two sources under one query are one question."""
    model = Masked(
        **{**CondUNet.PRESETS["tiny"], "input_norm": "none"}, classes=("a", "b"), traits=("louder", "quieter")
    )
    model.masks = {"a": 0.5, "b": 0.1, "[louder]": 0.75, "[quieter]": 0.9}
    wave = tone(2000)
    one, two = torch.stack([wave, 0 * wave]), torch.stack([0.5 * wave, 0.5 * wave])
    batch = Batch(torch.stack([wave, wave]), torch.stack([one, two]), ["one", "two"], queries=[("a",), ("b", "b")])
    size = model.stft(wave[None]).abs().mean()
    found = OCT(model, MagnitudeL1(weighted=False), asked=0.0).losses(batch)["oct"]
    torch.testing.assert_close(found, (0.5 + 0.9) / 2 * size)
    found.backward()
    assert model.bias.grad is not None and model.bias.grad.isfinite().all()


def test_a_model_without_traits_is_refused() -> None:
    model = CondUNet(**CondUNet.PRESETS["tiny"], classes=("a", "b"))
    with pytest.raises(ConfigError, match=r"model\.traits: empty, and objective oct asks by traits"):
        OCT(model, MagnitudeL1())
    model = CondUNet(**CondUNet.PRESETS["tiny"], classes=("a", "b"), traits=("first",))
    with pytest.raises(ConfigError, match=r"objective\.asked: found -1"):
        OCT(model, MagnitudeL1(), asked=-1.0)
