"""Invented parts, so that these tests hold whatever is registered; what profiles name by paths is not there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from usepcli import registry
from usepcli.encoders.prompts import Context
from usepcli.profile import signature

ROOT = Path(__file__).resolve().parents[2]
PARTS = """
import no_such_heavy_library
from typing import Any, ClassVar, Literal
import math
from dataclasses import dataclass
from toyparts.base import Common, Kind, Base, Shared

WIDTH = 64

class Toy(Base):
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"width": 8},
        "big": {"width": 512, "limits": (1, 9)},
    }

    def __init__(
        self,
        *,
        n_src: int = 2,
        width: int = WIDTH,
        rate: float = 1e-3,
        deep: bool = False,
        kind: Kind = "relu",
        window: "Literal['hann', 'rect'] | None" = None,
        limits: tuple[int, int] = (1, 2),
        gains: list[float] = (),
        floor: float = -math.inf,
        _hidden: int = 1,
    ) -> None:
        pass

class Other:
    def __init__(self, depth: int, eps: float = 1e-8): pass

class Middle(Shared):
    COMMON = {"rate": 16000}

class Sharing(Middle):
    COMMON = {"n_src": 4}
    def __init__(self, *, width: int = 3, **common: Unpack[Common]) -> None: pass

class Gated:
    def __init__(self, gate: "Module | None" = None): pass

class Loose:
    def __init__(self, **options: int): pass

class Many:
    def __init__(self, *sizes: int): pass

@dataclass
class Gain:
    LABEL: ClassVar[str] = "x"
    gain_db: float
    clip: bool = True

class Heir(Gain):
    pass

class Aim:
    def __init__(self, model, loss, *, share: float = 0.5, weights: dict[str, float] | None = None): pass
"""
BASE = """
from typing import Literal
Kind = Literal["relu", "silu"]
class Base: pass

class Common(TypedDict, total=False):
    n_src: int
    rate: int
    kind: Kind

class Shared:
    COMMON = {"n_src": 2, "rate": 8000, "kind": "relu"}
"""


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Register model toy and other, loss gain, objective aim; their module cannot even be imported."""
    package = tmp_path / "lib" / "toyparts"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text(PARTS)
    (package / "base.py").write_text(BASE)
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setitem(registry.MODELS, "toy", "toyparts.parts:Toy")
    for name in ("Sharing", "Gated", "Loose", "Many"):
        monkeypatch.setitem(registry.MODELS, name.lower(), f"toyparts.parts:{name}")
    monkeypatch.setitem(registry.MODELS, "other", "toyparts.parts:Other")
    monkeypatch.setitem(registry.LOSSES, "snr", "toyparts.parts:Gain")
    monkeypatch.setitem(registry.LOSSES, "heir", "toyparts.parts:Heir")
    monkeypatch.setitem(registry.OBJECTIVES, "pit", "toyparts.parts:Aim")
    caches = (signature._module, signature.signature, signature.schema)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "toyparts"]:
        del sys.modules[name]


@pytest.fixture
def write(tmp_path: Path, parts: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Write a profile into ./profiles of an empty working folder and return its name."""
    (tmp_path / "work" / "profiles").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")

    def _write(name: str, text: str) -> str:
        Path("profiles", f"{name}.yaml").write_text(text)
        return name

    return _write


@pytest.fixture
def folders_of_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a profile names by a path of the user's, an encoder or a judge, is made without it."""
    monkeypatch.syspath_prepend(ROOT / "tests")
    for table, stand_in in ((registry.CONDITIONERS, "Words"), (registry.JUDGES, "Ear")):
        for name in table:
            monkeypatch.setitem(table, name, f"parts.unopened:{stand_in}")
    monkeypatch.setattr("usepcli.objectives.weak_sup.phrases_of", lambda path: ("a dog", "rain"))
    monkeypatch.setattr("usepcli.encoders.prompts.context_of", lambda path: Context(torch.zeros(4, 16), "0" * 64))
