"""The only code that reads and writes sound files: libsndfile through soundfile, and PyAV for what it does not know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from usepcli.audio import mpeg, raws
from usepcli.audio.checks import PathLike, check_finite, show
from usepcli.audio.chunks import survey
from usepcli.audio.codecs import CodecFile, require
from usepcli.audio.extent import decoding, extent, opened, read_head, tracks
from usepcli.audio.formats import AUDIO_SUFFIXES, CODEC_SUFFIXES, HEAD
from usepcli.audio.reading import reading
from usepcli.audio.riff import WavLayout, parse_wav
from usepcli.audio.writer import Writer, _Sink, write
from usepcli.errors import BadInput

__all__ = [
    "AUDIO_SUFFIXES", "Info", "PathLike", "Writer", "_Sink", "blocks", "check_codecs", "check_finite", "info",
    "is_cut_mp3", "is_open_ended", "missing_s", "read", "read_mono", "show", "tracks", "wav_layout", "write",
]  # fmt: skip
_PCM16 = np.float32(1 / 32768)


@dataclass(frozen=True)
class Info:
    """What a sound file says about itself; `frames` is the number of samples per channel that can be read.

    seeks: a place in it is found without decoding all that lies before.
    """

    rate: int
    frames: int
    channels: int
    subtype: str
    format: str
    seeks: bool = field(default=True, compare=False)

    @property
    def seconds(self) -> float:
        """Return the duration in seconds."""
        return self.frames / self.rate


def info(path: PathLike, track: int = 0) -> Info:
    """Read a file's header; InputNotFound, BadInput or MissingDependency when there is nothing to read.

    A header without samples is no error here (`frames` is 0); `read` refuses it. Where the header does not
    say how many samples there are, as in all that PyAV reads, they are counted once by decoding.
    """
    with opened(path, track) as file:
        return Info(file.samplerate, file.frames, file.channels, file.subtype, file.format, file.seeks)


def read(path: PathLike, start: int = 0, frames: int = -1, *, finite: bool = True) -> tuple[np.ndarray, int]:
    """Return `frames` samples from `start` (-1: to the end) as float32 (C, T) of full scale 1, and the rate.

    Fewer samples come back where the file ends earlier. BadInput for an empty or unreadable file, for a
    `start` behind the end, and, with `finite`, for NaN or infinite samples: none of these may pass as
    silence.
    """
    with opened(path) as file:
        rate = file.samplerate
        if start or not isinstance(file, CodecFile):
            _check_start(path, file.frames, start)
        if start:
            with decoding(path):
                file.move(start)
        wave = _next(path, file, frames, "float32")
        if frames < 0:
            _check_whole(path, file, start + wave.shape[1])
    if not wave.shape[1] and frames:
        raise BadInput(f"{show(path)}: not one sample can be decoded from sample {start} on; the file is cut short")
    if finite:
        check_finite(wave, path)
    return np.ascontiguousarray(wave), rate


def read_mono(path: PathLike, start: int = 0, frames: int = -1, *, finite: bool = True) -> tuple[np.ndarray, int]:
    """Read like `read` and return the mean of the channels, float32 (T,), and the rate in Hz."""
    with reading(path):
        fast = _read_pcm16_mono(path, start, frames)
    if fast is not None:
        return fast
    wave, rate = read(path, start, frames, finite=finite)
    return (wave[0] if len(wave) == 1 else wave.mean(axis=0, dtype=np.float32)), rate


def blocks(
    path: PathLike, frames: int, *, finite: bool = True, wide: bool = False, track: int = 0
) -> Iterator[np.ndarray]:
    """Yield the file as float32 blocks (C, <= frames) in constant memory; BadInput as for `read`.

    `wide` gives float64, which holds 32-bit integers exactly.
    """
    with opened(path, track) as file:
        if not isinstance(file, CodecFile):
            _check_start(path, file.frames, 0)
        done = 0
        while (block := _next(path, file, frames, "float64" if wide else "float32")).shape[1]:
            if finite:
                check_finite(block, path)
            yield np.ascontiguousarray(block)
            done += block.shape[1]
        _check_whole(path, file, done)


def check_codecs(path: PathLike) -> None:
    """Raise MissingDependency if a file of this suffix needs PyAV and there is none; opens nothing."""
    if Path(path).suffix.lower() in CODEC_SUFFIXES:
        require(path)


def wav_layout(path: PathLike) -> WavLayout | None:
    """Return where a WAV file keeps its samples and how many bytes it declares; None for other files."""
    try:
        return parse_wav(read_head(path))
    except OSError:
        return None


def missing_s(path: PathLike, track: int = 0) -> float:
    """Return the seconds that a file's header or size promises beyond what can be read, as after a broken download.

    Known for WAV, RF64, AIFF, CAF, W64, AU, joined MP3 and Ogg of different kinds, and what PyAV reads; FLAC and MP3
    that are cut raise BadInput when read. A cut OGG or Opus does not know what it lacks: see `is_open_ended`.
    """
    return extent(path, track).missing_s


def is_open_ended(path: PathLike) -> bool:
    """Return whether nothing in the file says where it ends, so that a cut one looks like a whole one.

    WAV from a pipe, or from a program that did not live to write the length; OGG or Opus without a last page;
    MP3 without a Xing tag.
    """
    return not extent(path).exact


def is_cut_mp3(path: PathLike) -> bool:
    """Return whether a file is an MP3 with fewer frames than its tag says; reading all of it would raise BadInput."""
    if info(path).format != "MP3":
        return False
    with raws.open_raw(path) as raw:
        return mpeg.look(raw).cut


def _next(path: PathLike, file: Any, frames: int, dtype: str) -> np.ndarray:
    try:
        with decoding(path):
            return file.take(frames, dtype).T
    except MemoryError as err:  # a damaged header may promise years
        raise BadInput(f"{show(path)}: its {file.frames} samples are more than the memory holds") from err


def _check_start(path: PathLike, total: int, start: int) -> None:
    if not total:
        raise BadInput(f"{show(path)}: a header without samples; replace or leave out the file")
    if not 0 <= start < total:
        raise BadInput(f"{show(path)}: holds {total} samples, sample {start} was asked for; the file is cut short")


def _check_whole(path: PathLike, file: Any, done: int) -> None:
    # mpg123 ends a cut file without an error; the Xing tag in its first frame knows the whole length.
    if file.format == "MP3" and done < file.frames:
        raise BadInput(
            f"{show(path)}: decoding stopped after {done} of {file.frames} samples; the file is cut short, "
            "replace or leave it out"
        )


def _read_pcm16_mono(path: PathLike, start: int, frames: int) -> tuple[np.ndarray, int] | None:
    """Read a mono PCM16 WAV with one system call; None sends every other file or fault to libsndfile."""
    try:
        file = raws.open_raw(path)
    except OSError:
        return None
    try:
        layout = parse_wav(raws.read_at(file, HEAD, 0))
        if layout is None or not layout.is_pcm16_mono or layout.declared is None:
            return None
        size = raws.size(file)
        if layout.offset + layout.declared < size and _goes_on(file, layout, size):
            return None
        total = max(0, min(layout.declared, size - layout.offset)) // 2
        _check_start(path, total, start)
        count = total - start if frames < 0 else min(frames, total - start)
        data = raws.read_at(file, 2 * count, layout.offset + 2 * start)
    except OSError:
        return None
    finally:
        file.close()
    if len(data) != 2 * count:
        return None
    return np.frombuffer(data, "<i2").astype(np.float32) * _PCM16, layout.rate


def _goes_on(file: BinaryIO, layout: WavLayout, size: int) -> bool:
    body = survey(file)
    return body is None or body.parts != ((layout.offset, min(layout.declared or 0, size - layout.offset)),)
