"""What the tests of this folder share."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def encoder_makers() -> ModuleType:
    """The module `makers` beside this file."""
    spec = importlib.util.spec_from_file_location("makers", Path(__file__).with_name("makers.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
