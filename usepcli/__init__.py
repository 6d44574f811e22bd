"""usep: single-channel source separation, trained with or without clean sources."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from usepcli.engine.separation.separate import How, Separation, Separator, Trace
    from usepcli.profile.load import load_profile

__version__ = "0.1.0"
__all__ = ["How", "Separation", "Separator", "Trace", "__version__", "load_profile"]

_LAZY = {
    "How": "usepcli.engine.separation.separate",
    "Separation": "usepcli.engine.separation.separate",
    "Separator": "usepcli.engine.separation.separate",
    "Trace": "usepcli.engine.separation.separate",
    "load_profile": "usepcli.profile.load",
}


def __getattr__(name: str) -> Any:
    # PEP 562: importing usepcli must not import torch, so public names resolve on first use.
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'usepcli' has no attribute {name!r}")
