"""usep: single-channel source separation, trained with or without clean sources."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from usepcli.engine.separation.python import Separator
    from usepcli.profile.load import load_profile
    from usepcli.separator.separator import How, Live, Separation, Trace

__version__ = "0.1.0"
__all__ = ["How", "Live", "Separation", "Separator", "Trace", "__version__", "load_profile"]

_LAZY = {
    "How": "usepcli.separator.separator",
    "Live": "usepcli.separator.separator",
    "Separation": "usepcli.separator.separator",
    "Separator": "usepcli.engine.separation.python",
    "Trace": "usepcli.separator.separator",
    "load_profile": "usepcli.profile.load",
}


def __getattr__(name: str) -> Any:
    # PEP 562: importing usepcli must not import torch, so public names resolve on first use.
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'usepcli' has no attribute {name!r}")
