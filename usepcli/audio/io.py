"""The only code that reads and writes sound files (libsndfile through soundfile)."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import soundfile as sf

from usepcli.audio.riff import WavLayout, parse_wav
from usepcli.errors import BadInput, InputNotFound, IOFault, OutputError

PathLike = str | os.PathLike[str]
_FORMATS = {
    ".wav": "WAV", ".rf64": "RF64", ".w64": "W64", ".aiff": "AIFF", ".aif": "AIFF", ".caf": "CAF",
    ".flac": "FLAC", ".ogg": "OGG", ".opus": "OGG", ".mp3": "MP3",
}  # fmt: skip
_LOSSY = {".ogg": "VORBIS", ".opus": "OPUS", ".mp3": "MPEG_LAYER_III"}
AUDIO_SUFFIXES = frozenset(_FORMATS)
_VIDEO_LIKE = frozenset({".m4a", ".aac", ".wma", ".mp4", ".mkv", ".mov", ".webm", ".avi"})
_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
_RF64_DOWNGRADE = 0x1210  # libsndfile's SFC_RF64_AUTO_DOWNGRADE: a plain WAV unless the 4 GiB are passed
_ADD_PEAK_CHUNK = 0x1050  # SFC_SET_ADD_PEAK_CHUNK: the chunk holds the time of day, so no two files would be equal
_HEAD = 4096
_PCM16 = np.float32(1 / 32768)


@dataclass(frozen=True)
class Info:
    """What a sound file says about itself; `frames` is the number of samples per channel that can be read."""

    rate: int
    frames: int
    channels: int
    subtype: str
    format: str

    @property
    def seconds(self) -> float:
        """Return the duration in seconds."""
        return self.frames / self.rate


def show(path: PathLike) -> str:
    """Return a path as printable text: bytes that are no UTF-8 appear as backslash escapes."""
    return os.fspath(path).encode("utf-8", "backslashreplace").decode("utf-8")


def info(path: PathLike) -> Info:
    """Read a file's header only; InputNotFound or BadInput when there is nothing to read.

    A header without samples is no error here (`frames` is 0); `read` refuses it.
    """
    with _open(path) as file:
        return Info(file.samplerate, file.frames, file.channels, file.subtype, file.format)


def read(path: PathLike, start: int = 0, frames: int = -1, *, finite: bool = True) -> tuple[np.ndarray, int]:
    """Return `frames` samples from `start` (-1: to the end) as float32 (C, T) of full scale 1, and the rate.

    Fewer samples come back where the file ends earlier. BadInput for an empty or unreadable file, for a
    `start` behind the end, and, with `finite`, for NaN or infinite samples: none of these may pass as
    silence.
    """
    with _open(path) as file:
        total, rate = file.frames, file.samplerate
        _check_start(path, total, start)
        try:
            if start:
                file.seek(start)
            wave = file.read(frames, dtype="float32", always_2d=True).T
        except sf.LibsndfileError as err:
            raise BadInput(f"{show(path)}: decoding stopped: {err}; replace or leave out the file") from err
    if not wave.shape[1] and frames:
        raise BadInput(f"{show(path)}: not one sample can be decoded from sample {start} on; the file is cut short")
    if finite:
        check_finite(wave, path)
    return np.ascontiguousarray(wave), rate


def read_mono(path: PathLike, start: int = 0, frames: int = -1, *, finite: bool = True) -> tuple[np.ndarray, int]:
    """Read like `read` and return the mean of the channels, float32 (T,), and the rate in Hz."""
    fast = _read_pcm16_mono(path, start, frames)
    if fast is not None:
        return fast
    wave, rate = read(path, start, frames, finite=finite)
    return (wave[0] if len(wave) == 1 else wave.mean(axis=0, dtype=np.float32)), rate


def blocks(path: PathLike, frames: int, *, finite: bool = True) -> Iterator[np.ndarray]:
    """Yield the file as float32 blocks (C, <= frames) in constant memory; BadInput as for `read`."""
    with _open(path) as file:
        _check_start(path, file.frames, 0)
        while True:
            try:
                block = file.read(frames, dtype="float32", always_2d=True).T
            except sf.LibsndfileError as err:
                raise BadInput(f"{show(path)}: decoding stopped: {err}; replace or leave out the file") from err
            if not block.shape[1]:
                return
            if finite:
                check_finite(block, path)
            yield np.ascontiguousarray(block)


def wav_layout(path: PathLike) -> WavLayout | None:
    """Return where a WAV file keeps its samples and how many bytes it declares; None for other files."""
    try:
        with open(path, "rb") as file:
            return parse_wav(file.read(_HEAD))
    except OSError:
        return None


def check_finite(wave: np.ndarray, path: PathLike) -> None:
    """Raise BadInput if any sample is NaN or infinite."""
    if not np.isfinite(wave).all():
        bad = int((~np.isfinite(wave)).sum())
        raise BadInput(f"{show(path)}: {bad} samples are NaN or infinite; repair or leave out the file")


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

    WAV files that pass 4 GiB become RF64. Errors as for `write`. `frames` is the expected length, if known.
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
    ) -> None:
        self.path, self.rate, self.channels = Path(path), rate, channels
        self.subtype = _subtype(self.path, subtype)
        self.frames = 0
        self._auto_rf64 = self.path.suffix.lower() == ".wav" and not 0 < frames * channels * 8 < 2**32
        if not overwrite and os.path.lexists(self.path):
            raise OutputError(f"{show(path)}: exists already; choose another name or pass --overwrite")
        self._tmp = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")

    def __enter__(self) -> Writer:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._sink = _Sink(self._tmp)
        except OSError as err:
            raise _output_fault(self.path, err) from err
        container = "RF64" if self._auto_rf64 else _FORMATS[self.path.suffix.lower()]
        try:
            self._file = sf.SoundFile(self._sink, "w", self.rate, self.channels, self.subtype, format=container)
        except (sf.LibsndfileError, ValueError, TypeError) as err:
            fault = self._sink.fault
            self._discard()
            if fault:
                raise _output_fault(self.path, fault) from fault
            raise OutputError(
                f"{show(self.path)}: cannot write {self.channels} channels at {self.rate} Hz: {err}"
            ) from err
        sf._snd.sf_command(self._file._file, _ADD_PEAK_CHUNK, sf._ffi.NULL, 0)
        if self._auto_rf64:
            sf._snd.sf_command(self._file._file, _RF64_DOWNGRADE, sf._ffi.NULL, 1)
        return self

    def write(self, block: np.ndarray) -> None:
        """Append a block (C, T) or, for one channel, (T,)."""
        block = np.atleast_2d(block)
        if len(block) != self.channels:
            raise ValueError(f"a block of {len(block)} channels for a file of {self.channels}")
        if block.dtype != np.int16:
            check_finite(block, self.path)
            block = _quantise(block, self.subtype)
        try:
            self._file.write(np.ascontiguousarray(block.T))
        except (sf.LibsndfileError, AssertionError) as err:  # soundfile asserts that all frames were taken
            raise _output_fault(self.path, self._sink.fault or err) from err
        self.frames += block.shape[1]

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except sf.LibsndfileError as err:
            self._sink.fault = self._sink.fault or OSError(errno.EIO, str(err))
        fault = self._sink.close()
        if kind is None and fault is None:
            try:
                os.replace(self._tmp, self.path)
                return
            except OSError as err:
                fault = err
        self._discard()
        if kind is None:
            raise _output_fault(self.path, fault) from fault

    def _discard(self) -> None:
        self._sink.close()
        self._tmp.unlink(missing_ok=True)


class _Sink:
    """A file for libsndfile that keeps the system's own error, which libsndfile hides or ignores."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "w+b", buffering=0)  # noqa: SIM115 - closed by close()
        self.fault: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            done = 0
            while done < len(data):
                done += self._file.write(memoryview(data)[done:])
            return done
        except OSError as err:
            self.fault = err
            return 0

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> OSError | None:
        try:
            self._file.close()
        except OSError as err:
            self.fault = self.fault or err
        return self.fault


def _open(path: PathLike) -> sf.SoundFile:
    try:
        size = os.stat(path).st_size
    except OSError as err:
        if err.errno in (errno.ENOENT, errno.ENOTDIR):
            raise InputNotFound(f"{show(path)}: no such file") from err
        raise BadInput(f"{show(path)}: cannot be opened: {err.strerror}") from err
    if os.path.isdir(path):
        raise BadInput(f"{show(path)}: is a folder where a sound file was expected")
    if not size and os.path.isfile(path):
        raise BadInput(f"{show(path)}: the file is empty (0 bytes)")
    try:
        return sf.SoundFile(os.fsencode(path))
    except sf.LibsndfileError as err:
        hint = "not a sound file that libsndfile reads"
        if Path(path).suffix.lower() in _VIDEO_LIKE:
            hint = "convert it to WAV or FLAC first, e.g. with ffmpeg"
        raise BadInput(f"{show(path)}: unreadable ({err.error_string.rstrip('.')}); {hint}") from err


def _check_start(path: PathLike, total: int, start: int) -> None:
    if not total:
        raise BadInput(f"{show(path)}: a header without samples; replace or leave out the file")
    if not 0 <= start < total:
        raise BadInput(f"{show(path)}: holds {total} samples, sample {start} was asked for; the file is cut short")


def _read_pcm16_mono(path: PathLike, start: int, frames: int) -> tuple[np.ndarray, int] | None:
    """Read a mono PCM16 WAV with one system call; None sends every other file or fault to libsndfile."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        layout = parse_wav(os.pread(fd, _HEAD, 0))
        if layout is None or not layout.is_pcm16_mono or layout.declared is None:
            return None
        total = max(0, min(layout.declared, os.fstat(fd).st_size - layout.offset)) // 2
        _check_start(path, total, start)
        count = total - start if frames < 0 else min(frames, total - start)
        data = os.pread(fd, 2 * count, layout.offset + 2 * start)
    except OSError:
        return None
    finally:
        os.close(fd)
    if len(data) != 2 * count:
        return None
    return np.frombuffer(data, "<i2").astype(np.float32) * _PCM16, layout.rate


def _subtype(path: Path, subtype: str) -> str:
    suffix = path.suffix.lower()
    if suffix not in _FORMATS:
        raise OutputError(f"{show(path)}: unknown format '{suffix}'; choose from: {' '.join(sorted(_FORMATS))}")
    subtype = _LOSSY.get(suffix, subtype)
    if not sf.check_format(_FORMATS[suffix], subtype):
        known = ", ".join(sf.available_subtypes(_FORMATS[suffix]))
        raise OutputError(f"{show(path)}: {suffix} files cannot hold {subtype}; choose from: {known}")
    return subtype


def _quantise(block: np.ndarray, subtype: str) -> np.ndarray:
    """Round to the codes of an integer format.

    libsndfile scales by 2**15 - 1 on writing but by 2**15 on reading, which would change a copied file.
    """
    bits = _BITS.get(subtype)
    if bits is None:
        return block
    top = 2.0 ** (bits - 1)
    codes = np.clip(np.rint(block * np.float64(top)), -top, top - 1)
    if bits <= 16:
        return (codes * 2 ** (16 - bits)).astype(np.int16)
    return (codes.astype(np.int64) << (32 - bits)).astype(np.int32)


def _output_fault(path: Path, err: Any) -> IOFault | OutputError:
    if isinstance(err, OSError) and err.errno in (
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOTDIR,
        errno.EEXIST,
    ):
        return OutputError(f"{show(path)}: cannot be made: {err.strerror}; choose a folder that you may write to")
    reason = getattr(err, "strerror", None) or str(err)
    try:
        free = f"; {shutil.disk_usage(path.parent).free / 2**20:.0f} MiB are free there"
    except OSError:
        free = ""
    return IOFault(f"{show(path)}: writing failed: {reason}{free}; nothing was left under this name")
