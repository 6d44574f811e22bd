"""A sound file that libsndfile reads, block by block as if in one piece."""

from __future__ import annotations

from typing import Any

import numpy as np
import soundfile as sf

from usepcli.audio import speakers
from usepcli.audio.formats import HEAD

# A seek forgets what the frames before it left to the decoder (MP3's bit reservoir, at most 511 bytes; the 80 ms
# before an Opus packet): so much is decoded and dropped after one.
_LEAD = 1 << 14
_WITH_MEMORY = {"MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III", "OPUS", "VORBIS"}
_CALLS = {"float32": ("sf_readf_float", "float *"), "float64": ("sf_readf_double", "double *")}


class PlainFile(sf.SoundFile):
    """soundfile's file with `take` and `move`, which read on where `read` would seek.

    `SoundFile.read` sets the position anew after each call. For MP3 that loses the bit reservoir: frames at the
    edges of blocks decode to noise or to nothing. Channels come in the order of WAV.
    """

    _at = 0
    total: int | None = None  # counted, where the header does not say
    left_over = 0  # bytes of the file that are sound, or may be, and are not read
    promised = 0  # samples per channel that a header claims; 0 where it leaves that open
    exact = True  # something in the file says where it ends

    def __init__(self, source: Any) -> None:
        super().__init__(source)
        order = speakers.coded(self.subtype, self.channels)
        if order and self.subtype == "OPUS" and not speakers.ordered(_head(source)):
            order = None
        self._order = None if order is None else list(order)

    @property
    def frames(self) -> int:
        """Samples per channel."""
        return super().frames if self.total is None else self.total

    @property
    def seeks(self) -> bool:
        """Whether a place is found without decoding all that lies before, as GSM 6.10 for one does not allow."""
        return bool(self.seekable())

    def take(self, frames: int = -1, dtype: str = "float32") -> np.ndarray:
        """Return the next `frames` samples (T, C), fewer at the end, -1 for all; LibsndfileError if decoding stops."""
        left = self.frames - self._at
        size = left if frames < 0 else min(frames, left)
        name, kind = _CALLS[dtype]
        part = np.empty((size, self.channels), dtype)
        got = getattr(sf._snd, name)(self._file, sf._ffi.cast(kind, part.ctypes.data), size)
        self._at += got
        sf._error_check(self._errorcode)
        return part[:got] if self._order is None else part[:got, self._order]

    def move(self, frame: int) -> None:
        """Go to sample `frame` so that what follows is what a reader from the start gets."""
        if not self.seeks:
            while (left := frame - self._at) > 0 and len(self.take(min(left, _LEAD))):
                pass
            return
        lead = _LEAD if self.subtype in _WITH_MEMORY else 0
        self._at = max(0, min(frame, self.frames) - lead)
        self.seek(self._at)
        self.take(frame - self._at)


def _head(source: Any) -> bytes:
    """Return the first bytes of a name or of what is open, which stays where libsndfile left it."""
    if isinstance(source, bytes):
        with open(source, "rb", buffering=0) as file:
            return file.read(HEAD)
    at = source.tell()
    source.seek(0)
    head = source.read(HEAD)
    source.seek(at)
    return bytes(head)
