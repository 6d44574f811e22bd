from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from usepcli.errors import ConfigError
from usepcli.models.convtasnet import ConvTasNet


@pytest.mark.parametrize("preset", ["paper", "causal"])
def test_published_size(preset):
    with torch.device("meta"):
        assert ConvTasNet(**ConvTasNet.PRESETS[preset]).n_params == 5_050_545
        assert 300_000 < ConvTasNet(**ConvTasNet.PRESETS["small"]).n_params < 1_000_000


def test_latency_and_view_of_the_published_model():
    with torch.device("meta"):
        model = ConvTasNet()
    assert model.latency_samples == 16 and model.hop == 8
    assert model.receptive_field_samples == 1531 * 8 + 16


def test_receptive_field_is_what_gradients_reach():
    torch.manual_seed(0)
    model = ConvTasNet(**{**ConvTasNet.PRESETS["tiny"], "input_norm": "none", "consistency": "none"})
    model.inlet[0] = nn.Identity()
    for block in model.blocks:
        block.body[2] = block.body[5] = nn.Identity()
    mix = torch.randn(1, 1200, requires_grad=True)
    model(mix)[0, 0, 600].backward()
    reached = mix.grad[0].nonzero()
    span = int(reached[-1] - reached[0]) + 1
    assert model.receptive_field_samples - model.hop <= span <= model.receptive_field_samples


@pytest.mark.parametrize("mask", ["sigmoid", "relu"])
def test_zero_last_starts_with_equal_shares_and_learns(mask):
    options = {**ConvTasNet.PRESETS["tiny"], "mask": mask, "n_src": 3}
    model, mix = ConvTasNet(**options, zero_last=True), torch.randn(2, 500)
    assert model.n_params == ConvTasNet(**options).n_params
    est = model(mix)
    torch.testing.assert_close(est, mix[:, None].expand_as(est) / 3)
    (est[:, 0] - mix).square().sum().backward()
    assert model.head[1].weight.grad.any()


def test_causal_refuses_the_global_norm():
    with pytest.raises(ConfigError, match=r"model\.causal.*cumln"):
        ConvTasNet(**{**ConvTasNet.PRESETS["tiny"], "input_norm": "none", "causal": True})


@pytest.mark.parametrize(("key", "value"), [("norm", "bn"), ("mask", "exp"), ("block_kernel", 4), ("kernel", 15)])
def test_wrong_settings(key, value):
    with pytest.raises(ConfigError, match=rf"model\.{key}"):
        ConvTasNet(**{**ConvTasNet.PRESETS["tiny"], key: value})


@torch.no_grad()
def test_against_torchaudio_where_the_networks_coincide():
    models = pytest.importorskip("torchaudio.models")
    torch.manual_seed(0)
    other = models.ConvTasNet(2, 16, 32, 3, 24, 40, 4, 2, "sigmoid").eval()
    own = ConvTasNet(
        filters=32, kernel=16, bottleneck=24, hidden=40, skip=24, blocks=4, repeats=2, mask="sigmoid"
    ).eval()
    # Its encoder is linear: with nothing negative in weights and input, ours is linear too.
    other.encoder.weight.abs_()
    own.basis.encoder.weight.copy_(other.encoder.weight)
    own.basis.decoder.weight.copy_(other.decoder.weight)
    gen = other.mask_generator
    own.inlet[0].load_state_dict(gen.input_norm.state_dict())
    own.inlet[1].load_state_dict(gen.input_conv.state_dict())
    own.head[0].load_state_dict(gen.output_prelu.state_dict())
    own.head[1].load_state_dict(gen.output_conv.state_dict())
    for ours, theirs in zip(own.blocks, gen.conv_layers, strict=True):
        for index in (0, 1, 2, 4, 5):
            ours.body[index].load_state_dict(theirs.conv_layers[index].state_dict())
        ours.body[3].weight.copy_(theirs.conv_layers[3].weight[:, 0])
        ours.body[3].bias.copy_(theirs.conv_layers[3].bias)
        # It has no residual convolution in the last block, where nothing reads the residual.
        for part, conv in ((slice(0, 24), theirs.res_out), (slice(24, 48), theirs.skip_out)):
            if conv is not None:
                ours.out.weight[part] = conv.weight
                ours.out.bias[part] = conv.bias
    mix = torch.rand(2, 800)
    # It pads one hop of zeros on both sides.
    got = own(F.pad(mix, (8, 8)))[..., 8:-8]
    torch.testing.assert_close(got, other(mix[:, None]), atol=1e-5, rtol=1e-4)
