from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from usepcli.errors import ConfigError
from usepcli.models.dcunet import DCUNet
from usepcli.models.dcunet_parts import ComplexConv, ComplexDeconv, ComplexRnn, WindowedFrames, bounded


def tiny(**options: object) -> DCUNet:
    torch.manual_seed(0)
    return DCUNet(**{**DCUNet.PRESETS["tiny"], **options}).eval()


def as_complex(x: Tensor) -> Tensor:
    return torch.complex(*x.chunk(2, 1))


def test_published_sizes():
    """Those of asteroid's classes."""
    with torch.device("meta"):
        counts = {name: DCUNet(**DCUNet.PRESETS[name]).n_params for name in ("dcunet_10", "dcunet_16", "dccrn")}
    assert counts == {"dcunet_10": 1_421_890, "dcunet_16": 2_375_490, "dccrn": 3_669_336}


@torch.no_grad()
def test_convolutions_are_complex_ones():
    torch.manual_seed(0)
    x, conv = torch.randn(2, 6, 9, 7), ComplexConv(3, 4, (5, 3), (2, 1))
    kernel = torch.complex(conv.real, conv.imag)
    padding = {"stride": (2, 1), "padding": (2, 1)}
    want = F.conv2d(as_complex(x), kernel, **padding)
    torch.testing.assert_close(as_complex(conv(x)), want, atol=1e-5, rtol=1e-5)
    back = ComplexDeconv(3, 4, (5, 3), (2, 1), last=True)
    back.bias.normal_()
    kernel = torch.complex(back.real, back.imag)
    want = F.conv_transpose2d(
        as_complex(x), kernel, torch.complex(*back.bias.chunk(2)), **padding, output_padding=(1, 0)
    )
    torch.testing.assert_close(as_complex(back(x, (18, 7))), want, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_recurrence_of_a_real_layer_is_that_of_both_parts():
    """Where the imaginary layers are 0, real and imaginary parts go through the real ones by themselves."""
    torch.manual_seed(0)
    layer, x = ComplexRnn(6, 4, 1).eval(), torch.randn(2, 4, 3, 5)
    for value in (*layer.imag.parameters(), *layer.out_imag.parameters()):
        value.zero_()
    got = layer(x).unflatten(1, (2, 2))
    for part in range(2):
        rows = x.unflatten(1, (2, 2))[:, part].permute(0, 3, 1, 2).flatten(2)  # (B, L, C F)
        want = layer.out_real(layer.real[0](rows)).unflatten(2, (2, 3)).permute(0, 2, 3, 1)
        torch.testing.assert_close(got[:, part], want, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_bounds():
    torch.manual_seed(0)
    scores = 3 * torch.randn(2, 4, 5, 6)
    found, plain = bounded(scores, "tanh"), as_complex(scores)
    torch.testing.assert_close(found.abs(), plain.abs().tanh(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found.angle(), plain.angle(), atol=1e-5, rtol=1e-5)
    assert torch.equal(bounded(scores, "none"), plain)
    torch.testing.assert_close(bounded(scores, "sigmoid").imag, plain.imag.sigmoid())
    assert bounded(torch.zeros(1, 2, 1, 1), "tanh").abs().max() == 0


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 15, 64, 65, 200, 333])
def test_transform_gives_back_what_it_was_given(length: int):
    torch.manual_seed(0)
    wave = torch.randn(2, length)
    both, none = (WindowedFrames(64, 48, 12, padding) for padding in ("both", "none"))
    spec = both.analyse(wave)
    torch.testing.assert_close(both.synthesise(spec[:, None], length)[:, 0], wave, atol=1e-5, rtol=0)
    # Whole frames alone: exact where four of them lie.
    spec = none.analyse(wave)
    assert spec.shape == (2, 33, 1 + max(0, length - 48) // 12)
    found = none.synthesise(spec[:, None], length)[:, 0]
    inside = slice(36, 12 * spec.shape[-1])
    torch.testing.assert_close(found[:, inside], wave[:, inside], atol=1e-5, rtol=0)
    assert found.shape == wave.shape and not found[:, 12 * (spec.shape[-1] - 1) + 48 :].any()


def test_transform_and_its_way_back_are_one_matrix():
    """A transform's filters are its inverse's, the ends of the spectrum at half their power."""
    basis = WindowedFrames(16, 16, 4, "none")
    with torch.no_grad():
        spec = basis.analyse(torch.eye(16))[..., 0]
        filters = torch.cat([spec.real, spec.imag], 1)  # (samples, 2 F)
        weights = torch.eye(18)
        back = basis.synthesise(torch.complex(weights[:, :9], weights[:, 9:])[:, None, :, None], 16)[:, 0]
    torch.testing.assert_close(back, filters.T, atol=1e-6, rtol=0)


@torch.no_grad()
def test_lengths_shorter_than_what_two_taps_take_away():
    model = tiny(layers=[[8, 5, 2, 2, 1]] * 3, hidden=4, nyquist=False, activation="prelu", padding="none")
    for length in (1, 64, 65, 100):
        assert model(torch.randn(1, length)).shape == (1, 2, length)
    assert model.parts(torch.randn(1, 300)).masks[:, :, -1].abs().max() == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [("layers", [[8, 5, 3, 2]]), ("layers", [[8, 4, 3, 2, 1]]), ("layers", [[8, 5, 2, 2, 2]]),
     ("layers", [[8, 5, 2, 2, 1], [8, 5, 3, 2, 1]]), ("layers", [[0, 5, 3, 2, 1]]), ("up", [3]), ("up", [0, 4]),
     ("n_fft", 66), ("hop", 15), ("padding", "zeros"), ("activation", "relu"), ("hidden", -1)],
)  # fmt: skip
def test_wrong_settings(key: str, value: object):
    with pytest.raises(ConfigError, match=rf"model\.{key}"):
        tiny(**{key: value})


def test_wrong_bound_and_causal():
    with pytest.raises(ConfigError, match=r"model\.bound"):
        tiny(bound="relu")
    with pytest.raises(ConfigError, match=r"model\.causal.*convtasnet"):
        tiny(causal=True)
