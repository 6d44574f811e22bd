"""Torch's optimisers without torch's compiler, which making one and every step would load: 2.5 s and 150 MB a process.

Nothing is compiled here. What they compute is torch's own, to the last bit.
"""

from __future__ import annotations

import inspect
import sys
from typing import TypeVar, cast

import torch
from torch.optim import Optimizer

Kind = TypeVar("Kind", bound=Optimizer)


def plain(kind: type[Kind]) -> type[Kind]:
    """Return a kind of optimiser whose steps are those of `kind`, with nothing around them that asks for the compiler.

    Where a version of torch is built otherwise, the compiler is loaded as ever.
    """
    if sys.modules.get("torch._dynamo") is None:
        for method in filter(inspect.isfunction, vars(Optimizer).values()):
            if (own := inspect.unwrap(method)) is not method:
                # Where torch looks for what the compiler would make of a method (torch/_compile.py).
                own.__dict__.setdefault("__dynamo_disable", own)
    step = torch.no_grad()(inspect.unwrap(kind.step))
    made = type(f"Plain{kind.__name__}", (kind,), {"step": step, "__doc__": kind.__doc__})
    return cast("type[Kind]", made)
