"""The versions that a result depends on."""

from __future__ import annotations

import importlib
import platform

import usepcli


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of usep, of Python, and of the packages named, which are imported for it."""
    found = {"usep": usepcli.__version__, "python": platform.python_version()}
    return found | {name: str(importlib.import_module(name).__version__) for name in packages}
