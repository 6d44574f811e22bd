"""Sounds and words in one space: shares of mixed sounds, the term in closed form, and that it learns."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from usepcli import registry
from usepcli.data.batch import Batch
from usepcli.errors import BadInput, ConfigError
from usepcli.models.audio_text import AudioText
from usepcli.objectives.contrastive import Contrastive, sources, told_by_shares

TONES = {"low": 200.0, "high": 1500.0}


def listener(**options: Any) -> AudioText:
    torch.manual_seed(0)
    return AudioText(**{**AudioText.PRESETS["tiny"], "classes": tuple(TONES), **options})


def objective(**options: Any) -> Contrastive:
    made = Contrastive(listener(), registry.load("loss", "snr")(), **options)
    made.rng.manual_seed(0)
    return made


def batch(count: int = 3) -> Batch:
    """Mixtures of a low and a high tone of other phases."""
    time = torch.arange(3200) / 8000
    waves = [
        torch.stack([0.1 * torch.sin(2 * math.pi * hertz * time + k) for hertz in TONES.values()]) for k in range(count)
    ]
    held = torch.stack(waves)
    return Batch(held.sum(1), held, [f"m{k}" for k in range(count)], queries=[tuple(TONES)] * count)


def test_the_term_is_the_cross_entropy_of_the_shares_both_ways() -> None:
    logits, shares = torch.tensor([[1.0, 3.0]]), torch.tensor([[0.25, 0.75]])
    total = math.log(math.e + math.exp(3))
    # One sound: to both phrases it is the only one there, which costs nothing.
    assert float(told_by_shares(logits, shares)) == pytest.approx((total - 0.25 - 0.75 * 3) / 2)
    sure = 100 * torch.eye(3)
    assert float(told_by_shares(sure, torch.eye(3))) == pytest.approx(0)


def test_a_phrase_that_is_in_no_sound_asks_for_none() -> None:
    found = told_by_shares(torch.zeros(2, 3), torch.eye(3)[:2])
    assert float(found) == pytest.approx((math.log(3) + math.log(2)) / 2)


def test_a_mixed_sound_is_as_much_of_each_as_its_energy_says() -> None:
    made = objective(mixed=0.999999, below_db=(6.0, 6.0), gain_db=0.0, noisy=0.0)
    waves, asked = sources(batch())
    own = torch.tensor([list(TONES).index(query) for query in asked])
    heard, shares = made._disturbed(waves, own, 2)
    weight = 1 / (1 + 10**0.6)
    mixed = shares.max(1).values < 0.99
    assert mixed.any() and not mixed.all()  # some drew their own phrase
    torch.testing.assert_close(shares[mixed].min(1).values, torch.full((int(mixed.sum()),), weight))
    spectrum = torch.fft.rfft(heard[mixed]).abs().square()
    per_tone = spectrum[:, [80, 600]]  # 2.5 Hz a bin
    torch.testing.assert_close(per_tone / per_tone.sum(1, keepdim=True), shares[mixed], atol=1e-3, rtol=0)
    torch.testing.assert_close(heard[~mixed], waves[~mixed])


def test_silence_is_no_sound_and_queries_are_as_many_as_sources() -> None:
    held = batch(2)
    held.sources[0, 1] = 0
    waves, asked = sources(held)
    assert asked == ["low", "low", "high"] and len(waves) == 3
    assert float(objective().losses(_alone(held))["contrastive"].detach()) == 0
    held.queries[1] = ()
    with pytest.raises(BadInput, match="m1: 0 queries"):
        sources(held)


def _alone(held: Batch) -> Batch:
    return Batch(held.mix[:1], held.sources[:1], ["m0"], queries=[tuple(TONES)])


def test_it_learns_which_tone_is_which() -> None:
    made = objective()
    made.student.train()
    optimizer = torch.optim.Adam(made.student.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        made.losses(batch())["contrastive"].backward()
        optimizer.step()
    model = made.student.eval()
    with torch.no_grad():
        waves = batch(1).sources[0]
        fits = model.hear(waves) @ model.read(list(TONES)).T
        mix = model.hear(waves.sum(0, keepdim=True)) @ model.read(list(TONES)).T
    assert fits.argmax(1).tolist() == [0, 1] and (fits.diagonal() > mix[0]).all()
    assert 0 < float(model.scale.detach()) < model.most_scale


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mixed": 1.0}, r"objective\.mixed"), ({"noisy": -0.1}, r"objective\.noisy"),
        ({"below_db": (3.0, 0.0)}, r"objective\.below_db: found \[3, 0\]"), ({"gain_db": -1.0}, r"objective\.gain_db"),
    ],
)  # fmt: skip
def test_settings_that_are_none(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        objective(**options)
    with pytest.raises(ConfigError, match=r"train\.batch_size"):
        objective().check(1)


def test_a_separator_is_refused() -> None:
    kind = registry.load("model", "cond_unet")
    separator = kind(**{**kind.PRESETS["tiny"], "classes": tuple(TONES)})
    with pytest.raises(ConfigError, match=r"set model\.name: audio_text"):
        Contrastive(separator, registry.load("loss", "snr")())
