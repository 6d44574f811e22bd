from __future__ import annotations

import pytest
import torch

from usepcli.errors import ConfigError
from usepcli.models.basis import GatedBasis
from usepcli.models.tasnet import TasNet


# Equations and sizes of the paper give these; its follow-up tells 23.6 and 32.0 million, by what more is not said.
@pytest.mark.parametrize(("preset", "size"), [("paper", 23_094_000), ("causal", 31_094_000)])
def test_size_of_the_published_layers(preset, size):
    with torch.device("meta"):
        assert TasNet(**TasNet.PRESETS[preset]).n_params == size


def test_arithmetic_of_the_published_size():
    # 200 segments a second; a weight of the LSTMs, the head, the two encoders and the decoder (once for each source)
    # costs two operations.
    recurrent = 2 * 4 * 500 * (500 + 500) + 3 * 2 * 4 * 500 * (1000 + 500)
    with torch.device("meta"):
        got = TasNet().flops_per_second()
    assert got == 2 * 200 * (recurrent + 1000 * 1000 + (2 + 2) * 40 * 500)


def tiny(**options):
    torch.manual_seed(0)
    return TasNet(**{**TasNet.PRESETS["tiny"], **options}).eval()


@torch.no_grad()
def test_a_segment_is_heard_at_unit_length_and_keeps_its_level():
    basis, wave = GatedBasis(5, 8, 8), torch.randn(1, 24) * torch.tensor([1e-3] * 8 + [1.0] * 8 + [30.0] * 8)
    frames = wave.view(3, 8)
    unit = frames / frames.norm(dim=1, keepdim=True)
    rows, gates = basis.encoder.weight[:, 0], basis.gate.weight[:, 0]
    want = torch.relu(unit @ rows.T) * torch.sigmoid(unit @ gates.T) * frames.norm(dim=1, keepdim=True)
    torch.testing.assert_close(basis.analyse(wave)[0], want.T)


@torch.no_grad()
def test_the_level_of_a_segment_changes_no_mask():
    model = tiny(input_norm="none", consistency="none")
    mix = torch.randn(1, 400)
    gains = torch.rand(50).repeat_interleave(8) + 0.1
    plain, scaled = model.parts(mix), model.parts(mix * gains)
    torch.testing.assert_close(scaled.masks, plain.masks, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(scaled.waves, plain.waves * gains, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_what_the_second_layer_gives_is_added_from_the_fourth_on():
    model, weights = tiny(layers=5), torch.rand(2, 24, 30)
    x = model.norm(torch.nn.functional.normalize(weights, dim=1).mT * 24**0.5)
    second = model.layers[1](model.layers[0](x))
    fourth = model.layers[3](model.layers[2](second)) + second
    torch.testing.assert_close(model._masks(weights, lambda layer, x: layer(x))[1], model.layers[4](fourth))


@torch.no_grad()
def test_shares_of_the_mixture_add_up_to_what_the_basis_makes_of_it():
    model, mix = tiny(n_src=3, input_norm="none", consistency="none"), torch.randn(1, 403)
    whole = model.basis.synthesise(model.basis.analyse(mix)[:, None], 403)
    torch.testing.assert_close(model(mix).sum(1), whole[:, 0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("key", "value"), [("mask", "exp"), ("stride", 9), ("kernel", 0), ("dropout", -0.1), ("layers", 0)]
)
def test_wrong_settings(key, value):
    with pytest.raises(ConfigError, match=rf"model\.{key}"):
        tiny(**{key: value})
