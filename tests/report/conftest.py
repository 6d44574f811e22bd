"""The browser for every test of a page."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("usep_test_browser", Path(__file__).with_name("browser.py"))
assert _spec is not None and _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _module
_spec.loader.exec_module(_module)
browser = _module.browser


@pytest.fixture(scope="session")
def starts() -> str:
    """A script ahead of a page: window.starts lists from where each sound was started."""
    return str(_module.STARTS)
