from __future__ import annotations

import math

import pytest
import torch

from usepcli.models.attention import RelativeAttention, RelativeKeys, skew


@pytest.mark.parametrize(("size", "before"), [(1, 0), (2, 0), (3, 0), (8, 0), (1, 4), (3, 5), (5, 1)])
def test_skew_against_a_double_loop(size, before):
    x = torch.randn(2, 3, size, before + 2 * size - 1, dtype=torch.float64, requires_grad=True)
    out = skew(x)
    assert out.shape == (2, 3, size, before + size)
    for i in range(size):
        for j in range(before + size):
            assert torch.equal(out[..., i, j], x[..., i, j - i + size - 1])
    assert torch.autograd.gradcheck(skew, x)


def test_keys_hold_the_offset_query_minus_key_clamped():
    keys = RelativeKeys(3, 1)
    keys.weight.data[:, 0] = torch.arange(-3.0, 3.0)
    assert keys(6)[:, 0].tolist() == [2, 2, 2, 2, 1, 0, -1, -2, -3, -3, -3]
    assert keys(2, 3)[:, 0].tolist() == [2, 2, 2, 1, 0, -1]


@pytest.mark.parametrize(("causal", "look_back"), [(False, 0), (True, 0), (True, 3), (False, 2)])
def test_attention_against_its_formula(causal, look_back):
    torch.manual_seed(0)
    layer, keys, x = (
        RelativeAttention(8, 2, causal=causal, look_back=look_back).double(),
        RelativeKeys(4, 4).double(),
        torch.randn(1, 7, 8),
    )
    x = x.double()
    q, k, v = (part.view(7, 2, 4) for part in layer.qkv(x)[0].split(8, -1))
    want = torch.zeros(7, 2, 4, dtype=torch.float64)
    for head in range(2):
        for i in range(7):
            seen = range(max(0, i - look_back) if look_back else 0, i + 1 if causal else 7)
            shifts = [max(-4, min(3, i - j)) + 4 for j in seen]
            scores = [
                q[i, head] @ (k[j, head] + keys.weight[s]) / math.sqrt(4) for j, s in zip(seen, shifts, strict=True)
            ]
            weights = torch.stack(scores).softmax(0)
            want[i, head] = sum(w * v[j, head] for w, j in zip(weights, seen, strict=True))
    torch.testing.assert_close(layer(x, keys(7))[0], layer.out(want.view(7, 8)), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("look_back", [1, 4, 30])
@torch.no_grad()
def test_steps_of_any_length_give_what_the_whole_gives(look_back):
    torch.manual_seed(0)
    layer, keys = RelativeAttention(8, 2, causal=True, look_back=look_back).double(), RelativeKeys(6, 4).double()
    x, past, given = torch.randn(2, 20, 8, dtype=torch.float64), None, []
    for part in x.split([1, 5, 2, 11, 1], 1):
        y, past = layer.step(part, keys(part.shape[1], look_back), past)
        given.append(y)
        assert past.keys.shape == past.values.shape == (2, 2, look_back, 4)
    assert int(past.frames) == min(20, look_back)
    torch.testing.assert_close(torch.cat(given, 1), layer(x, keys(20)), atol=1e-12, rtol=0)


def test_biases_that_learn_and_biases_that_do_not_give_the_same():
    torch.manual_seed(0)
    layer, keys, x = RelativeAttention(8, 2).double(), RelativeKeys(4, 4).double(), torch.randn(2, 9, 8).double()
    with torch.no_grad():
        want = layer(x, keys(9))
    torch.testing.assert_close(layer(x, keys(9)).detach(), want, atol=1e-12, rtol=0)
    assert torch.autograd.gradcheck(lambda a: layer(a, keys(9)), x.requires_grad_())
