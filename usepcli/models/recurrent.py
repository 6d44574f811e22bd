"""Recurrent layers along the frames of a signal, whole or in blocks, under autocast too."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from usepcli.models.precision import full_precision


def recur(rnn: nn.RNNBase, x: Tensor, past: Any = None) -> tuple[Tensor, Any]:
    """Return the outputs of an RNN over the middle axis of x (S, steps, C), and its state after them."""
    if x.is_cuda:
        return rnn(x, past)  # type: ignore[no-any-return]
    # CPU kernels for bfloat16 RNNs do not exist for every size, so autocast stops here.
    with full_precision(x):
        return rnn(x.float(), past)  # type: ignore[no-any-return]


class Lstm(nn.Module):
    """LSTM over the middle axis, whole or in blocks: (S, steps, inputs) to (S, steps, outputs)."""

    def __init__(self, inputs: int, hidden: int, layers: int, both_ways: bool, dropout: float = 0.0) -> None:
        """Take sizes, hidden ones per direction; dropout lies between the layers."""
        super().__init__()
        between = dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(inputs, hidden, layers, batch_first=True, bidirectional=both_ways, dropout=between)
        self.outputs = hidden * (2 if both_ways else 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (S, steps, outputs) of x (S, steps, inputs)."""
        return self.step(x)[0]

    def step(self, x: Tensor, past: Any = None) -> tuple[Tensor, Any]:
        """Return the same for the next steps x, and the state after them."""
        return recur(self.lstm, x, past)
