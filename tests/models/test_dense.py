from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from usepcli.models import dense as dense_module
from usepcli.models.dense import Dense, Pointwise, dense, pointwise

EPS = torch.finfo(torch.float32).eps


@pytest.fixture(params=[True, False], ids=["oneDNN", "MKL"])
def held_back(request, monkeypatch):
    if request.param and not torch.backends.mkldnn.is_available():
        pytest.skip("a torch without oneDNN")
    monkeypatch.setattr(dense_module, "_held_back", lambda: request.param)
    return request.param


def exact(x, weight, bias):
    return (x.double() @ weight.double().T + (0 if bias is None else bias.double())).float()


# Sums of n products are off by at most n eps of their parts' size.
def bound(x, weight, bias):
    size = x.abs() @ weight.abs().T + (0 if bias is None else bias.abs())
    return x.shape[-1] * EPS * float(size.detach().max())


@pytest.mark.parametrize("shape", [(700, 96), (2, 350, 96), (5, 7, 20, 96)])
@pytest.mark.parametrize("biased", [True, False])
def test_dense_is_the_product(held_back, shape, biased):
    torch.manual_seed(0)
    x, layer = torch.randn(shape), Dense(96, 64, bias=biased)
    assert dense_module._by_convolution(x, layer.weight) == held_back
    want = exact(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), want, atol=bound(x, layer.weight, layer.bias), rtol=0)


@pytest.mark.parametrize("biased", [True, False])
def test_pointwise_is_the_product_along_the_frames(held_back, biased):
    torch.manual_seed(0)
    x, layer = torch.randn(3, 96, 250), Pointwise(96, 64, bias=biased)
    assert dense_module._by_convolution(x, layer.weight) == held_back
    rows, weight = x.mT, layer.weight[..., 0]
    want = exact(rows, weight, layer.bias).mT
    torch.testing.assert_close(layer(x), want, atol=bound(rows, weight, layer.bias), rtol=0)


def test_rows_need_not_lie_in_order(held_back):
    torch.manual_seed(0)
    x, weight = torch.randn(96, 40, 30), torch.randn(64, 96)
    for rows in (x.permute(1, 2, 0), x.permute(2, 1, 0), x.permute(1, 2, 0)[::2]):
        want = exact(rows, weight, None)
        torch.testing.assert_close(dense(rows, weight), want, atol=bound(rows, weight, None), rtol=0)


def test_gradients_are_those_of_the_product(held_back):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 400, 96), torch.randn(64, 96), torch.randn(64)
    found = []
    for run, wide in (
        (lambda a, w, b: dense(a, w, b), False),
        (lambda a, w, b: pointwise(a.mT.contiguous(), w[..., None], b).mT, False),
        (F.linear, True),
    ):
        given = [(t.double() if wide else t).detach().clone().requires_grad_() for t in (x, weight, bias)]
        run(*given).square().sum().backward()
        found.append([t.grad.double() for t in given])
    for own in found[:2]:
        for one, want in zip(own, found[2], strict=True):
            # 800 rows of outputs, each a sum of 96 products: n eps of the largest, with n of either sum.
            torch.testing.assert_close(one, want, atol=(800 + 96) * EPS * float(want.abs().max()), rtol=0)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # of the switch itself
@pytest.mark.parametrize("how", ["few", "narrow", "double", "bfloat16", "autocast", "switched off"])
def test_what_is_left_to_the_linear_layer(monkeypatch, how):
    monkeypatch.setattr(dense_module, "_held_back", lambda: True)
    x, weight = torch.randn(50 if how == "few" else 2000, 96), torch.randn(16 if how == "narrow" else 64, 96)
    if how in ("double", "bfloat16"):
        x, weight = (t.to(getattr(torch, how.replace("double", "float64"))) for t in (x, weight))
    with torch.autocast("cpu", enabled=how == "autocast"), torch.backends.mkldnn.flags(enabled=how != "switched off"):
        assert not dense_module._by_convolution(x, weight)
        assert torch.equal(dense(x, weight), F.linear(x, weight))


def test_nothing_in_no_rows(held_back):
    assert dense(torch.zeros(0, 7, 96), torch.zeros(64, 96)).shape == (0, 7, 64)


def test_the_same_state_as_torchs_layers():
    pairs = ((Dense(4, 3), torch.nn.Linear(4, 3)), (Pointwise(4, 3), torch.nn.Conv1d(4, 3, 1)))
    for ours, theirs in pairs:
        ours.load_state_dict(theirs.state_dict())
        torch.manual_seed(1)
        ours.reset_parameters()
        torch.manual_seed(1)
        theirs.reset_parameters()
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(one, other)
