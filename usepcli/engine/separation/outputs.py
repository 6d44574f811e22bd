"""Writing sources: the sample format that suits the input, and one common gain where something would clip."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from usepcli.audio import io
from usepcli.audio.metadata import Tags
from usepcli.engine.separation.rounding import SumRounding
from usepcli.engine.separation.stored import Stored
from usepcli.errors import BadInput

CLIPS = ("gain", "error", "allow")
_HOLDS_ALL = ("FLOAT", "DOUBLE")
_WIDE = ("PCM_16", "PCM_24", "PCM_32")
# What libsndfile decodes to integers of so many bits.
_DECODED = {name: "PCM_16" for name in ("ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610", "ALAC_16")}
_DECODED |= {"ALAC_20": "PCM_24", "ALAC_24": "PCM_24", "ALAC_32": "PCM_32"}
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
    """How many samples per channel were written, and the gain that kept them within full scale.

    `step` is the resolution of an integer format, else 0; `sum_peak` and `sum_power` say what the sum of such
    files misses of the sum of the sources by rounding; `lost` names the tags that the format cannot hold; `stored` is
    what was measured on each output as it was written.
    """

    frames: int
    gain: float
    stored: Stored
    step: float = 0.0
    sum_peak: float = 0.0
    sum_power: float = 0.0
    lost: tuple[str, ...] = ()

    @property
    def gain_db(self) -> float:
        """The gain in dB."""
        return 20 * math.log10(self.gain)


class _WouldClip(Exception):
    pass


class _LeftOut(Exception):
    pass


class Anew(Exception):
    """Raised by what produces sources, at their end: all of them are to be asked for, and written, once more."""


class _Slot:
    """A file being written; what is not wanted at the end is thrown away, whatever its writer made."""

    def __init__(self, writer: io.Writer) -> None:
        self.writer, self.wanted, self.placed = writer, True, False

    def __enter__(self) -> _Slot:
        self.writer.__enter__()
        return self

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        if kind is None and not self.wanted:
            kind = _LeftOut
        self.writer.__exit__(kind, value, trace)
        self.placed = kind is None


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
    clip: str = "gain",
    wanted: Callable[[], Sequence[bool]] | None = None,
    tags: Tags | None = None,
) -> Written:
    """Write the pieces (N, C, t) of `produce()` to N files at once, times one gain: all of them or, on a fault, none.

    If a sample would leave the range of the format, `clip` decides: "gain" discards the files, measures the peak
    of the whole, and calls `produce` again for the gain that fits it; "error" raises BadInput; "allow" limits the
    samples. Where `produce` ends in Anew, all begins again. Integer files add up to the rounded sum of the sources.
    `wanted`, asked at the end, tells which files stay; `tags` go into every file. `frames` is the expected length;
    unknown (0), a WAV header leaves room for more than 4 GiB.
    """
    step = _step(subtype)
    while True:
        pieces = produce()
        top, rounded, stored = Peak(), SumRounding(step) if step else None, Stored(rate, len(paths), channels)
        slots = [_Slot(io.Writer(p, rate, channels, subtype, overwrite, frames=frames, tags=tags)) for p in paths]
        try:
            with ExitStack() as stack:
                for slot in slots:
                    stack.enter_context(slot)
                for piece in pieces:
                    top.add(piece)
                    if step is not None and clip != "allow" and not top.fits(gain, step):
                        raise _WouldClip
                    waves = rounded(piece, gain) if rounded else piece * np.float32(gain) if gain != 1 else piece
                    stored.push(waves)
                    for slot, wave in zip(slots, waves, strict=True):
                        slot.writer.write(wave)
                for slot, stays in zip(slots, wanted() if wanted else [True] * len(slots), strict=True):
                    slot.wanted = stays
            lost = slots[0].writer.lost
            if rounded is None:
                return Written(top.frames, gain, stored, lost=lost)
            return Written(top.frames, gain, stored, rounded.step, rounded.peak, rounded.power, lost)
        except Anew:
            continue
        except _WouldClip:
            try:
                for piece in pieces:
                    top.add(piece)
            except Anew:
                continue
            if clip == "error":
                raise BadInput(_beyond(paths[0], subtype)) from None
            gain = top.gain(step or 0.0)
        except BaseException:
            for slot in slots:  # a file of two outputs that has one is as bad as half an output
                slot.writer.discard()
                if slot.placed:
                    slot.writer.path.unlink(missing_ok=True)
            raise


def _beyond(path: Path, subtype: str) -> str:
    return (
        f"{io.show(path)}: a sample would leave the range of {subtype}; "
        "expected none with --clip error, use --clip gain or --subtype FLOAT"
    )


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


def on_grid(subtype: str, step: float) -> bool:
    """True if every sample of a file of this subtype is a multiple of `step`."""
    own = _step(_DECODED.get(subtype, subtype))
    return bool(own) and step <= (own or 0.0)


def _step(subtype: str) -> float | None:
    """Return the resolution of an integer format, 0 for other bounded ones, None for float files."""
    if subtype in _HOLDS_ALL:
        return None
    digits = "".join(filter(str.isdigit, subtype))
    return 2.0 ** (1 - int(digits)) if subtype.startswith("PCM_") else 0.0
