from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from usepcli.errors import ConfigError
from usepcli.models import tiger_parts
from usepcli.models.tiger import TIGER, band_widths
from usepcli.models.tiger_parts import Lone, MultiScale, Select, SliceAttention


# The paper's 0.82 million. The authors' code counts 821,932 with the selections of the coarsest resolution of both
# paths, three filters of one tap and three norms, through which nothing runs.
@pytest.mark.parametrize("preset", ["paper", "paper_small"])
def test_published_size(preset):
    with torch.device("meta"):
        assert TIGER(**TIGER.PRESETS[preset]).n_params == 821_932 - 2 * 3 * (256 + 2 * 256)
        assert 100_000 < TIGER(**TIGER.PRESETS["small"]).n_params < 1_000_000


def tiny(**options):
    torch.manual_seed(0)
    return TIGER(**{**TIGER.PRESETS["tiny"], **options}).eval()


def test_bands_of_the_published_transform():
    assert band_widths(321, 16000) == [1] * 40 + [4] * 10 + [10] * 8 + [20] * 8 + [1]


@pytest.mark.parametrize(
    ("bins", "rate"), [(2, 8000), (33, 8000), (129, 8000), (321, 8000), (513, 44100), (1025, 16000)]
)
def test_bands_hold_every_bin(bins, rate):
    widths = band_widths(bins, rate)
    assert sum(widths) == bins and min(widths) >= 1


@torch.no_grad()
def test_masks_add_up_to_one():
    model = tiny(n_src=4, input_norm="none", consistency="none")
    found = model.parts(torch.randn(2, 700))
    total = found.masks.sum(1)
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-5, rtol=0)
    assert (found.masks[:, 0] - found.masks[:, 1]).abs().max() > 1e-3


@torch.no_grad()
def test_slices_attend_with_all_that_they_hold():
    torch.manual_seed(0)
    layer, x = SliceAttention(8, 2, 3), torch.randn(2, 5, 6, 8)
    y = layer.enter(x)
    heads = []
    for h in range(2):
        q, k, v = (
            F.layer_norm(
                F.prelu(y[..., a + h * n : a + (h + 1) * n], norm.slope[h]), (n,), norm.weight[h], norm.bias[h]
            )
            for a, n, norm in ((0, 3, layer.query), (6, 3, layer.key), (12, 4, layer.value))
        )
        score = torch.softmax(torch.einsum("bitc,bjtc->bij", q, k) / (6 * 3) ** 0.5, -1)
        heads.append(torch.einsum("bij,bjtc->bitc", score, v))
    torch.testing.assert_close(layer(x), x + layer.leave(torch.cat(heads, -1)), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_selection_stretches_the_other():
    torch.manual_seed(0)
    select, fine, other = Select(3, 5), torch.randn(2, 3, 8), torch.randn(2, 3, 4)
    gate, value = torch.sigmoid(select.gate(other)), select.value(other)
    want = select.own(fine) * gate.repeat_interleave(2, -1) + value.repeat_interleave(2, -1)
    torch.testing.assert_close(select(fine, other), want)


@pytest.mark.parametrize("taps", [1, 5])
@torch.no_grad()
def test_a_filter_per_channel(taps):
    lone, x = Lone(3, taps), torch.randn(2, 3, 9)
    conv = nn.Conv1d(3, 3, taps, padding=taps // 2, groups=3, bias=False)
    conv.weight.copy_(lone.weight[:, None])
    torch.testing.assert_close(lone(x), conv(x))


def test_rows_are_filtered_by_themselves_and_in_slabs(monkeypatch):
    torch.manual_seed(0)
    layer, x = MultiScale(4, 6, 4, 0.0), torch.randn(7, 11, 4)
    want = layer(x)  # with gradients: all rows at once
    for steps in (1, 30, 1000):
        monkeypatch.setattr(tiger_parts, "_SLAB_STEPS", steps)
        with torch.no_grad():
            torch.testing.assert_close(layer(x), want, atol=1e-5, rtol=0)


@torch.no_grad()
def test_one_block_serves_all_runs():
    once, twice = tiny(blocks=1), tiny(blocks=3)
    twice.load_state_dict(once.state_dict())
    mix = torch.randn(1, 600)
    assert not torch.allclose(once(mix), twice(mix), atol=1e-4)


@pytest.mark.parametrize(
    ("key", "value"),
    [("dim", 15), ("n_src", 3), ("heads", 0), ("heads", 3), ("depth", 2), ("depth", 40), ("key", 0), ("blocks", 0),
     ("dropout", 1.0), ("hop", 40), ("window", "box")],
)  # fmt: skip
def test_wrong_settings(key, value):
    with pytest.raises(ConfigError, match=rf"model\.({key}|dim)"):
        tiny(**{key: value})


def test_it_is_not_causal():
    with pytest.raises(ConfigError, match=r"model\.causal.*convtasnet"):
        tiny(causal=True, input_norm="none", consistency="none")
