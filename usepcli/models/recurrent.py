"""Recurrent layers along the frames of a signal, whole or in blocks, under autocast too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from usepcli.models.precision import full_precision

# Up to so many steps one goes cell by cell: oneDNN packs the weights anew at each call, 1.7 ms for 256 cells where two
# steps take 0.2.
_FEW = 8

# Threads that sleep while they wait cost 50 us a step. Below so many products a step, of so few weights that one core
# holds them in its caches, that is more than a second thread saves: of 96 cells and one row 26 times the time, of 256
# and one, four or sixteen rows 4.5, 3.7 and 1.7 times; of 128 cells and 128 rows 0.96 (two cores of an EPYC).
_PRODUCTS, _WEIGHTS = 12_000_000, 2_500_000


def recur(rnn: nn.RNNBase, x: Tensor, past: Any = None) -> tuple[Tensor, Any]:
    """Return the outputs of an RNN over the middle axis of x (S, steps, C), and its state after them."""
    if x.is_cuda:
        return rnn(x, past)  # type: ignore[no-any-return]
    if _too_many(rnn, x):
        with _one_thread():
            return _recur(rnn, x, past)
    return _recur(rnn, x, past)


def _recur(rnn: nn.RNNBase, x: Tensor, past: Any) -> tuple[Tensor, Any]:
    if past is not None and x.shape[1] <= _FEW and isinstance(rnn, nn.LSTM) and _plain(rnn, x):
        return _by_cells(rnn, x.float(), past)
    # torch has no bfloat16 kernels of its own for RNNs on the CPU, so autocast stops here; oneDNN has those of an LSTM.
    if past is None and isinstance(rnn, nn.LSTM) and _coarse(rnn, x):
        with full_precision(x):
            return _in_bfloat16(rnn, x)
    with full_precision(x):
        return rnn(x.float(), past)  # type: ignore[no-any-return]


def _too_many(rnn: nn.RNNBase, x: Tensor) -> bool:
    """Whether several threads would wait for each other longer than they compute."""
    if torch.compiler.is_compiling() or torch.get_num_threads() == 1:
        return False
    weights = sum(weight.numel() for weight in rnn.all_weights[-1])
    asleep = os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE"
    return asleep and weights < _WEIGHTS and len(x) * weights < _PRODUCTS


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _coarse(rnn: nn.LSTM, x: Tensor) -> bool:
    """Whether an LSTM is trained under bfloat16's autocast, on a processor that computes in it."""
    if x.device.type != "cpu":  # some know no autocast, and may not be asked
        return False
    asked = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") is torch.bfloat16
    fit = torch.is_grad_enabled() and not rnn.proj_size and x.numel() > 0
    return asked and fit and not torch.compiler.is_compiling() and _computes_in_bfloat16()


@cache
def _computes_in_bfloat16() -> bool:
    """Whether oneDNN is there, and the processor has instructions for products in bfloat16."""
    return torch.backends.mkldnn.is_available() and torch.cpu._is_avx512_bf16_supported()


def _in_bfloat16(rnn: nn.LSTM, x: Tensor) -> tuple[Tensor, Any]:
    """Return what an LSTM returns, computed in bfloat16 (sums in float32), 2 to 3 decimal digits.

    On an EPYC 1.2 to 1.8 times as fast, forwards and backwards, for batches of 8 to 32 and 128 to 320 cells.
    """
    kind = torch.bfloat16
    states = x.new_zeros(rnn.num_layers * (1 + rnn.bidirectional), len(x), rnn.hidden_size, dtype=kind)
    weights = [weight.to(kind) for weight in rnn._flat_weights if weight is not None]
    out, hidden, cells = torch.lstm(
        x.to(kind), (states, states), weights, rnn.bias, rnn.num_layers, rnn.dropout, rnn.training, rnn.bidirectional,
        True,
    )  # fmt: skip
    return out.float(), (hidden.float(), cells.float())


def _plain(rnn: nn.LSTM, x: Tensor) -> bool:
    """Whether cells give what the LSTM gives, and nobody looks at what it is made of."""
    alone = not (rnn.bidirectional or rnn.proj_size or rnn.training) and rnn.bias and x.shape[1] > 0
    return alone and x.device.type == "cpu" and not torch.compiler.is_compiling()


def _by_cells(rnn: nn.LSTM, x: Tensor, past: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return what `rnn` returns for steps x (S, steps, C) behind others."""
    rows = list(x.unbind(1))
    ends = []
    with full_precision(x):
        for state, weights in zip(zip(*past, strict=True), rnn.all_weights, strict=True):
            for at, row in enumerate(rows):
                state = torch.lstm_cell(row, state, *weights)
                rows[at] = state[0]
            ends.append(state)
    hidden, cells = (torch.stack(part) for part in zip(*ends, strict=True))
    return torch.stack(rows, 1), (hidden, cells)


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
