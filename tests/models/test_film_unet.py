"""The U-Net over frames that words modulate: what a query costs, what it shares with unet_mask, settings that clash."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from usepcli.errors import ConfigError
from usepcli.models.film_unet import FilmUNet
from usepcli.models.unet_mask import UNetMask
from usepcli.weights import fitting

NAMES = ("dog", "rain", "violin", "bell", "train")
TRUNK = ("inlet", "encoder", "middle", "decoder")


def build(preset: str = "tiny", **options: Any) -> FilmUNet:
    torch.manual_seed(0)
    return FilmUNet(**{**FilmUNet.PRESETS[preset], "classes": NAMES, **options}).eval()


@pytest.mark.parametrize("late", [0, 1, 2])
@torch.no_grad()
def test_queries_do_not_hear_each_other_however_many_levels_hear_them(late: int) -> None:
    net, mix = build(late_levels=late), torch.randn(2, 2001)
    together = net.bound(NAMES)(mix)
    for k, name in enumerate(NAMES):
        torch.testing.assert_close(net.bound([name])(mix)[:, 0], together[:, k], atol=1e-5, rtol=1e-4)
    assert (together[:, 0] - together[:, 1]).abs().amax() > 1e-6


def test_five_queries_cost_less_than_three_times_one() -> None:
    net = build("small")
    one, five = (net.bound(names).flops_per_second() for names in (NAMES[:1], NAMES))
    assert one < five < 3 * one
    assert net.flops_per_second() == pytest.approx(one, rel=1e-6)


@torch.no_grad()
def test_it_begins_as_the_network_without_words_whose_parts_it_takes() -> None:
    options = {**UNetMask.PRESETS["tiny"], "features": "log_magnitude", "attention_norm": True}
    torch.manual_seed(1)
    theirs, net = UNetMask(**options).eval(), build()
    count = fitting.load_parts(net, theirs.state_dict(), TRUNK, "a.safetensors")
    assert count == len([key for key in theirs.state_dict() if key.split(".")[0] in TRUNK])
    for film in net.films:
        film.both.weight.zero_()  # no word is heard
    told, mix = [], torch.randn(2, 2000)
    net.norm.register_forward_pre_hook(lambda _, given: told.append(given[0]))
    spec = theirs.stft(mix)
    net.logits(spec, net.conditions([NAMES[:2]] * 2))
    core = theirs.core(spec)  # (B, L, C)
    torch.testing.assert_close(told[0][::2].mT, core, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(told[0][1::2].mT, core, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_one_word_and_many_of_them_are_heard_as_their_mean() -> None:
    net = build()
    tokens, mask, whole = net.conditions([NAMES[:1]])
    more = torch.cat([tokens, torch.full_like(tokens, 9.0)], -2)  # padding
    ends = torch.cat([mask, torch.zeros_like(mask)], -1)
    spec = net.stft(torch.randn(1, 900))
    torch.testing.assert_close(net.logits(spec, (more, ends, whole)), net.logits(spec, (tokens, mask, whole)))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"late_levels": 3}, r"model\.late_levels: found 3; expected 0 to 2"),
        ({"condition": 0}, r"model\.condition: found 0"),
        ({"channels": (12, 24)}, r"model\.channels: found \[12, 24\]; expected multiples of model\.groups = 8"),
        ({"kernel": 4}, r"model\.kernel: found 4; expected an odd number"),
        ({"consistency": "learned"}, r"model\.consistency: learned, for which no model by query has a layer"),
        ({"prompts": "p.safetensors"}, r"model\.prompts: found p.safetensors, and model\.conditioner labels"),
    ],
)
def test_settings_that_clash_name_their_key(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(**options)
