"""Recurrent layers in few steps: the cells give what the layer gives."""

from __future__ import annotations

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
