from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from usepcli.models.depthwise import DepthwiseConv, _Shifted, along, planes


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dilation", [1, 2, 16])
@pytest.mark.parametrize("kernel", [1, 3, 5, 9, 31])
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


@pytest.mark.parametrize(("left", "right"), [(4, 4), (8, 0), (0, 0), (2, 7)])
@pytest.mark.parametrize(("length", "dilation"), [(9, 1), (40, 1), (71, 1), (38, 2), (41, 3)])
def test_planes_and_their_gradient_are_those_of_the_library(length, dilation, left, right):
    torch.manual_seed(0)
    x = torch.randn(2, length, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 9, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(3, dtype=torch.float64, requires_grad=True)
    if dilation == 1:
        padded = F.pad(x.mT, (left, right))
        want = F.conv1d(padded, weight[:, None], bias, groups=3).mT
        torch.testing.assert_close(along(x, weight, bias, left, right), want)
    elif left + right == 8:  # of phases that keep their length
        padded = F.pad(x.mT, (left * dilation, right * dilation))
        want = F.conv1d(padded, weight[:, None], bias, dilation=dilation, groups=3).mT
    else:
        return
    found = planes(x, weight, bias, left, right, dilation)
    torch.testing.assert_close(found, want)
    grad = torch.randn_like(want)
    for one, other in zip(*(torch.autograd.grad(y, (x, weight, bias), grad) for y in (found, want)), strict=True):
        torch.testing.assert_close(one, other)


def test_planes_without_a_bias_and_in_bfloat16():
    torch.manual_seed(0)
    x, weight = torch.randn(2, 50, 4, requires_grad=True), torch.randn(4, 17, requires_grad=True)
    want = planes(x, weight, None, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = planes(x, weight, None, 8, 8)
    assert found.dtype == torch.bfloat16
    size = float(want.detach().abs().max())
    torch.testing.assert_close(found.float(), want, atol=0.02 * size, rtol=0)
    one, other = (torch.autograd.grad(y.float().square().sum(), (x, weight)) for y in (found, want))
    for a, b in zip(one, other, strict=True):
        assert a.dtype == torch.float32 and (a - b).norm() < 0.03 * b.norm()
