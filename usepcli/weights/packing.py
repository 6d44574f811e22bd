"""Weights in a byte each: the rows of a matrix as whole numbers of steps, one step a row.

    w_ij ~ step_i q_ij,      q_ij = round(w_ij / step_i),      step_i = max_j |w_ij| / 127
A row is what one output of a layer, or one word of a lexicon, has along the first axis. The error of a weight is at
most half a step: it lies some 42 dB below the weights of the released models. Small tensors and vectors stay
half-precision numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from usepcli.errors import BadInput
from usepcli.weights.cards import STEP

LEAST = 2048  # numbers of a tensor that is worth steps of its own
_MOST = 127


def packed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state with its large matrices as int8 and their steps beside them, all else that is real as float16."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if not value.is_floating_point():
            found[name] = value
        elif value.dim() < 2 or value.numel() < LEAST:
            found[name] = value.half()
        else:
            rows = value.float().flatten(1)
            step = rows.abs().amax(1) / _MOST
            whole = (rows / step.clamp_min(torch.finfo(torch.float32).tiny)[:, None]).round()
            found[name] = whole.to(torch.int8).reshape(value.shape)
            found[STEP + name] = step
    return found


def unpacked(state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return a state with every packed matrix in float32; BadInput for steps that fit no matrix."""
    steps = {name.removeprefix(STEP): step for name, step in state.items() if name.startswith(STEP)}
    found = {name: value for name, value in state.items() if not name.startswith(STEP)}
    for name, step in steps.items():
        value = found.get(name)
        if value is None or value.dtype != torch.int8 or step.shape != value.shape[:1] or not step.isfinite().all():
            what = "no such matrix" if value is None else f"{value.dtype} {tuple(value.shape)}"
            raise BadInput(
                f"{where}: steps {tuple(step.shape)} for '{name}', which is {what}; expected a finite one for each row "
                "of an int8 matrix; fetch the file again"
            )
        found[name] = value.float() * step.float().reshape(-1, *[1] * (value.dim() - 1))
    return found
