from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from usepcli.models.depthwise import DepthwiseConv, _Shifted


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dilation", [1, 2, 16])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("length", [1, 2, 31, 100])
def test_equals_the_library_convolution(length, kernel, dilation, causal):
    torch.manual_seed(0)
    layer = DepthwiseConv(6, kernel, dilation, causal).double()
    x = torch.randn(2, 6, length, dtype=torch.float64)
    span = (kernel - 1) * dilation
    left = span if causal else span // 2
    want = F.conv1d(F.pad(x, (left, span - left)), layer.weight[:, None], layer.bias, 1, 0, dilation, 6)
    torch.testing.assert_close(layer(x), want)
    shifted = _Shifted.apply(x, layer.weight, layer.bias, dilation, left)
    torch.testing.assert_close(shifted, want)


@pytest.mark.parametrize("left", [4, 8])
@pytest.mark.parametrize("length", [3, 11])
def test_gradient(length, left):
    x = torch.randn(2, 3, length, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *a: _Shifted.apply(*a, 4, left), (x, weight, bias))


def test_bfloat16_input_keeps_its_type():
    layer = DepthwiseConv(4, 3, 2)
    assert layer(torch.randn(1, 4, 20).bfloat16()).dtype == torch.bfloat16


def test_flops_are_reported_only_where_the_library_is_not_called():
    x = torch.zeros(1, 4, 10)
    assert DepthwiseConv(4, 3, 2).flops(x) == 2 * 3 * 40
    assert DepthwiseConv(4, 3, 1).flops(x) == 0


@pytest.mark.parametrize("dilation", [1, 4])
@torch.no_grad()
def test_a_causal_filter_goes_on_where_it_stopped(dilation):
    conv, x = DepthwiseConv(3, 3, dilation, causal=True), torch.randn(2, 3, 40)
    past, parts = None, []
    for part in x.split([1, 2, 30, 7], -1):
        y, past = conv.step(part, past)
        assert past.shape == (2, 3, 2 * dilation)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, -1), conv(x), atol=1e-6, rtol=0)
