from __future__ import annotations

import math

import pytest
import torch

from usepcli.models.attention import RelativeAttention, RelativeKeys, skew


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_skew_against_a_double_loop(size):
    x = torch.randn(2, 3, size, 2 * size - 1, dtype=torch.float64, requires_grad=True)
    out = skew(x)
    assert out.shape == (2, 3, size, size)
    for i in range(size):
        for j in range(size):
            assert torch.equal(out[..., i, j], x[..., i, j - i + size - 1])
    assert torch.autograd.gradcheck(skew, x)


def test_keys_hold_the_offset_query_minus_key_clamped():
    keys = RelativeKeys(3, 1)
    keys.weight.data[:, 0] = torch.arange(-3.0, 3.0)
    assert keys(6)[:, 0].tolist() == [2, 2, 2, 2, 1, 0, -1, -2, -3, -3, -3]


@pytest.mark.parametrize("causal", [False, True])
def test_attention_against_its_formula(causal):
    torch.manual_seed(0)
    layer, keys, x = (
        RelativeAttention(8, 2, causal=causal).double(),
        RelativeKeys(4, 4).double(),
        torch.randn(1, 7, 8),
    )
    x = x.double()
    q, k, v = (part.view(7, 2, 4) for part in layer.qkv(x)[0].split(8, -1))
    want = torch.zeros(7, 2, 4, dtype=torch.float64)
    for head in range(2):
        for i in range(7):
            seen = range(i + 1) if causal else range(7)
            shifts = [max(-4, min(3, i - j)) + 4 for j in seen]
            scores = [
                q[i, head] @ (k[j, head] + keys.weight[s]) / math.sqrt(4) for j, s in zip(seen, shifts, strict=True)
            ]
            weights = torch.stack(scores).softmax(0)
            want[i, head] = sum(w * v[j, head] for w, j in zip(weights, seen, strict=True))
    torch.testing.assert_close(layer(x, keys(7))[0], layer.out(want.view(7, 8)), atol=1e-6, rtol=1e-5)
