"""Where the samples lie inside a WAV file, read from its first bytes without a decoder."""

from __future__ import annotations

import struct
from typing import NamedTuple

_PCM, _EXTENSIBLE = 1, 0xFFFE
_UNKNOWN = 0x7FFFF000  # programs that stream into a pipe declare this much or more


class WavLayout(NamedTuple):
    """Place and kind of a WAV file's samples; `declared` is the number of bytes that the header claims."""

    codec: int
    channels: int
    rate: int
    bits: int
    offset: int
    declared: int | None

    @property
    def is_pcm16_mono(self) -> bool:
        """Return True where the body is one channel of 16-bit little-endian integers."""
        return self.codec == _PCM and self.channels == 1 and self.bits == 16


def parse_wav(head: bytes) -> WavLayout | None:
    """Read the RIFF chunks in a file's first bytes; None if it is no WAV or its data lie further on."""
    if len(head) < 12 or head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    at, form = 12, None
    while at + 8 <= len(head):
        name, size = head[at : at + 4], struct.unpack_from("<I", head, at + 4)[0]
        if name == b"fmt " and at + 24 <= len(head):
            codec, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", head, at + 8)
            if codec == _EXTENSIBLE and size >= 26 and at + 34 <= len(head):
                codec = struct.unpack_from("<H", head, at + 32)[0]  # the sub-format's first two bytes
            form = (codec, channels, rate, bits)
        elif name == b"data":
            return None if form is None else WavLayout(*form, at + 8, None if size >= _UNKNOWN else size)
        at += 8 + size + size % 2  # chunks are padded to even lengths
    return None
