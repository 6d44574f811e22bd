"""What every part of audio refuses in the same words: samples that are no numbers."""

from __future__ import annotations

import os

import numpy as np

from usepcli.errors import BadInput
from usepcli.files import show as show

PathLike = str | os.PathLike[str]


def check_finite(wave: np.ndarray, path: PathLike) -> None:
    """Raise BadInput if any sample is NaN or infinite."""
    if not np.isfinite(wave).all():
        bad = int((~np.isfinite(wave)).sum())
        raise BadInput(f"{show(path)}: {bad} samples are NaN or infinite; repair or leave out the file")
