"""Where the speakers of a recording stand among its channels.

Inside usep the order is that of WAV: front left, right, centre, bass (LFE), then rear and side. Vorbis and Opus have
the centre second and the bass last (Vorbis I, 4.3.9; RFC 7845, 5.1.1.2); libsndfile gives and takes channels as coded.
"""

from __future__ import annotations

import struct

import numpy as np

_EXTENSIBLE = 0xFFFE
# What a WAV of so many channels means that names no speakers, as bits of its mask.
_USUAL = {1: 0x4, 2: 0x3, 3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x70F, 8: 0x63F}
# libsndfile's number for each bit of a mask, from the lowest: front left, right, centre, bass, rear left, right, ...
_NUMBERS = (2, 3, 4, 11, 9, 10, 12, 13, 8, 14, 15)
# The coded channel that is each channel of WAV, by their number; beyond eight no order is agreed upon.
_CODED = {
    3: (0, 2, 1),
    5: (0, 2, 1, 3, 4),
    6: (0, 2, 1, 5, 3, 4),
    7: (0, 2, 1, 6, 5, 3, 4),
    8: (0, 2, 1, 7, 5, 6, 3, 4),
}
_SURROUND = 1  # Opus' mapping family with that order; 255 has none, 2 and 3 are ambisonics


def coded(subtype: str, channels: int) -> tuple[int, ...] | None:
    """Return which coded channel is each one of WAV for samples of libsndfile's `subtype`, None where they agree."""
    return _CODED.get(channels) if subtype in ("VORBIS", "OPUS") else None


def back(order: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Return the order that undoes another."""
    return order and tuple(int(place) for place in np.argsort(order))


def ordered(head: bytes) -> bool:
    """Return whether an Opus file that begins with these bytes has its channels in an order."""
    at = head.find(b"OpusHead")
    return at < 0 or head[at + 18 : at + 19] == bytes((_SURROUND,))


def bass_alone(subtype: str, rate: int, channels: int) -> bool:
    """Return whether a coder keeps nothing but the bass of its last channel (libvorbis 1.3.7, libopus 1.4)."""
    if subtype == "VORBIS":
        return channels == 6 and 40_000 <= rate <= 70_000
    return subtype == "OPUS" and 6 <= channels <= 8


def named(form: bytes) -> tuple[int, ...]:
    """Return libsndfile's numbers of the speakers in the `fmt ` chunk of a WAV, none where they are usual."""
    if len(form) < 24 or struct.unpack_from("<H", form)[0] != _EXTENSIBLE:
        return ()
    channels, mask = struct.unpack_from("<H", form, 2)[0], struct.unpack_from("<I", form, 20)[0]
    found = tuple(number for bit, number in enumerate(_NUMBERS) if mask >> bit & 1)
    return () if mask == _USUAL.get(channels) or len(found) != channels or mask >> len(_NUMBERS) else found
