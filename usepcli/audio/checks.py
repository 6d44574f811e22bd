"""What every part of audio shares: samples and rates that are none of sound are refused."""

from __future__ import annotations

import errno
import os
import stat

import numpy as np

from usepcli.errors import BadInput
from usepcli.files import show as show

PathLike = str | os.PathLike[str]
LEAST_HZ, MOST_HZ = 500, 4_000_000  # infrasound of elephants and bats in a tank lie within


def check_finite(wave: np.ndarray, path: PathLike) -> None:
    """Raise BadInput if any sample is NaN or infinite."""
    if not np.isfinite(wave).all():
        bad = int((~np.isfinite(wave)).sum())
        raise BadInput(f"{show(path)}: {bad} samples are NaN or infinite; repair or leave out the file")


def check_rate(rate: int, path: PathLike) -> None:
    """Raise BadInput for a sample rate (Hz) that no recording of sound has: resampled, seconds would become days."""
    if not LEAST_HZ <= rate <= MOST_HZ:
        raise BadInput(
            f"{show(path)}: a sample rate of {rate} Hz; expected {LEAST_HZ} to {MOST_HZ}; the header is wrong, replace "
            "or leave out the file"
        )


def regular(path: str, flags: int) -> int:
    """Open as `os.open` does (an opener for `open`), but only what is a file; BadInput for a pipe, socket or device.

    Opening a pipe waits for somebody who writes into it, and reading a terminal for somebody who types.
    """
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return handle
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise BadInput(f"{show(path)}: is no regular file; pipe it in with - where the command takes it")
