"""Sound of long recordings inside a page: MP3 of constant bitrate, as good as the length allows, made block by block.

At a constant bitrate every moment lies at the same place in every track, so that all of them seek alike. A player
learns from the tag in the first frame (Xing's, with LAME's fields) where the sound begins and ends to the sample; LAME
leaves it out where it does not fit into a frame of the bitrate, and then `Encoder` puts a larger frame there.
"""

from __future__ import annotations

import base64
import io as _io
import math
from dataclasses import dataclass

import numpy as np
import soundfile as sf

from usepcli.audio.resample import StreamResampler

# From the best to the smallest: rate (Hz) and channels at most, kbit/s of a track.
_MONO = ((48_000, 1, 64), (24_000, 1, 48), (24_000, 1, 40), (24_000, 1, 32), (16_000, 1, 24))
_STEREO = ((48_000, 2, 128), (48_000, 2, 96), (24_000, 2, 64), *_MONO[1:])
# By the rates of MPEG-1, MPEG-2 and "MPEG-2.5": bitrates of layer III by their index in the header (ISO 11172-3 and
# 13818-3); libsndfile maps compression 0 to the largest and 1 to the smallest, in a straight line.
_LARGE = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_SMALL = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_BITRATES = {
    **dict.fromkeys((48_000, 44_100, 32_000), _LARGE), **dict.fromkeys((24_000, 22_050, 16_000), _SMALL),
    **dict.fromkeys((12_000, 11_025, 8_000), _SMALL[:9]),
}  # fmt: skip
MP3_RATES = tuple(sorted(_BITRATES))
_MOST_BITS = 4.0  # a sample: at low rates more is not heard
_SOFTER = np.float32(0.95)  # LAME turns sound down by this at up to 160 kbit/s, against clipping; undone here
_DELAY = 576  # of LAME, in samples; players add that of a decoder, 529
_TAG = 192  # bytes of a frame that holds header, side information and tag


@dataclass(frozen=True)
class Coding:
    """How the tracks of a page are stored: Hz, channels at most, and kbit/s of each."""

    rate: int
    channels: int
    kbps: int

    @property
    def frame(self) -> int:
        """Samples of a frame."""
        return 1152 if self.rate >= 32_000 else 576

    def text(self, seconds: float) -> int:
        """Return the most characters that one track takes as base64."""
        frames = seconds * self.rate / self.frame + 5  # delay, filling, tag
        return 4 * math.ceil((frames * (self.kbps * 125 * self.frame / self.rate + 1) + 2 * _TAG) / 3)

    def __str__(self) -> str:
        channels = {1: "one channel", 2: "two channels"}[self.channels]
        return f"MP3 at {self.rate / 1000:g} kHz, {channels}, {self.kbps} kbit/s"


def coding(seconds: float, tracks: int, rate: int, channels: int, most: int) -> Coding | None:
    """Return the best coding with which tracks of that length take `most` characters in all; None if none does.

    Rate and channels never grow, but for rates below 8 kHz, which MP3 does not know.
    """
    for top, few, kbps in _STEREO if channels > 1 else _MONO:
        kept = max((known for known in MP3_RATES if known <= min(rate, top)), default=MP3_RATES[0])
        useful = min(kbps, _MOST_BITS * kept * few / 1000)
        found = Coding(kept, few, max(known for known in _BITRATES[kept] if known <= useful))
        if tracks * found.text(seconds) <= most:
            return found
    return None


class Encoder:
    """A track on its way into a page: `push` blocks (C, t) with C at most two, then `finish`."""

    def __init__(self, rate: int, channels: int, how: Coding) -> None:
        self.how, self.channels, self.frames = how, min(channels, how.channels), 0
        self._blank = np.zeros((channels, 0), np.float32)
        self._sampler = StreamResampler(rate, how.rate, self.channels)
        self._sink = _io.BytesIO()
        known = _BITRATES[how.rate]
        self._file = sf.SoundFile(
            self._sink, "w", how.rate, self.channels, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="CONSTANT",
            compression_level=(known[-1] - how.kbps) / (known[-1] - known[1]),
        )  # fmt: skip

    def push(self, block: np.ndarray, last: bool = False) -> None:
        """Add a block; two channels become their mean where one is to be stored."""
        few = block if len(block) == self.channels else block.mean(0, keepdims=True)
        ready = self._sampler.push(few.astype(np.float32, copy=False), last)
        self.frames += ready.shape[1]
        self._file.write(ready.T / _SOFTER)

    def finish(self) -> str:
        """Return the whole track as base64."""
        self.push(self._blank, last=True)
        self.close()
        return base64.b64encode(tagged(self._sink.getvalue(), self.frames, self.how)).decode("ascii")

    def close(self) -> None:
        """Let go of what is not finished; safe to call twice."""
        self._file.close()  # while what it writes to is there


def tagged(mp3: bytes, frames: int, how: Coding) -> bytes:
    """Return MP3 of constant bitrate with a tag that says which `frames` samples are the sound; LAME's own stays."""
    if b"Info" in mp3[:64]:
        return mp3
    # The header: four bits of bitrate in its third byte, then two of rate, one of filling, one private.
    sizes = [how.frame // 8 * kbps * 1000 // how.rate for kbps in _BITRATES[how.rate]]
    index = next(k for k, size in enumerate(sizes) if size >= _TAG)
    head = bytes([mp3[0], mp3[1], index << 4 | mp3[2] & 0b1100, mp3[3]])
    alone = mp3[3] >> 6 == 3
    side = (17 if alone else 32) if how.frame == 1152 else (9 if alone else 17)
    # Some frames of some rates have a byte more, so that the bitrate holds on the average.
    count, total = round(len(mp3) * how.rate / (how.frame // 8 * how.kbps * 1000)), len(mp3) + sizes[index]
    xing = b"Info" + b"".join(n.to_bytes(4, "big") for n in (0b0111, count, total))
    xing += bytes(256 * k // 100 for k in range(100))
    past = max(0, count * how.frame - _DELAY - frames)
    lame = b"LAME3.100" + bytes([1]) + bytes(10) + bytes([min(how.kbps, 255)])
    lame += (_DELAY << 12 | min(past, 4095)).to_bytes(3, "big") + bytes(4) + total.to_bytes(4, "big") + bytes(4)
    return (head + bytes(side) + xing + lame).ljust(sizes[index], b"\0") + mp3
