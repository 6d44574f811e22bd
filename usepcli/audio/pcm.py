"""Samples as bytes, without a file around them: what pipes carry, and what a WAV header of a stream says of them.

Integers of b bits are multiples of 2^(1 - b) in [-1, 1); rounding goes to the nearest, and beyond full scale saturates.
"""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from usepcli.audio.checks import LEAST_HZ, MOST_HZ
from usepcli.audio.riff import WavLayout, is_open, parse_wav
from usepcli.errors import BadInput, UsageError, choices

# Name, as FFmpeg has it -> NumPy's kind; three bytes have none, and the laws of telephony are tables.
CODES = {
    "u8": "u1", "s16le": "<i2", "s16be": ">i2", "s24le": "", "s24be": "", "s32le": "<i4", "s32be": ">i4",
    "f32le": "<f4", "f32be": ">f4", "f64le": "<f8", "f64be": ">f8", "mulaw": "", "alaw": "",
}  # fmt: skip
# What libsndfile calls them.
SUBTYPES = {
    "u8": "PCM_U8", "s16": "PCM_16", "s24": "PCM_24", "s32": "PCM_32", "f32": "FLOAT", "f64": "DOUBLE",
    "mulaw": "ULAW", "alaw": "ALAW",
}  # fmt: skip
WRITTEN = {"PCM_U8": "u8", "PCM_16": "s16le", "PCM_24": "s24le", "PCM_32": "s32le", "FLOAT": "f32le", "DOUBLE": "f64le"}
LAWS = ("mulaw", "alaw")
MOST_CHANNELS = 64
_WAV_CODES = {
    (1, 8): "u8", (1, 16): "s16le", (1, 24): "s24le", (1, 32): "s32le", (3, 32): "f32le", (3, 64): "f64le",
    (6, 8): "alaw", (7, 8): "mulaw",
}  # fmt: skip
_LONGEST_HEAD = 1 << 24  # bytes of chunks before the samples


class Pcm(NamedTuple):
    """How the bytes of a stream are samples: rate in Hz, interleaved channels, and one of CODES."""

    rate: int
    channels: int
    code: str

    @property
    def width(self) -> int:
        """Bytes of one sample."""
        return bytes_of(self.code)

    @property
    def frame(self) -> int:
        """Bytes of one sample of every channel."""
        return self.width * self.channels

    @property
    def subtype(self) -> str:
        """What libsndfile calls such samples."""
        return SUBTYPES[self.code.removesuffix("le").removesuffix("be")]

    def decode(self, data: bytes) -> np.ndarray:
        """Return whole frames of bytes as float32 (channels, T)."""
        flat = decode(data, self.code)
        return np.ascontiguousarray(flat.reshape(-1, self.channels).T)

    def __str__(self) -> str:
        several = f"{self.channels} channels" if self.channels > 1 else "1 channel"
        return f"{self.rate} Hz, {several}, {self.code}"


def bytes_of(code: str) -> int:
    """Return the bytes of one sample."""
    digits = "".join(filter(str.isdigit, code))
    return int(digits or 8) // 8


def asked(text: str, option: str = "--pcm") -> Pcm:
    """Read RATE[:CHANNELS[:FORMAT]]; UsageError for anything else. One channel of s16le is usual."""
    parts = text.split(":")
    rate, channels, code = [*parts, *("", "1", "s16le")[len(parts) :]][:3]
    if len(parts) > 3 or not (rate.isascii() and rate.isdigit() and channels.isascii() and channels.isdigit()):
        raise UsageError(f"{option}: found '{text}'; expected RATE[:CHANNELS[:FORMAT]], e.g. 16000:1:s16le")
    if not LEAST_HZ <= int(rate) <= MOST_HZ:
        raise UsageError(f"{option}: found a rate of {rate} Hz; expected {LEAST_HZ} to {MOST_HZ}")
    if not 1 <= int(channels) <= MOST_CHANNELS:
        raise UsageError(f"{option}: found {channels} channels; expected 1 to {MOST_CHANNELS}")
    if code not in CODES:
        raise UsageError(f"{option}: {choices('format of samples', code, CODES)}")
    return Pcm(int(rate), int(channels), code)


def decode(data: bytes, code: str) -> np.ndarray:
    """Return samples (n,) as float32, full scale 1."""
    if code in LAWS:
        return _law(code)[np.frombuffer(data, np.uint8)]
    if code.startswith("s24"):
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        read = np.frombuffer(data, np.uint8).reshape(-1, 3)
        wide[:, 1:] = read if code == "s24le" else read[:, ::-1]
        return wide.view("<i4")[:, 0].astype(np.float32) * np.float32(2.0**-31)
    found = np.frombuffer(data, CODES[code])
    if code[0] == "f":
        with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, and is refused as such
            return found.astype(np.float32)
    if code == "u8":
        return (found.astype(np.float32) - 128) * np.float32(1 / 128)
    return found.astype(np.float32) * np.float32(2.0 ** (1 - 8 * bytes_of(code)))


def encode(wave: np.ndarray, code: str) -> tuple[bytes, int]:
    """Return the samples (C, t) as interleaved bytes, and how many of them were beyond full scale and are limited."""
    flat = np.ascontiguousarray(wave.T).ravel()
    if code[0] == "f":
        return flat.astype(CODES[code]).tobytes(), 0
    bits = _bits(code)
    top = 2.0 ** (bits - 1)
    half = np.float64(0.5 / top)
    limited = int(np.count_nonzero((flat > 1 - half) | (flat < -1 - half)))
    found = codes(flat, bits)
    if code == "u8":
        return (found + 128).astype(np.uint8).tobytes(), limited
    if code in LAWS:
        return _by_law(found, code), limited
    if code.startswith("s24"):
        low = found.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3]
        return np.ascontiguousarray(low if code == "s24le" else low[:, ::-1]).tobytes(), limited
    return found.astype(CODES[code]).tobytes(), limited


def stored(wave: np.ndarray, code: str) -> np.ndarray:
    """Return samples as `encode` stores them, rounded and limited; those of the laws as they come to their tables."""
    return wave if code[0] == "f" else codes(wave, _bits(code)) / 2.0 ** (_bits(code) - 1)


def _bits(code: str) -> int:
    return 16 if code in LAWS else 8 * bytes_of(code)


def codes(wave: np.ndarray, bits: int) -> np.ndarray:
    """Return samples as whole numbers, float64, of an integer format."""
    # libsndfile scales by 2**15 - 1 on writing but by 2**15 on reading, which would change a copied file.
    top = 2.0 ** (bits - 1)
    found: np.ndarray = np.clip(np.rint(wave * np.float64(top)), -top, top - 1)
    return found


@functools.cache
def _law(code: str) -> np.ndarray:
    """Return what libsndfile makes of each of the 256 codes of a law."""
    import soundfile as sf

    every = io.BytesIO(bytes(range(256)))
    return sf.read(
        every, dtype="float32", format="RAW", subtype=SUBTYPES[code], samplerate=8000, channels=1
    )[0]  # fmt: skip


def _by_law(found: np.ndarray, code: str) -> bytes:
    """Return what libsndfile makes of codes of 16 bits by a law."""
    import soundfile as sf

    sink = io.BytesIO()
    sf.write(sink, found.astype(np.int16), 8000, format="RAW", subtype=SUBTYPES[code])
    return sink.getvalue()


def wav_head(read: Callable[[int], bytes], name: str) -> tuple[Pcm, int | None]:
    """Read a WAV stream up to its first sample: how its samples are written, and their bytes, None where that is open.

    `read(n)` gives n bytes, fewer only at the end. BadInput where there is no header, or none that a stream can have.
    """
    begin = read(12)
    if not begin:
        raise BadInput(f"{name}: is empty (0 bytes); the program before the pipe may have failed")
    if begin[:4] not in (b"RIFF", b"RF64", b"BW64") or begin[8:] != b"WAVE":
        raise BadInput(
            f"{name}: begins with {begin[:4]!r}; live takes WAV, or headerless samples with --pcm "
            "RATE:CHANNELS:FORMAT; decode others before the pipe: ffmpeg -i IN -f wav -"
        )
    form, whole = b"", None
    for _ in range(_LONGEST_HEAD // 8):
        head = read(8)
        if len(head) < 8:
            break
        kind, size = head[:4], int.from_bytes(head[4:], "little")
        if kind == b"data":
            found = parse_wav(b"RIFF\xff\xff\xff\xffWAVE" + form + head)
            bytes_held = whole if size == 0xFFFFFFFF and whole else None if is_open(size) or not size else size
            return _layout(found, name), bytes_held
        if size > _LONGEST_HEAD:
            break
        body = read(size + size % 2)
        form = head + body if kind == b"fmt " else form
        whole = struct.unpack_from("<Q", body, 8)[0] if kind == b"ds64" and len(body) >= 16 else whole
    raise BadInput(f"{name}: a WAV header without samples behind it; the program before the pipe may have failed")


def _layout(found: WavLayout | None, name: str) -> Pcm:
    if found is None:
        raise BadInput(f"{name}: a WAV header that does not say how its samples are written")
    code = _WAV_CODES.get((found.codec, found.bits))
    if code is None:
        raise BadInput(
            f"{name}: WAV of kind {found.codec} with {found.bits} bits; live takes integers, floats, A-law and mu-law; "
            "decode it before the pipe: ffmpeg -i IN -f wav -"
        )
    if not LEAST_HZ <= found.rate <= MOST_HZ or not 1 <= found.channels <= MOST_CHANNELS:
        raise BadInput(
            f"{name}: a WAV header of {found.channels} channels at {found.rate} Hz; expected 1 to {MOST_CHANNELS} at "
            f"{LEAST_HZ} to {MOST_HZ} Hz"
        )
    return Pcm(found.rate, found.channels, code)
