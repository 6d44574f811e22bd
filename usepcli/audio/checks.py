"""What every part of audio says and refuses in the same words: names on the screen, samples that are no numbers."""

from __future__ import annotations

import os

import numpy as np

from usepcli.errors import BadInput

PathLike = str | os.PathLike[str]


def show(path: PathLike) -> str:
    """Return a path as printable text in one line: bytes that are no UTF-8, and control characters, are escaped."""
    text = os.fspath(path).encode("utf-8", "backslashreplace").decode("utf-8")
    return text.translate({code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))})


def check_finite(wave: np.ndarray, path: PathLike) -> None:
    """Raise BadInput if any sample is NaN or infinite."""
    if not np.isfinite(wave).all():
        bad = int((~np.isfinite(wave)).sum())
        raise BadInput(f"{show(path)}: {bad} samples are NaN or infinite; repair or leave out the file")
