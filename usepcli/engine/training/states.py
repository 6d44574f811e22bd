"""The state from which a run resumes: a torch archive behind a header with its sha256, read with weights_only=True."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

from usepcli.errors import BadInput
from usepcli.files import write_bytes

MAGIC = b"USEPRUN1"
# The states of a run folder, the newest first.
SAVED = ("last.ckpt", "prev.ckpt")


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a resume file; the file that stood there becomes `prev.ckpt` beside it."""
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    body = buffer.getvalue()
    previous = path.with_name("prev" + path.suffix)
    if path.exists():
        # A hard link, so that there is no moment without a valid file under one of the two names.
        link = previous.with_name(f"{previous.name}.tmp.{os.getpid()}")
        link.unlink(missing_ok=True)
        os.link(path, link)
        os.replace(link, previous)
    write_bytes(path, MAGIC + hashlib.sha256(body).digest() + body)


def load_state(path: Path) -> dict[str, Any]:
    """Read a resume file; BadInput if it is short, damaged or not ours."""
    import torch

    raw = path.read_bytes()
    head = len(MAGIC)
    body = raw[head + 32 :]
    if raw[:head] != MAGIC or hashlib.sha256(body).digest() != raw[head : head + 32]:
        raise BadInput(f"{path}: damaged or not a usep checkpoint (sha256 does not match)")
    state: dict[str, Any] = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    return state


def load_last(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """Return the newest readable state of a run folder (None for a new run) and a warning or ''."""
    faults: list[str] = []
    for name in SAVED:
        if (folder / name).exists():
            try:
                return load_state(folder / name), "; ".join(faults)
            except BadInput as fault:
                faults.append(str(fault))
    if faults:
        raise BadInput("; ".join(faults) + "; no readable checkpoint is left, start in another folder with -o")
    return None, ""
