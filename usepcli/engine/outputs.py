"""Writing sources: the sample format that suits the input, and one common gain where something would clip."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from usepcli.audio import io

_HOLDS_ALL = ("FLOAT", "DOUBLE")
_WIDE = ("PCM_16", "PCM_24", "PCM_32")
_PCM = {".wav": ("PCM_U8", *_WIDE), ".flac": ("PCM_S8", "PCM_16", "PCM_24")}


def default_subtype(info: io.Info, suffix: str) -> str:
    """Return the subtype for a file derived from `info`: float stays float, integers keep their width.

    Where the output format lacks it, the nearest that loses nothing; PCM_16 for what was lossy.
    """
    known = _PCM.get(suffix.lower(), _WIDE)
    if info.subtype in _HOLDS_ALL:
        return "PCM_24" if suffix.lower() == ".flac" else "FLOAT"
    if info.subtype in known:
        return info.subtype
    near = {"PCM_32": "PCM_24", "PCM_S8": "PCM_U8", "PCM_U8": "PCM_S8"}.get(info.subtype, "PCM_16")
    return near if near in known else "PCM_16"


@dataclass(frozen=True)
class Written:
    """How many samples per channel were written, and the gain that kept them within full scale."""

    frames: int
    gain: float

    @property
    def gain_db(self) -> float:
        """The gain in dB."""
        return 20 * math.log10(self.gain)


class _WouldClip(Exception):
    pass


def write_all(
    paths: Sequence[Path],
    rate: int,
    channels: int,
    subtype: str,
    produce: Callable[[], Iterator[np.ndarray]],
    *,
    gain: float = 1.0,
    overwrite: bool = False,
    frames: int = 0,
) -> Written:
    """Write the pieces (N, C, t) of `produce()` to N files at once, times one gain.

    If a sample would leave the range of the format, the files are discarded, the peak of the whole is
    measured, and `produce` is called again with the gain that fits it. Final names appear only when all is
    written. `frames` is the expected length; unknown (0), a WAV header leaves room for more than 4 GiB.
    """
    step = _step(subtype)
    while True:
        pieces = produce()
        top = Peak()
        try:
            with ExitStack() as stack:
                writers = [io.Writer(p, rate, channels, subtype, overwrite, frames=frames) for p in paths]
                files = [stack.enter_context(writer) for writer in writers]
                for piece in pieces:
                    top.add(piece)
                    if step is not None and not top.fits(gain, step):
                        raise _WouldClip
                    for file, wave in zip(files, piece, strict=True):
                        file.write(wave * np.float32(gain) if gain != 1 else wave)
                return Written(top.frames, gain)
        except _WouldClip:
            for piece in pieces:
                top.add(piece)
            gain = top.gain(step or 0.0)


class Peak:
    """Extreme values and length of a stream of pieces (..., t)."""

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self.frames = 0

    def add(self, piece: np.ndarray) -> None:
        """Take a piece into account."""
        self.frames += piece.shape[-1]
        self.low = min(self.low, float(piece.min(initial=0.0)))
        self.high = max(self.high, float(piece.max(initial=0.0)))

    def fits(self, gain: float, step: float) -> bool:
        """True if no sample times gain leaves [-1, 1 - step] by more than rounding to a code brings back."""
        return self.high * gain <= 1 - step / 2 and -self.low * gain <= 1 + step / 2

    def gain(self, step: float) -> float:
        """Return the largest gain at which every sample stays within [-1, 1 - step]."""
        # The small margin covers the float32 product.
        return 0.999999 * min((1 - step) / max(self.high, 1e-30), 1 / max(-self.low, 1e-30))


def _step(subtype: str) -> float | None:
    """Return the resolution of an integer format, 0 for other bounded ones, None for float files."""
    if subtype in _HOLDS_ALL:
        return None
    digits = "".join(filter(str.isdigit, subtype))
    return 2.0 ** (1 - int(digits)) if subtype.startswith("PCM_") else 0.0
