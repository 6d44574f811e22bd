"""Devices, threads and memory of this process."""

from __future__ import annotations

import ctypes
import os
import sys

import torch

from usepcli.errors import MissingDependency, choices

# glibc mallopt parameters (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def pick(name: str = "auto") -> torch.device:
    """Return the device called auto, cpu, cuda, cuda:N or mps; MissingDependency if it is absent."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind = name.split(":")[0]
    if kind not in {"cpu", "cuda", "mps"}:
        raise MissingDependency(choices("device", name, ["auto", "cpu", "cuda", "mps"]))
    if kind == "cuda" and not torch.cuda.is_available():
        raise MissingDependency(f"device '{name}': this torch finds no CUDA device; use --device cpu")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise MissingDependency(f"device '{name}': this torch finds no MPS device; use --device cpu")
    return torch.device(name)


def set_threads(n: int = 0) -> int:
    """Set and return the number of threads of this process; 0 keeps OMP_NUM_THREADS or torch's choice."""
    n = n or int(os.environ.get("USEP_THREADS", "0") or 0)
    if n > 0:
        torch.set_num_threads(n)
    return torch.get_num_threads()


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
