"""Devices, threads and memory of this process."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from usepcli.errors import ConfigError, MissingDependency, UsageError, choices

if TYPE_CHECKING:
    import torch

KINDS = ("cpu", "cuda", "mps")
MOST_THREADS = 1024  # more than any machine has use for; beyond some ten thousands the process would die
# glibc mallopt parameters (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def check(name: str) -> None:
    """Raise MissingDependency for a name that is no device anywhere; torch is not imported for it."""
    if name != "auto" and name.split(":")[0] not in KINDS:
        raise MissingDependency(choices("device", name, ["auto", *KINDS]))


def pick(name: str = "auto") -> torch.device:
    """Return the device called auto, cpu, cuda, cuda:N or mps; MissingDependency if it is absent."""
    check(name)
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind = name.split(":")[0]
    if kind == "cuda" and not torch.cuda.is_available():
        raise MissingDependency(f"device '{name}': this torch finds no CUDA device; use --device cpu")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise MissingDependency(f"device '{name}': this torch finds no MPS device; use --device cpu")
    return torch.device(name)


def named(which: torch.device) -> str:
    """Return a device in words, a GPU with the name of its make: another one computes other last bits."""
    import torch

    return f"{which} ({torch.cuda.get_device_name(which)})" if which.type == "cuda" else str(which)


def seen(proc: Path = Path("/proc/driver/nvidia/gpus"), dev: Path = Path("/dev")) -> list[str]:
    """Return the names of the NVIDIA GPUs that the driver gives to this process, as torch would number them.

    They are read from the driver's own files or, where it has none, from nvidia-smi; torch is not imported.
    """
    found: list[tuple[str, str]] = []  # identifier, name
    for place in sorted(proc.glob("*/information")):
        facts = dict(re.findall(r"^([^:\n]+):[ \t]*(.*)$", place.read_text(errors="replace"), re.M))
        # A container may see the files of all GPUs and the devices of some.
        if (dev / f"nvidia{facts.get('Device Minor', '').strip()}").exists():
            found.append((facts.get("GPU UUID", "").strip(), facts.get("Model", "unknown").strip()))
    if not proc.is_dir() and shutil.which("nvidia-smi"):
        asked = ["nvidia-smi", "--query-gpu=uuid,name", "--format=csv,noheader"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)
        if done.returncode == 0:
            pairs = (line.partition(", ") for line in done.stdout.splitlines())
            found = [(uuid, name) for uuid, _, name in pairs]
    return _visible(found, os.environ.get("CUDA_VISIBLE_DEVICES"))


def _visible(found: list[tuple[str, str]], asked: str | None) -> list[str]:
    """Return the names that CUDA_VISIBLE_DEVICES leaves, in its order; what it names wrongly ends the list."""
    if asked is None:
        return [name for _, name in found]
    names = []
    for word in asked.split(","):
        own = word.strip()
        hits = [name for number, (uuid, name) in enumerate(found) if own and (own == str(number) or own in uuid)]
        if len(hits) != 1:
            break
        names += hits
    return names


def check_compiles(where: torch.device) -> None:
    """Raise MissingDependency where torch cannot make a program for the device, trying it on one sum."""
    import torch

    try:
        torch.compile(lambda x: x + 1, dynamic=False)(torch.zeros(2, device=where))
    except Exception as fault:  # whatever a compiler, Triton or a missing header says
        first = next((line for line in str(fault).splitlines() if line.strip()), type(fault).__name__)
        wanted = "Triton and a C compiler" if where.type == "cuda" else "a C++ compiler and Python's headers"
        raise MissingDependency(
            f"train.compile: torch cannot compile for {where} ({first.strip()[:120]}); it needs {wanted}: install "
            "them, or leave train.compile out"
        ) from fault


def set_threads(n: int = 0) -> int:
    """Set and return the number of threads of this process; 0 keeps OMP_NUM_THREADS or torch's choice.

    UsageError for a number out of range, ConfigError for such a value of USEP_THREADS.
    """
    if not 0 <= n <= MOST_THREADS:
        raise UsageError(f"threads: found {n}; expected 0 to {MOST_THREADS}, 0 decides by itself")
    asked = os.environ.get("USEP_THREADS", "").strip() or "0"
    if not (asked.isascii() and asked.isdigit() and int(asked) <= MOST_THREADS):
        raise ConfigError(f"USEP_THREADS: found '{asked}'; expected 0 to {MOST_THREADS}, 0 decides by itself")
    import torch

    n = n or int(asked)
    if n > 0:
        torch.set_num_threads(n)
    return torch.get_num_threads()


def memory_bytes() -> int:
    """Return the memory open to this process: of the machine, or of its control group if that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(total, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError):  # no control group, or no limit in it
        return total


def keep_heap() -> bool:
    """Let glibc keep freed memory instead of returning it; True if it was done.

    Fresh pages cost more than the arithmetic on them for large tensors on virtual machines (measured: up to
    three times faster convolutions). The process then holds its peak until it ends. USEP_KEEP_HEAP=0 is off.
    """
    if sys.platform != "linux" or os.environ.get("USEP_KEEP_HEAP", "1") == "0":
        return False
    try:
        libc = ctypes.CDLL(None)
        # -1 is the largest threshold (it becomes SIZE_MAX): the heap is never trimmed.
        return bool(libc.mallopt(_M_MMAP_MAX, 0)) and bool(libc.mallopt(_M_TRIM_THRESHOLD, -1))
    except (OSError, AttributeError):
        return False


def release_heap() -> bool:
    """Give the free pages inside glibc's heap back to the system; True if there were any.

    A heap that is never trimmed (keep_heap) is broken up over hours by the few small things that stay, and grows
    by the holes between them. Called every few minutes of sound, this costs a hundredth of the time or less.
    """
    if sys.platform != "linux" or os.environ.get("USEP_KEEP_HEAP", "1") == "0":
        return False
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (OSError, AttributeError):
        return False
