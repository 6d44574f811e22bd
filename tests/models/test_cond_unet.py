"""The conditional U-Net: published sizes, what a query costs, any geometry, and what is said of settings that clash."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from usepcli.dsp import warp
from usepcli.errors import BadInput, ConfigError
from usepcli.models.cond_unet import CondUNet

NAMES = ("dog", "rain", "violin", "bell", "train")


def build(preset: str = "tiny", **options: Any) -> CondUNet:
    torch.manual_seed(0)
    return CondUNet(**{**CondUNet.PRESETS[preset], "classes": NAMES, **options}).eval()


@pytest.mark.parametrize(
    ("res", "sa", "ca", "millions"),
    [
        (0, 0, 0, 30.275), (0, 0, 1, 37.370), (0, 0, 2, 44.465), (0, 1, 0, 36.584), (0, 2, 0, 42.892),
        (1, 0, 0, 74.275), (2, 0, 0, 118.275), (0, 1, 1, 43.678), (0, 2, 2, 57.082), (1, 1, 1, 87.678),
    ],
)  # fmt: skip
def test_the_counts_of_table_5_without_mask_head_and_words(res: int, sa: int, ca: int, millions: float) -> None:
    with torch.device("meta"):
        net = build("paper", res_convs=res, sa_blocks=sa, ca_blocks=ca)
    assert net.weigh is not None
    head = sum(p.numel() for p in net.weigh.parameters()) + net.scale.numel() + net.bias.numel()
    words = sum(p.numel() for p in net.words.parameters())
    assert head == 512 * 32 + 32 + 33 and words == 5 * (768 + 512)
    assert round((net.n_params - head - words) / 1e6, 3) == millions


@pytest.mark.parametrize("late", [0, 1, 2, 3])
@torch.no_grad()
def test_queries_do_not_hear_each_other_however_many_are_asked(late: int) -> None:
    net, mix = build(late_levels=late), torch.randn(2, 2000)
    together = net.bound(NAMES)(mix)  # more than go through at once
    for k, name in enumerate(NAMES):
        torch.testing.assert_close(net.bound([name])(mix)[:, 0], together[:, k], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(together[:, 0], together[:, 1], atol=1e-3)
    with torch.enable_grad():
        torch.testing.assert_close(net.bound(NAMES)(mix).detach(), together, atol=1e-5, rtol=1e-4)


def test_words_that_come_late_share_all_before() -> None:
    early, late = build("small", late_levels=0), build("small")
    for net, most in ((early, 5.0), (late, 3.0)):
        one, five = (net.bound(names).flops_per_second() for names in (NAMES[:1], NAMES))
        assert one < five < most * one
    assert late.bound(NAMES).flops_per_second() < 2 * late.bound(NAMES[:1]).flops_per_second()
    assert early.flops_per_second() == pytest.approx(early.bound(NAMES[:1]).flops_per_second(), rel=1e-6)


@pytest.mark.parametrize(
    "options",
    [{}, {"n_fft": 126, "hop": 32}, {"log_freq": 40}, {"log_freq": 33}, {"n_fft": 132, "hop": 33}, {"levels": 5}],
)
@torch.no_grad()
def test_masks_cover_every_bin_and_frame(options: dict[str, Any]) -> None:
    net = build(**options)
    for length in (1, 31, 255, 256, 257, 1000):
        mix = torch.randn(2, length)
        found = net.parts(mix, net.conditions([NAMES[:2]]))
        assert found.waves.shape == (2, 2, length) and found.masks is not None and found.spectrum is not None
        assert found.masks.shape == (2, 2, *found.spectrum.shape[1:])
        assert found.spectrum.shape[1:] == (net.stft.bins, net.stft.frames(length))
        assert found.masks.min() > 0 and found.masks.max() < 1
        level = net.bound(NAMES).input_level(mix)[1]
        waves = net.stft.inverse(found.masks * found.spectrum[:, None], length) * level[:, None]
        torch.testing.assert_close(waves, found.waves, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_one_bin_and_one_frame_too_many_take_the_mask_of_their_neighbours() -> None:
    """As published: 513 bins, of which the network sees 512; 65 536 samples give 257 frames, of which it sees 256."""
    net = build()
    found = net.parts(torch.randn(1, 16 * 32), net.conditions([NAMES[:1]])).masks
    assert found is not None and found.shape[2:] == (65, 17)
    # The same logits; a vectorised sigmoid rounds the rest of a row in its own way.
    torch.testing.assert_close(found[..., -1, :], found[..., -2, :], atol=1e-6, rtol=0)
    torch.testing.assert_close(found[..., -1], found[..., -2], atol=1e-6, rtol=0)
    assert not torch.allclose(found[..., -2, :], found[..., -3, :], atol=1e-4)


def test_a_mask_that_is_left_open_passes_the_mixture() -> None:
    net, mix = build(), torch.randn(1, 700)
    with torch.no_grad():
        net.scale.zero_()
        net.bias.fill_(40.0)
        torch.testing.assert_close(net.bound(["rain"])(mix)[:, 0], mix, atol=1e-5, rtol=0)
        net.bias.fill_(-math.log(3))  # sigmoid 1 / 4
        torch.testing.assert_close(net.bound(["rain"])(mix)[:, 0], mix / 4, atol=1e-5, rtol=0)


@torch.no_grad()
def test_padding_of_words_is_heard_only_where_it_is_asked_for() -> None:
    net, level = build(), torch.rand(1, 16, 16)
    tokens, pooled = torch.randn(1, 1, 4, 64), torch.randn(1, 1, 64)
    mask, other = torch.tensor([[[True, True, False, False]]]), tokens.clone()
    other[:, :, 2:] = 9.0
    assert torch.equal(net.logits(level, tokens, mask, pooled), net.logits(level, other, mask, pooled))
    net.mask_padding = False
    assert not torch.allclose(net.logits(level, tokens, mask, pooled), net.logits(level, other, mask, pooled))


@pytest.mark.parametrize(("condition_head", "ca"), [("none", 1), ("inner", 0)])
def test_either_way_of_the_words_moves_the_answer(condition_head: str, ca: int) -> None:
    net = build(condition_head=condition_head, ca_blocks=ca)
    one, other = net(torch.randn(1, 800), net.conditions([NAMES[:2]]))[0]
    (one - other).square().sum().backward()
    assert not torch.allclose(one, other)
    moved = net.words.tokens if ca else net.words.pooled
    assert moved.weight.grad is not None and moved.weight.grad[:2].abs().sum() > 0
    assert moved.weight.grad[2:].abs().sum() == 0  # of what nobody asked


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"condition_head": "none", "ca_blocks": 0}, r"model\.condition_head: none.*reach nothing"),
        ({"condition_head": "none", "head_levels": 3}, r"model\.condition_head"),
        ({"head_levels": 4}, r"model\.head_levels: found 4; expected 0 to model\.levels = 3"),
        ({"late_levels": -1}, r"model\.late_levels"), ({"ngf": 0}, r"model\.ngf: found 0; expected 1 or more"),
        ({"levels": 1}, r"model\.levels"),
        ({"levels": 2**63}, r"model\.levels: found \d+; expected at most 12"),
        ({"heads": 3}, r"model\.heads: found 3"),
        ({"classes": ()}, r"model\.classes: empty"), ({"conditioner": "nothing"}, r"unknown conditioner 'nothing'"),
        ({"condition_head": "outer"}, r"model\.condition_head"), ({"consistency": "learned"}, r"model\.consistency"),
        ({"hop": 100}, r"model\.hop"),
    ],
)  # fmt: skip
def test_settings_that_clash_name_their_key(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(**options)


def test_an_unknown_word_is_one_line() -> None:
    with pytest.raises(BadInput, match=r"query 'dogs': none of the 5 classes.*'dog'"):
        build().bound(["dogs"])


def test_a_logarithmic_axis_is_read_and_read_back() -> None:
    into, back = warp.to_log(513, 256), warp.from_log(513, 256)
    for matrix in (into, back):
        torch.testing.assert_close(matrix.sum(1), torch.ones(len(matrix)), atol=1e-5, rtol=0)
    slope = torch.linspace(0, 1, 513)
    torch.testing.assert_close((into @ slope)[[0, -1]], torch.tensor([0.0, 1.0]), atol=1e-5, rtol=0)
    # The middle of the warped axis, (sqrt(21) - 11) / 10 of [-1, 1], lies low.
    middle = (into[127] + into[128]) @ slope / 2
    assert float(middle) == pytest.approx(((math.sqrt(21) - 11) / 10 + 1) / 2, abs=1e-3)
    torch.testing.assert_close(back @ (into @ slope), slope, atol=2e-4, rtol=0)


def test_words_beside_the_innermost_channels_reach_the_masks_and_cost_their_own_width() -> None:
    bare = {"sa_blocks": 0, "ca_blocks": 0, "res_convs": 0}
    net, without = (build(bottleneck_concat=joined, **bare) for joined in (True, False))
    deep, width = 4 * 4, net.words.pooled_dim  # channels of the innermost of three levels, numbers of the words
    assert net.decoder[0].conv.in_channels == deep + width
    assert net.n_params - without.n_params == 3 * 3 * width * net.decoder[0].conv.out_channels
    alone = build(bottleneck_concat=True, condition_head="none", **bare)
    mix = torch.randn(1, 800)
    one, other = alone(mix, alone.conditions([NAMES[:2]]))[0]
    assert not torch.allclose(one, other)
    (one - other).square().sum().backward()
    assert alone.words.pooled.weight.grad is not None and alone.words.pooled.weight.grad[:2].abs().sum() > 0
    for late in (0, 1, 3):
        net = build(bottleneck_concat=True, late_levels=late)
        with torch.no_grad():
            together = net.bound(NAMES)(mix)
            for k, name in enumerate(NAMES):
                torch.testing.assert_close(net.bound([name])(mix)[:, 0], together[:, k], atol=1e-5, rtol=1e-4)
    five, single = (alone.bound(names).flops_per_second() for names in (NAMES, NAMES[:1]))
    assert five < 5 * single  # the encoder runs once
