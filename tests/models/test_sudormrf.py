from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from usepcli.errors import ConfigError
from usepcli.models.sudormrf import FilterHead, SuDoRMRF
from usepcli.models.sudormrf_parts import Block, Talk

ORIGINAL = {"variant": "original", "activation": "relu", "decoder": "each", "mask": "softmax"}


@pytest.mark.parametrize(
    ("preset", "size"),
    # As the authors' code counts; theirs of the original holds a norm of 2 x 512 besides that nothing runs through.
    [("paper", 5_016_353), ("paper_36", 23_091_785), ("paper_groups", 507_177), ("paper_original", 2_596_486 - 1024)],
)
def test_published_size(preset, size):
    with torch.device("meta"):
        assert SuDoRMRF(**SuDoRMRF.PRESETS[preset]).n_params == size


def test_other_sizes():
    with torch.device("meta"):
        assert SuDoRMRF(dim=128, depth=4).n_params == 2_654_881
        # A joint decoder reads and gives two outputs, so it is four times the shared one.
        assert SuDoRMRF(dim=128, depth=4, decoder="shared").n_params == 2_654_881 - 3 * 512 * 21
        assert SuDoRMRF(groups=16).n_params == 565_073
        assert 100_000 < SuDoRMRF(**SuDoRMRF.PRESETS["small"]).n_params < 1_000_000


def test_arithmetic_of_the_published_size():
    # 8 kHz, hop 10: 800 frames a second; 16 blocks of two products of 256 x 512, masks of 256 x 1024, which is most.
    products = 2 * 800 * (16 * 2 * 256 * 512 + 256 * 1024)
    with torch.device("meta"):
        got = SuDoRMRF().flops_per_second()
    assert products < got < 1.2 * products


def tiny(**options):
    torch.manual_seed(0)
    return SuDoRMRF(**{**SuDoRMRF.PRESETS["tiny"], **options}).eval()


@pytest.mark.parametrize("options", [{}, {"depth": 1}, {"depth": 5, "groups": 4}, ORIGINAL])
@pytest.mark.parametrize("length", [1, 31, 32, 33, 700])
@torch.no_grad()
def test_frames_are_whole_at_the_coarsest_resolution(options, length):
    model = tiny(**options)
    frames = model.basis.analyse(torch.randn(2, length)).shape[-1]
    unit = model.basis.unit
    assert frames % unit == 0 and (frames - unit) * model.hop < length <= frames * model.hop
    coarsest = 2 ** (options.get("depth", 3) - 1)
    assert unit == (coarsest if options == ORIGINAL else 2 * coarsest)


@torch.no_grad()
def test_frames_lie_around_every_hop_th_sample():
    model = tiny()
    model.basis.encoder.weight.zero_()
    model.basis.encoder.weight[:, 0, model.basis.kernel // 2] = 1
    mix = torch.randn(1, 64)
    torch.testing.assert_close(model.basis.analyse(mix)[0, 0], mix[0, :: model.hop])


@torch.no_grad()
def test_masks_of_the_original_are_filters_along_the_basis():
    torch.manual_seed(0)
    head, x = FilterHead(5, 12, 3), torch.randn(2, 5, 7)
    wide = head.widen(x)
    want = F.conv2d(wide[:, None], head.weight[:, None, :, None], head.bias, padding=(6, 0))
    torch.testing.assert_close(head(x), want, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_resolutions_are_repeated_and_added():
    torch.manual_seed(0)
    block, x = Block(4, 6, 3, original=False, each=False), torch.randn(2, 4, 16)
    fine = block.filters[0](block.widen(x))
    half = block.filters[1](fine)
    quarter = block.filters[2](half)
    assert half.shape[-1] == 8 and quarter.shape[-1] == 4
    total = fine + half.repeat_interleave(2, -1) + quarter.repeat_interleave(4, -1)
    torch.testing.assert_close(block(x), x + block.narrow(block.norm(total)))


@torch.no_grad()
def test_groups_hear_of_each_other_in_the_mean_alone():
    torch.manual_seed(0)
    talk, x = Talk(3, 5, 4), torch.randn(2 * 4, 3, 10)
    own = talk.enter(x).unflatten(0, (2, 4))
    mean = talk.share(own.mean(1))[:, None].expand_as(own)
    both = torch.cat([own, mean], 2).flatten(0, 1)
    want = x + talk.norm(talk.bend(talk.leave(both)))
    torch.testing.assert_close(talk(x), want, atol=1e-5, rtol=1e-5)
    # Groups in another order come out in that order.
    turned = x.unflatten(0, (2, 4))[:, [2, 0, 3, 1]].flatten(0, 1)
    expect = talk(x).unflatten(0, (2, 4))[:, [2, 0, 3, 1]].flatten(0, 1)
    torch.testing.assert_close(talk(turned), expect, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_decoders_hear_one_output_or_all():
    weights = torch.randn(1, 2, 24, 16)
    other = weights.clone()
    other[:, 1] += 1
    for decoder, reaches in (("joint", True), ("each", False), ("shared", False)):
        basis = tiny(decoder=decoder).basis
        change = (basis.synthesise(other, 60) - basis.synthesise(weights, 60)).abs().amax((0, 2))
        assert change[1] > 1e-3 and bool(change[0] > 1e-3) == reaches
    same = tiny(decoder="shared").basis.synthesise(weights[:, [0, 0]], 60)
    assert torch.equal(same[:, 0], same[:, 1])


@pytest.mark.parametrize(
    ("key", "value"),
    [("mask", "exp"), ("variant", "v3"), ("groups", 3), ("groups", 0), ("depth", 0), ("depth", 40), ("stride", 5),
     ("stride", 0), ("decoder", "two"), ("activation", "elu")],
)  # fmt: skip
def test_wrong_settings(key, value):
    with pytest.raises(ConfigError, match=rf"model\.{key}"):
        tiny(**{key: value})


def test_the_original_needs_an_even_basis_and_none_is_causal():
    with pytest.raises(ConfigError, match=r"model\.filters.*even"):
        tiny(**ORIGINAL, filters=25)
    with pytest.raises(ConfigError, match=r"model\.causal.*convtasnet"):
        tiny(causal=True, input_norm="none", consistency="none")
