"""Sound files written block by block, complete or not at all (libsndfile through soundfile)."""

from __future__ import annotations

import errno
import io
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import soundfile as sf

from usepcli import files
from usepcli.audio import pcm, speakers
from usepcli.audio.checks import PathLike, check_finite, show
from usepcli.audio.formats import LOSSY, WRITABLE
from usepcli.audio.metadata import Tags
from usepcli.audio.tagging import NOTHING, Fit, fit
from usepcli.errors import OutputError

_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
_RF64_DOWNGRADE = 0x1210  # libsndfile's SFC_RF64_AUTO_DOWNGRADE: a plain WAV unless the 4 GiB are passed
_SPEAKERS = 0x1101  # SFC_SET_CHANNEL_MAP_INFO
_ADD_PEAK_CHUNK = 0x1050  # SFC_SET_ADD_PEAK_CHUNK: the chunk holds the time of day, so no two files would be equal
# Where libsndfile would refuse in riddles, or (Vorbis) crash: rates in Hz, most channels.
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_LIMITS: dict[str, tuple[tuple[int, ...] | range, int]] = {
    ".ogg": (range(1, 200_001), 255),
    ".opus": (_OPUS_RATES, 255),
    ".mp3": (_MP3_RATES, 2),
    ".flac": (range(1, 655_351), 8),
}


def write(path: PathLike, wave: np.ndarray, rate: int, subtype: str = "PCM_16", overwrite: bool = False) -> None:
    """Write (C, T) or (T,) samples, full scale 1 (or int16 as they are), under `path` in one step.

    The suffix gives the format. Integer formats round to the nearest code, so that reading and writing again
    changes nothing; beyond full scale they saturate. BadInput for non-finite samples, OutputError if the file
    exists or its format is unknown, IOFault (and no debris) if the disk is full.
    """
    wave = np.atleast_2d(wave)
    with Writer(path, rate, len(wave), subtype, overwrite, frames=wave.shape[1]) as writer:
        writer.write(wave)


class Writer:
    """A sound file written block by block; its final name appears only when the `with` block ends well.

    WAV files that pass 4 GiB become RF64. Errors as for `write`. `frames` is the expected length, if known; `tags` go
    into the file as far as its format holds them, `lost` names what it does not.
    """

    def __init__(
        self,
        path: PathLike,
        rate: int,
        channels: int,
        subtype: str = "PCM_16",
        overwrite: bool = False,
        *,
        frames: int = 0,
        tags: Tags | None = None,
    ) -> None:
        self.path, self.rate, self.channels = Path(path), rate, channels
        self.subtype = _subtype(self.path, subtype)
        _check_limits(self.path, rate, channels, self.subtype)
        self._order = speakers.back(speakers.coded(self.subtype, channels))
        self.frames = 0
        self._auto_rf64 = self.path.suffix.lower() == ".wav" and not 0 < frames * channels * 8 < 2**32
        tags = tags or Tags()
        if len(tags.speakers) != channels:
            tags = replace(tags, speakers=())  # they are those of other channels
        self._fit = fit(tags, self.path.suffix, rate, early=not self._auto_rf64)
        self._speakers = tags.speakers if "speaker positions" not in self._fit.lost else ()
        if not overwrite and os.path.lexists(self.path):
            raise OutputError(f"{show(path)}: exists already; choose another name or pass --overwrite")
        self._tmp = files.hidden(self.path)
        self._sink: _Sink | None = None
        self._file: Any = None  # a SoundFile once it is open

    @property
    def lost(self) -> tuple[str, ...]:
        """What of the tags the format cannot hold."""
        return self._fit.lost

    def __enter__(self) -> Writer:
        try:
            return self._open()
        except BaseException:  # Ctrl-C, too, comes between any two steps
            self.discard()
            raise

    def _open(self) -> Writer:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._sink = sink = _Sink(self._tmp, self._fit)
        except OSError as err:
            raise files.fault(self.path, err) from err
        container = "RF64" if self._auto_rf64 else "WAVEX" if self._speakers else WRITABLE[self.path.suffix.lower()]
        try:
            self._file = sf.SoundFile(sink, "w", self.rate, self.channels, self.subtype, format=container)
        except (sf.LibsndfileError, ValueError, TypeError) as err:
            if sink.fault:
                raise files.fault(self.path, sink.fault) from sink.fault
            reason = getattr(err, "error_string", str(err)).strip().removeprefix("Error : ").rstrip(".")
            raise OutputError(
                f"{show(self.path)}: cannot write {self.channels} channels at {self.rate} Hz: {reason}; "
                "choose another format"
            ) from err
        sf._snd.sf_command(self._file._file, _ADD_PEAK_CHUNK, sf._ffi.NULL, 0)
        if self._speakers:
            places = sf._ffi.new("int[]", self._speakers)
            sf._snd.sf_command(self._file._file, _SPEAKERS, places, sf._ffi.sizeof(places))
        if self._auto_rf64:
            sf._snd.sf_command(self._file._file, _RF64_DOWNGRADE, sf._ffi.NULL, 1)
        return self

    def write(self, block: np.ndarray) -> None:
        """Append a block (C, T), channels in the order of WAV, or, for one channel, (T,)."""
        block = np.atleast_2d(block)
        if len(block) != self.channels:
            raise ValueError(f"a block of {len(block)} channels for a file of {self.channels}")
        if block.dtype != np.int16:
            check_finite(block, self.path)
            block = _quantise(block, self.subtype)
        elif self.subtype in LOSSY.values():
            # Of int16 in two channels libsndfile 1.2.2 gives LAME twice what there is, not so of floats.
            block = block / np.float32(32768)
        try:
            coded = block if self._order is None else block[list(self._order)]
            self._file.write(np.ascontiguousarray(coded.T))
        except (sf.LibsndfileError, AssertionError) as err:  # soundfile asserts that all frames were taken
            raise files.fault(self.path, (self._sink and self._sink.fault) or err) from err
        self.frames += block.shape[1]

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        fault: OSError | None = None
        try:
            self._file.close()
        except sf.LibsndfileError as err:
            fault = OSError(errno.EIO, str(err))
        if self._sink:
            fault = self._sink.close(whole=kind is None) or fault
        if kind is None and fault is None:
            try:
                files.place(self._tmp, self.path)
                return
            except OSError as err:
                fault = err
        self.discard()
        if kind is None:
            raise files.fault(self.path, fault) from fault

    def discard(self) -> None:
        """Remove what was written, unless it has its final name by now; may be called at any time."""
        if self._file:
            with suppress(sf.LibsndfileError):
                self._file.close()  # before the file under it
        if self._sink:
            self._sink.close()
        with suppress(OSError):  # a name, or a folder, with which nothing could be made
            self._tmp.unlink()


class _Sink:
    """A file for libsndfile that keeps the system's own error, which libsndfile hides or ignores.

    The bytes that `fit` has for the middle of it stand in the file and not in what libsndfile sees.
    """

    def __init__(self, path: Path, fit: Fit = NOTHING) -> None:
        self._file = io.FileIO(path, "w+b")
        self._fit, self._gap = fit, fit.gap if fit.gap >= 0 else 1 << 62
        self._wide = len(fit.extra) if fit.gap >= 0 else 0
        self.fault: OSError | None = None

    def _goto(self, at: int) -> None:
        self._file.seek(at + (self._wide if at >= self._gap else 0))

    def write(self, data: bytes) -> int:
        try:
            done, at = 0, self.tell()
            while done < len(data):
                end = self._gap - at if at + done < self._gap else len(data)
                self._goto(at + done)
                done += self._file.write(memoryview(data)[done:end])
            return done
        except OSError as err:
            self.fault = err
            return 0

    def read(self, size: int = -1) -> bytes:
        at = self.tell()
        self._goto(at)
        size = min(size, self._gap - at) if size >= 0 and at < self._gap else size
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == os.SEEK_END:
            offset, whence = offset + self._virtual(self._file.seek(0, os.SEEK_END)), os.SEEK_SET
        at = offset + (self.tell() if whence == os.SEEK_CUR else 0)
        self._goto(at)
        return at

    def tell(self) -> int:
        return self._virtual(self._file.tell())

    def _virtual(self, at: int) -> int:
        return at if at <= self._gap else max(self._gap, at - self._wide)

    def close(self, whole: bool = False) -> OSError | None:
        """Close the file, with its tags where it is `whole`; return what failed."""
        try:
            if whole and self._fit.extra and not self.fault:
                with io.BufferedRandom(self._file) as file:  # which writes all or raises
                    if self._wide:
                        file.seek(self._gap)
                        file.write(self._fit.extra)
                    self._fit.finish(file, self._fit.extra)
            self._file.close()
        except OSError as err:
            self.fault = self.fault or err
        return self.fault


def check_suffix(path: Path) -> None:
    """Raise OutputError unless the name of a file says in which format it can be written."""
    if path.suffix.lower() in WRITABLE:
        return
    known = " ".join(sorted(WRITABLE))
    if not path.suffix:
        raise OutputError(f"{show(path)}: nothing in the name says which format; end it, choose from: {known}")
    raise OutputError(f"{show(path)}: unknown format '{path.suffix}'; choose from: {known}")


def _subtype(path: Path, subtype: str) -> str:
    check_suffix(path)
    suffix = path.suffix.lower()
    subtype = LOSSY.get(suffix, subtype)
    if not sf.check_format(WRITABLE[suffix], subtype):
        known = ", ".join(sf.available_subtypes(WRITABLE[suffix]))
        raise OutputError(f"{show(path)}: {suffix} files cannot hold {subtype}; choose from: {known}")
    return subtype


def _check_limits(path: Path, rate: int, channels: int, subtype: str) -> None:
    rates, most = _LIMITS.get(path.suffix.lower(), (range(1, 2**31), 1024))
    if rate not in rates:
        known = f"up to {rates[-1]}" if isinstance(rates, range) else " ".join(map(str, rates))
        raise OutputError(f"{show(path)}: {path.suffix} files cannot hold {rate} Hz; expected {known}, or take WAV")
    if not 1 <= channels <= most:
        raise OutputError(f"{show(path)}: {path.suffix} files hold up to {most} channels, found {channels}; take WAV")
    if speakers.bass_alone(subtype, rate, channels):
        raise OutputError(
            f"{show(path)}: of {channels} channels at {rate} Hz {path.suffix} files keep one as bass alone (LFE); "
            "expected up to 5 channels, take WAV or FLAC"
        )


def _quantise(block: np.ndarray, subtype: str) -> np.ndarray:
    """Round to the codes of an integer format."""
    bits = _BITS.get(subtype)
    if bits is None:
        return block
    found = pcm.codes(block, bits)
    if bits <= 16:
        return (found * 2 ** (16 - bits)).astype(np.int16)
    return (found.astype(np.int64) << (32 - bits)).astype(np.int32)
