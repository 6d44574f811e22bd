"""Recurrent layers: few steps by cells give what the layer gives; training in bfloat16 gives nearly the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from usepcli.models import recurrent


@pytest.mark.parametrize("layers", [1, 3])
@torch.no_grad()
def test_cells_give_the_layer(layers: int) -> None:
    rnn = nn.LSTM(5, 7, layers, batch_first=True).eval()
    past = rnn(torch.randn(3, 4, 5))[1]
    for steps in (1, 8, 9):
        x = torch.randn(3, steps, 5)
        (got, state), (want, kept) = recurrent.recur(rnn, x, past), rnn(x, past)
        torch.testing.assert_close(got, want, atol=1e-6, rtol=0)
        for one, other in zip(state, kept, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_what_is_more_than_cells_stays_a_layer() -> None:
    x = torch.randn(1, 2, 5)
    assert recurrent._plain(nn.LSTM(5, 7).eval(), x)
    for rnn in (nn.LSTM(5, 7), nn.LSTM(5, 7, bidirectional=True).eval(), nn.LSTM(5, 7, proj_size=3).eval()):
        assert not recurrent._plain(rnn, x)
    assert not recurrent._plain(nn.LSTM(5, 7).eval(), x[:, :0])


@pytest.mark.parametrize(("layers", "both", "bias"), [(1, False, True), (3, True, True), (2, True, False)])
def test_training_in_bfloat16_has_the_same_outputs_and_gradients(
    layers: int, both: bool, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of some 10 roundings to 8 bits moves a number by 2^-9 of its size at most, and they do not add up."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN knows no bfloat16 on this processor")
    monkeypatch.setattr(recurrent, "_computes_in_bfloat16", lambda: True)
    torch.manual_seed(0)
    rnn = nn.LSTM(33, 24, layers, batch_first=True, bidirectional=both, bias=bias)
    x, told = torch.randn(4, 30, 33), torch.randn(4, 30, 24 * (1 + both))
    found = []
    for coarse in (False, True):
        rnn.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=coarse):
            out, state = recurrent.recur(rnn, x)
        assert out.dtype == state[0].dtype == torch.float32
        (out * told).sum().backward()
        found.append([out, *state, torch.cat([weight.grad.flatten() for weight in rnn.parameters()])])  # type: ignore[union-attr]
    for exact, near in zip(*found, strict=True):
        assert 0 < (near - exact).norm() < 10 * 2**-9 * exact.norm()


def test_bfloat16_is_for_training_under_its_autocast_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrent, "_computes_in_bfloat16", lambda: True)
    rnn, x = nn.LSTM(5, 7, batch_first=True), torch.randn(1, 9, 5)
    assert not recurrent._coarse(rnn, x) and not recurrent._coarse(rnn, x.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert recurrent._coarse(rnn, x)
        assert not recurrent._coarse(nn.LSTM(5, 7, proj_size=3), x) and not recurrent._coarse(rnn, x[:, :0])
        with torch.no_grad():
            assert not recurrent._coarse(rnn, x)
            with torch.autocast("cpu", enabled=False):
                torch.testing.assert_close(recurrent.recur(rnn, x)[0], rnn(x)[0], atol=0, rtol=0)
    with torch.autocast("cpu", torch.float16):
        assert not recurrent._coarse(rnn, x)


def test_small_steps_take_one_thread_where_waiting_threads_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    seen = list[int]()

    class Watched(nn.LSTM):
        def forward(self, *given: Any) -> Any:  # type: ignore[override]
            seen.append(torch.get_num_threads())
            if given[0].isnan().any():
                raise ValueError
            return super().forward(*given)

    try:
        small, large = (Watched(cells, cells, batch_first=True) for cells in (8, 200))
        for policy, want in (("PASSIVE", [1, 2, 1]), ("ACTIVE", [2, 2, 2]), ("", [2, 2, 2])):
            monkeypatch.setenv("OMP_WAIT_POLICY", policy)
            recurrent.recur(small, torch.zeros(3, 20, 8))
            recurrent.recur(large, torch.zeros(64, 2, 200))
            with pytest.raises(ValueError):
                recurrent.recur(small, torch.full((3, 20, 8), torch.nan))
            assert seen == want and torch.get_num_threads() == 2
            seen.clear()
    finally:
        torch.set_num_threads(threads)
