"""`usep doctor`: what this installation has, and what it lacks."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from usepcli import device, versions
from usepcli.cli import _options as options
from usepcli.cli.app import WAITING

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


def _version(package: str) -> str:
    from importlib import metadata  # a sixth of the start of `usep --help`

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing: pip install --force-reinstall usepcli"


def _audio() -> str:
    try:
        import soundfile
    except (ImportError, OSError) as fault:  # the wheel carries libsndfile, a source build may not find it
        return f"cannot be loaded ({fault})"
    return str(soundfile.__libsndfile_version__)


def _build() -> str:
    """Return the CUDA version that torch was built for, from its version.py: importing torch would take seconds."""
    from importlib import util

    spec = util.find_spec("torch")
    if spec is None or not spec.origin:
        return "missing"
    text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    found = re.search(r"^cuda\b[^=\n]*= *'([^']*)'", text, re.M)
    return found[1] if found else "none"


def _looked_up() -> dict[str, Any]:
    """Return what torch would find, from its files, the driver and the environment."""
    from usepcli import device

    build = _build()
    devices = ["cpu"]
    if build not in ("none", "missing"):
        devices += [f"cuda:{i} {name}" for i, name in enumerate(device.seen())]
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        devices.append("mps")
    said = os.environ.get("USEP_THREADS") or os.environ.get("OMP_NUM_THREADS") or ""
    return {"devices": devices, "threads": int(said) if said.isdecimal() else None, "cuda_build": build}


def _loaded() -> dict[str, Any]:
    """Return what torch itself says."""
    try:
        import torch
    except (ImportError, OSError) as fault:
        return {**_looked_up(), "torch_import": f"cannot be loaded ({fault})"}
    from usepcli import device

    threads = device.set_threads()
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    devices = ["cpu", *(f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(count))]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return {
        "devices": devices,
        "threads": threads,
        "cuda_build": torch.version.cuda or "none",
        "torch_import": "works",
    }


def _extra(name: str) -> str:
    lacking = versions.lacking(versions.EXTRAS[name])
    return f"missing {', '.join(lacking)}: {versions.install(name)}" if lacking else "present"


def doctor(
    load: Annotated[
        bool, typer.Option("--load", help="Load torch, and report the devices and threads that it finds itself.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Print versions, devices, threads, memory, profile folders and optional extras.

    Devices are those of the driver and threads those of $USEP_THREADS or $OMP_NUM_THREADS (empty: torch decides);
    --load asks torch itself, which takes seconds, and tells whether it can be loaded at all.

    \b
    Examples:
      usep doctor
      usep doctor --load --json
    """
    import usepcli
    from usepcli.profile import find

    facts: dict[str, Any] = {
        "usep": usepcli.__version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "versions": {package: _version(package) for package in PACKAGES} | {"libsndfile": _audio()},
        **(_loaded() if load else _looked_up()),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "thread_waiting": ", ".join(f"{name}={os.environ[name]}" for name in WAITING if name in os.environ),
        "memory_gib": round(device.memory_bytes() / 2**30, 1),
        "profiles": [str(folder.resolve()) for folder in find.folders()],
        "settings": {name: value for name, value in sorted(os.environ.items()) if name.startswith("USEP_")},
        "extras": {name: _extra(name) for name in versions.EXTRAS},
    }
    if not as_json:
        facts = {key: "" if value is None else value for key, value in facts.items()}
    options.report(facts, as_json)
