"""Sound files read in parts at one rate, the same to the last bit whether what was decoded is kept in memory or not.

A file is cut into blocks of about BLOCK_S on a grid that depends on its rate alone.  What is resampled, or is an MP3
longer than LONG_S (whose samples depend in their last bit on where the decoder set in), is always made block by block,
with LEAD_S more at either end, so that a stretch has the same bits however it is asked for.  Of all else exactly the
samples that are asked for are read.  Files of at most LONG_S in which no decoder finds a place to the bit are decoded
from the beginning, once where they are kept.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from usepcli.audio import io
from usepcli.audio.resample import length_after, resample
from usepcli.data.kept import Kept
from usepcli.errors import BadInput

LONG_S = 600.0
LEAD_S = 0.1  # longer than the resampler's filter
BLOCK_S = 5.0
_HEADERS = 1 << 16  # remembered at once: a million of them would be half a gigabyte in every worker


class AudioStore:
    """Reads mono segments at one rate.  kept: where decoded blocks stay.  channels: "mix", their mean, or "first"."""

    def __init__(self, rate: int, kept: Kept | None = None, channels: str = "mix") -> None:
        self.rate, self.kept, self.channels = rate, kept, channels
        self.read_last = Path()  # the file that was asked for last
        self._headers: dict[str, io.Info] = {}

    def header(self, path: Path) -> io.Info:
        """Return what a file says about itself, read when it is first asked for; errors of `io.info`."""
        self.read_last, name = path, str(path)
        if (known := self._headers.get(name)) is None:
            known = io.info(path)
            while len(self._headers) >= _HEADERS:
                del self._headers[next(iter(self._headers))]
            self._headers[name] = known
        return known

    def length(self, path: Path, speed: float = 1.0) -> int:
        """Return how many samples a file has at the store's rate, played `speed` times faster; BadInput for none."""
        said = self.header(path)
        if not said.frames:
            raise BadInput(f"{io.show(path)}: a header without samples; replace or leave out the file")
        return length_after(said.frames, round(said.rate * speed), self.rate)

    def whole(self, path: Path, speed: float = 1.0) -> np.ndarray:
        """Return one file as float32 (T,), played `speed` times faster by resampling (pitch moves along).

        BadInput if the file is empty, holds a value that is not finite, or less than its header says.
        """
        return self.segment(path, 0, self.length(path, speed), speed)

    def segment(self, path: Path, start: int, frames: int, speed: float = 1.0) -> np.ndarray:
        """Return float32 (frames,) from sample `start`, fewer where the file ends; errors as for `whole`."""
        end = min(start + frames, self.length(path, speed))
        if start >= end:
            return np.zeros(0, np.float32)
        said = self.header(path)
        exact = round(said.rate * speed) == self.rate and said.seeks and not _mpeg(said)
        if exact and self.kept is None:
            return self._own(path, start, end - start)
        size, parts = self._block(said, speed), list[np.ndarray]()
        decoded: np.ndarray | None = None
        for k in range(start // size, -(-end // size)):
            first, last = max(start - k * size, 0), min(end - k * size, size)
            found = self.kept.find(_name(path, speed, k), first, last - first) if self.kept is not None else None
            if found is None and exact and not self._room(last):
                found = self._own(path, k * size + first, last - first)
            elif found is None:
                if decoded is None and _from_start(said):
                    decoded = self._own(path, 0, said.frames)
                    self._keep_all(path, speed, decoded)
                found = self._made(path, speed, k, decoded)[first:last]
            parts.append(found)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _room(self, count: int) -> bool:
        return self.kept is not None and self.kept.room(count)

    def _keep_all(self, path: Path, speed: float, decoded: np.ndarray) -> None:
        size, total = self._block(self.header(path), speed), self.length(path, speed)
        for k in range(-(-total // size)) if self._room(min(size, total)) else ():
            self._made(path, speed, k, decoded)

    def _made(self, path: Path, speed: float, k: int, decoded: np.ndarray | None) -> np.ndarray:
        """Return block k of a file, made of what is decoded of the file or of what is read for it, and keep it."""
        said, size = self.header(path), self._block(self.header(path), speed)
        own, begin, end = round(said.rate * speed), k * size, min((k + 1) * size, self.length(path, speed))
        lead = round(LEAD_S * self.rate) if own != self.rate else 0
        step = math.gcd(own, self.rate)
        taken, given = own // step, self.rate // step  # so many samples of the file are so many here
        first = max(0, begin - lead) // given
        start = first * taken
        count = min(math.ceil((end + lead - first * given) * own / self.rate), said.frames - start)
        wave = self._own(path, start, count) if decoded is None else decoded[start : start + count]
        if own != self.rate:
            wave = resample(wave, own, self.rate).astype(np.float32)
        wave = wave[begin - first * given :][: end - begin]
        if self.kept is not None:
            self.kept.add(_name(path, speed, k), wave)
        return wave

    def _block(self, said: io.Info, speed: float) -> int:
        """Return the length of a file's blocks at the store's rate: a whole number of samples of the file, too."""
        given = self.rate // math.gcd(round(said.rate * speed), self.rate)
        return given * math.ceil(BLOCK_S * self.rate / given)

    def _own(self, path: Path, start: int, count: int) -> np.ndarray:
        """Return samples of a file at its own rate; BadInput where there are fewer than its header says."""
        if self.channels == "mix":
            wave, _ = io.read_mono(path, start, count)
        else:
            several, _ = io.read(path, start, count)
            wave = several[0]
        if wave.size < count:
            raise BadInput(
                f"{io.show(path)}: {start + wave.size} samples can be decoded where its header says "
                f"{self.header(path).frames}; the file is cut short, replace or leave it out"
            )
        return wave


def _mpeg(said: io.Info) -> bool:
    return said.subtype.startswith("MPEG")


def _from_start(said: io.Info) -> bool:
    """Whether a file is decoded from its beginning wherever a stretch of it lies."""
    return said.seconds <= LONG_S and (_mpeg(said) or not said.seeks)


def _name(path: Path, speed: float, k: int) -> str:
    return f"{path}\0{speed!r}\0{k}"
