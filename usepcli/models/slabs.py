"""Rows that know nothing of each other, a few at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def in_slabs(run: Callable[[Tensor], Tensor], rows: Tensor, steps: int) -> Tensor:
    """Return run(rows) of rows (R, L, ...) that `run` treats each by itself, about `steps` of R L at once.

    So that what lies between two layers fits the processor's cache and memory does not grow with R. Where gradients
    are kept, or on a GPU, all rows run at once.
    """
    if torch.is_grad_enabled() or rows.is_cuda or torch.compiler.is_exporting():
        return run(rows)
    return torch.cat([run(slab) for slab in rows.split(max(1, steps // rows.shape[1]))])
