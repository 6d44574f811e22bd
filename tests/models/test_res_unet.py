"""AudioSep's network: how many numbers it has, what a query changes, its masks, and settings that clash."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from usepcli.errors import ConfigError
from usepcli.models import cost
from usepcli.models.res_unet import ResUNet

NAMES = ("dog", "rain", "violin")


def build(**options: Any) -> ResUNet:
    torch.manual_seed(0)
    return ResUNet(**{**ResUNet.PRESETS["tiny"], "classes": NAMES, **options}).eval()


def counted(channels: tuple[int, ...], bins: int, words: int, time_levels: int) -> int:
    """Return the parameters of the network by its sizes."""

    def step(width: int) -> int:  # norm and offset
        return 2 * width + (words + 1) * width

    def block(inputs: int, outputs: int) -> int:
        shortcut = inputs * outputs + outputs if inputs != outputs else 0
        return step(inputs) + 9 * inputs * outputs + step(outputs) + 9 * outputs**2 + shortcut

    first, deep = channels[0], channels[-1]
    total = 2 * bins + 2 * first + 3 * first + 3  # of every bin, into it and out of it
    total += sum(block(*both) for both in pairwise((first, *channels))) + block(deep, deep)
    for k, (width, below) in enumerate(zip(channels, (*channels[1:], deep), strict=True)):
        total += step(below) + below * width * (4 if k < time_levels else 2) + block(2 * width, width)
    return total


def test_parameters_are_those_of_audiosep() -> None:
    """The maker's class has 26 447 941 that learn, of which 824 000 are in parts that it never uses."""
    channels = (32, 64, 128, 256, 384, 384)
    net = ResUNet(**ResUNet.PRESETS["paper"], classes=NAMES)
    own = sum(p.numel() for name, p in net.named_parameters() if not name.startswith("conditioner."))
    unused = sum(2 * width + 513 * width for width in (64, 128, 256, 384, 384, 384))
    assert own == counted(channels, 1025, 512, 5) == 26_447_941 - unused == 25_623_941


@torch.no_grad()
def test_queries_do_not_hear_each_other_and_differ() -> None:
    net, mix = build(), torch.randn(2, 2001)
    together = net.bound(NAMES)(mix)
    for k, name in enumerate(NAMES):
        torch.testing.assert_close(net.bound([name])(mix)[:, 0], together[:, k], atol=1e-5, rtol=1e-4)
    assert (together[:, 0] - together[:, 1]).abs().amax() > 1e-4


@torch.no_grad()
def test_the_whole_of_a_query_is_heard_alone() -> None:
    net, mix = build(), torch.randn(1, 900)
    tokens, mask, whole = net.conditions([NAMES])
    torch.testing.assert_close(net(mix, (tokens + 9, ~mask, whole)), net(mix, (tokens, mask, whole)), rtol=0, atol=0)


@torch.no_grad()
def test_masks_are_phases_times_gains_and_the_highest_bin_is_silent() -> None:
    """The three maps of a bin: u = 0 is a gain of one half, (v, w) a turn by their angle, (0, 0) nothing at all."""
    net, mix = build(), torch.randn(1, 800)
    net.head.weight.zero_()
    for maps, wanted in (((0.0, 2.0, 0.0), 0.5), ((0.0, 0.0, -3.0), -0.5j), ((0.0, 0.0, 0.0), 0.0)):
        net.head.bias.copy_(torch.tensor(maps))
        masks = net.estimate_parts(mix, *net.conditions([NAMES[:1]])).masks
        assert masks is not None
        torch.testing.assert_close(masks[:, :, :-1], torch.full_like(masks[:, :, :-1], wanted))
        assert not masks[:, :, -1].abs().any()
    net.head.bias.copy_(torch.tensor((30.0, 2.0, 0.0)))  # all of it but the highest bin
    spec = net.stft(mix)
    spec[:, -1] = 0
    est = net.bound(NAMES[:1])(mix)[:, 0]
    torch.testing.assert_close(est, net.stft.inverse(spec, 800), atol=1e-5, rtol=0)


@pytest.mark.parametrize("time_levels", [0, 2, 3])
def test_arithmetic_is_counted_by_the_frame(time_levels: int) -> None:
    """A second has 500 frames; 1001 and 501 are filled up to multiples of 2^time_levels, and words count once."""
    net, step = build(time_levels=time_levels), 2**time_levels
    bound = net.bound(NAMES[:1])
    more = 2 * cost.flops_per_second(bound, 2) - cost.flops_per_second(bound, 1)
    frames = step * (-(-1001 // step) - -(-501 // step))
    assert net.flops_per_second() == pytest.approx(more / frames * 500)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"channels": ()}, r"model\.channels: found \[\]"),
        ({"channels": (4, 0)}, r"model\.channels: found \[4, 0\]; expected one number above 0"),
        ({"n_fft": 72, "hop": 16}, r"model\.n_fft: found 72; expected a multiple of 16, which 3 levels halve"),
        ({"time_levels": 4}, r"model\.time_levels: found 4; expected 0 to 3"),
        ({"consistency": "learned"}, r"model\.consistency: learned, for which no model by query has a layer"),
    ],
)
def test_settings_that_clash_name_their_key(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(**options)
