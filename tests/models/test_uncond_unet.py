"""The conditional U-Net without words: sizes, masks, and that its stages are those of the network that is asked."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from usepcli.errors import ConfigError
from usepcli.models.cond_unet import CondUNet
from usepcli.models.uncond_unet import UncondUNet


def build(preset: str = "tiny", **options: Any) -> UncondUNet:
    torch.manual_seed(0)
    return UncondUNet(**{**UncondUNet.PRESETS[preset], **options}).eval()


@pytest.mark.parametrize(("res", "sa", "millions"), [(0, 0, 30.275), (0, 2, 42.892), (1, 0, 74.275), (1, 1, 80.583)])
def test_the_published_network_without_attention_to_words(res: int, sa: int, millions: float) -> None:
    with torch.device("meta"):
        net = build("paper", res_convs=res, sa_blocks=sa, n_src=3)
    assert round((net.n_params - 3 * (32 + 1)) / 1e6, 3) == millions


@torch.no_grad()
def test_its_stages_are_those_of_the_network_that_is_asked() -> None:
    asked = CondUNet(**{**CondUNet.PRESETS["tiny"], "classes": ("a", "b"), "ca_blocks": 0}).eval()
    net, mix = build(n_src=1), torch.randn(2, 1700)
    states = net.load_state_dict(asked.state_dict(), strict=False)
    assert set(states.missing_keys) == {"heads.weight", "heads.bias"}
    net.heads.weight.copy_(asked.scale[None, :, None, None] / 2)  # each feature weighs sigmoid(0) = 1/2
    net.heads.bias.copy_(asked.bias)
    assert asked.weigh is not None
    asked.weigh.weight.zero_()
    asked.weigh.bias.zero_()
    torch.testing.assert_close(net(mix), asked.bound(["a"])(mix), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"n_fft": 126, "hop": 32}, {"log_freq": 40}, {"levels": 5}, {"n_src": 4}])
@torch.no_grad()
def test_masks_cover_every_bin_and_frame(options: dict[str, Any]) -> None:
    net = build(**options)
    for length in (1, 255, 256, 257, 1000):
        found = net.parts(torch.randn(2, length))
        assert found.masks is not None and found.spectrum is not None
        assert found.masks.shape == (2, net.n_src, net.stft.bins, net.stft.frames(length))
        assert found.masks.min() > 0 and found.masks.max() < 1


@torch.no_grad()
def test_softmax_masks_share_the_mixture_out() -> None:
    net, mix = build(mask="softmax", n_src=3), torch.randn(2, 900)
    torch.testing.assert_close(net(mix).sum(1), mix, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mask": "relu"}, r"model\.mask"), ({"head_levels": 4}, r"model\.head_levels: found 4"),
        ({"heads": 3}, r"model\.heads: found 3"), ({"levels": 1}, r"model\.levels"), ({"hop": 100}, r"model\.hop"),
        ({"causal": True, "input_norm": "none"}, r"model\.causal"),
    ],
)  # fmt: skip
def test_settings_that_clash_name_their_key(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(**options)
