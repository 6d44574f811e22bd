from __future__ import annotations

import pytest
import torch

from usepcli.errors import BadInput
from usepcli.weights.cards import STEP
from usepcli.weights.packing import LEAST, packed, unpacked


def test_a_weight_is_at_most_half_a_step_off():
    torch.manual_seed(0)
    value = torch.randn(8, 64, 5) * torch.logspace(-6, 6, 8)[:, None, None]
    found = unpacked(packed({"w": value}), "m")["w"]
    step = value.abs().amax((1, 2), keepdim=True) / 127
    # In steps, with the rounding of the division and the product.
    assert ((found - value) / step).abs().max() <= 0.5 + 127 * 4 * torch.finfo(torch.float32).eps
    # A matrix of whole steps comes back, and so do rows of zeros.
    assert torch.allclose(unpacked(packed({"w": found}), "m")["w"], found, rtol=1e-6, atol=0)
    assert not unpacked(packed({"w": torch.zeros(64, 64)}), "m")["w"].any()


def test_what_is_small_or_no_matrix_or_whole_stays():
    state = {
        "bias": torch.ones(2 * LEAST), "little": torch.ones(2, 2), "count": torch.arange(5000).reshape(50, 100),
        "kept": torch.ones(64, 64, dtype=torch.int8),
    }  # fmt: skip
    held = packed(state)
    assert held.keys() == state.keys() and held["bias"].dtype == torch.float16
    assert torch.equal(held["count"], state["count"])
    assert unpacked(held, "m")["kept"].dtype == torch.int8


@pytest.mark.parametrize("steps", [torch.ones(3), torch.ones(64, 1), torch.full((64,), float("nan"))])
def test_steps_that_do_not_fit(steps):
    held = packed({"w": torch.randn(64, 64)}) | {f"{STEP}w": steps}
    with pytest.raises(BadInput, match=r"m: steps .* for .w., .*fetch the file again"):
        unpacked(held, "m")


def test_steps_without_a_matrix():
    with pytest.raises(BadInput, match="for 'x', which is no such matrix"):
        unpacked({f"{STEP}x": torch.ones(4)}, "m")
    with pytest.raises(BadInput, match="float32"):
        unpacked({"x": torch.ones(4, 4), f"{STEP}x": torch.ones(4)}, "m")
