"""The Conformer that words modulate: what a query costs, what it shares with conformer_mask, settings that clash."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from usepcli.errors import ConfigError
from usepcli.models.conformer_mask import ConformerMask
from usepcli.models.film_conformer import FilmConformer
from usepcli.weights import fitting

NAMES = ("dog", "rain", "violin", "bell", "train")
TRUNK = ("inlet", "keys", "layers")


def build(preset: str = "tiny", **options: Any) -> FilmConformer:
    torch.manual_seed(0)
    return FilmConformer(**{**FilmConformer.PRESETS[preset], "classes": NAMES, **options}).eval()


@pytest.mark.parametrize("late", [1, 2])
@torch.no_grad()
def test_queries_do_not_hear_each_other_however_many_layers_hear_them(late: int) -> None:
    net, mix = build(late_layers=late), torch.randn(2, 2001)
    together = net.bound(NAMES)(mix)
    for k, name in enumerate(NAMES):
        torch.testing.assert_close(net.bound([name])(mix)[:, 0], together[:, k], atol=1e-5, rtol=1e-4)
    assert (together[:, 0] - together[:, 1]).abs().amax() > 1e-6


def test_layers_that_all_queries_share_are_paid_once() -> None:
    costs = {late: build("small", late_layers=late).flops_per_second() for late in (1, 3, 6)}
    assert costs[1] < costs[3] < costs[6]  # of one query more
    one, five = (build("small", late_layers=1).bound(names).flops_per_second() for names in (NAMES[:1], NAMES))
    assert one < five < 3 * one


@torch.no_grad()
def test_it_begins_as_the_network_without_words_whose_parts_it_takes() -> None:
    torch.manual_seed(1)
    theirs, net = ConformerMask(**ConformerMask.PRESETS["tiny"]).eval(), build()
    count = fitting.load_parts(net, theirs.state_dict(), TRUNK, "a.safetensors")
    assert count == len([key for key in theirs.state_dict() if key.split(".")[0] in TRUNK])
    for film in net.films:
        film.both.weight.zero_()  # no word is heard
    told, mix = [], torch.randn(2, 2000)
    net.head.register_forward_pre_hook(lambda _, given: told.append(given[0]))
    spec = theirs.stft(mix)
    net.logits(spec, net.conditions([NAMES[:2]] * 2))
    core = theirs.core(spec)  # (B, L, C)
    for k in range(2):
        torch.testing.assert_close(told[0][k::2], core, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"late_layers": 0}, r"model\.late_layers: found 0; expected 1 to 2"),
        ({"late_layers": 3}, r"model\.late_layers: found 3; expected 1 to 2"),
        ({"condition": 0}, r"model\.condition: found 0"),
        ({"dim": 20}, r"model\.dim: found 20; expected a multiple of 8"),
        ({"heads": 0}, r"model\.dim: found 32; expected a multiple of 8 and of model\.heads = 0"),
        ({"kernel": 4}, r"model\.kernel: found 4; expected an odd number"),
        ({"consistency": "learned"}, r"model\.consistency: learned, for which no model by query has a layer"),
    ],
)
def test_settings_that_clash_name_their_key(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(**options)
