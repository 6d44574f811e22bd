"""Frozen parts: they compute and move with their owner, and are stored nowhere.

A text encoder of 100 MB inside a student of 50 kB would stand in every checkpoint. A frozen part is known by where it
came from and by the sha256 of its bytes; that is what a run and a card write down.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class Fixed(nn.Module):
    """Holds a module that never learns; its parameters are no one's, and `state_dict` passes over them."""

    module: nn.Module

    def __init__(self, module: nn.Module, reference: str, sha256: str) -> None:
        """Take the module, the reference by which it is found again, and the sha256 of its stored weights."""
        super().__init__()
        self.reference, self.sha256 = reference, sha256
        # Past nn.Module.__setattr__: no child, so no parameter, no entry of a state, no optimiser ever meets it.
        object.__setattr__(self, "module", module.requires_grad_(False).eval())

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the module returns; gradients pass through to its input."""
        return self.module(*args, **kwargs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Fixed:
        # What .to(), .cuda() and .half() do to an owner reaches the frozen part as well.
        super()._apply(fn, recurse)
        self.module._apply(fn)
        return self

    def extra_repr(self) -> str:
        """Where it came from, for the printed objective."""
        return f"{type(self.module).__name__}, {self.reference}, sha256 {self.sha256[:12]}"
