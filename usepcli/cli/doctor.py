"""`usep doctor`: what this installation has, and what it lacks."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

from usepcli.cli import _options as options

PACKAGES = (
    "torch",
    "torchaudio",
    "numpy",
    "scipy",
    "pandas",
    "soundfile",
    "soxr",
    "pydantic",
    "typer",
    "safetensors",
)
EXTRAS = {
    "asr": ("transformers",),
    "codecs": ("av",),
    "export": ("onnx", "onnxruntime", "onnxscript"),
    "hub": ("huggingface_hub",),
    "metrics": ("pesq", "pystoi"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "plot": ("matplotlib",),
    "sim": ("pyroomacoustics",),
    "test": ("pytest", "hypothesis", "mir_eval", "matplotlib", "xdist", "ruff"),
    "dev": ("mypy", "pytest", "ruff"),
}


def _version(package: str) -> str:
    from importlib import metadata  # a sixth of the start of `usep --help`

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing: pip install --force-reinstall usepcli"


def _memory_gib() -> float:
    """Return the memory open to this process: of the machine, or of its control group if that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as stream:
            total = min(total, int(stream.read()))
    except (OSError, ValueError):
        pass  # no control group, or no limit in it
    return round(total / 2**30, 1)


def _audio() -> str:
    try:
        import soundfile
    except (ImportError, OSError) as fault:  # the wheel carries libsndfile, a source build may not find it
        return f"cannot be loaded ({fault})"
    return str(soundfile.__libsndfile_version__)


def _torch() -> dict[str, Any]:
    try:
        import torch
    except (ImportError, OSError) as fault:
        return {"torch_import": f"cannot be loaded ({fault})"}
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    devices = ["cpu", *(f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(count))]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return {
        "devices": devices,
        "threads": torch.get_num_threads(),
        "cuda_build": torch.version.cuda or "none",
    }


def _extra(name: str) -> str:
    from importlib import util

    lacking = [module for module in EXTRAS[name] if util.find_spec(module) is None]
    if not lacking:
        return "present"
    return f"missing {', '.join(lacking)}: pip install 'usepcli[{name}]'"


def doctor(as_json: options.Json = False) -> None:
    """Print versions, devices, threads, memory, profile folders and optional extras.

    \b
    Examples:
      usep doctor
      usep doctor --json
    """
    import usepcli
    from usepcli.profile import find

    facts: dict[str, Any] = {
        "usep": usepcli.__version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "versions": {package: _version(package) for package in PACKAGES} | {"libsndfile": _audio()},
        **_torch(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "profiles": [str(folder.resolve()) for folder in find.folders()],
        "settings": {name: value for name, value in sorted(os.environ.items()) if name.startswith("USEP_")},
        "extras": {name: _extra(name) for name in EXTRAS},
    }
    options.report(facts, as_json)
