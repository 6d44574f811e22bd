"""What every part of audio says and refuses in the same words: names on the screen, samples that are no numbers."""

from __future__ import annotations

import os

import numpy as np

from usepcli.errors import BadInput

PathLike = str | os.PathLike[str]


def show(path: PathLike) -> str:
    """Return a path as printable text: bytes that are no UTF-8 appear as backslash escapes."""
    return os.fspath(path).encode("utf-8", "backslashreplace").decode("utf-8")


def check_finite(wave: np.ndarray, path: PathLike) -> None:
    """Raise BadInput if any sample is NaN or infinite."""
    if not np.isfinite(wave).all():
        bad = int((~np.isfinite(wave)).sum())
        raise BadInput(f"{show(path)}: {bad} samples are NaN or infinite; repair or leave out the file")
