"""Sound that libsndfile does not know, M4A, AAC, WMA and the sound of video, decoded by PyAV (extra `codecs`).

A file is opened here and handed to FFmpeg as bytes, with the reader that its first bytes call for: neither a
playlist nor a reference inside a file can make FFmpeg open another file or an address.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from usepcli.audio import raws
from usepcli.audio.checks import PathLike, show
from usepcli.audio.formats import Kind
from usepcli.errors import BadInput, IOFault
from usepcli.versions import need

_KINDS = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}  # FFmpeg's names, and numpy's
_SCALE = {"u1": 2.0**-7, "i2": 2.0**-15, "i4": 2.0**-31, "i8": 2.0**-63}
_LOSSLESS = {"flac", "alac", "wavpack", "ape", "tta", "wmalossless", "mlp", "truehd"}
_WIDTHS = {
    "pcm_u8": "PCM_U8", "pcm_s8": "PCM_S8", "pcm_s16": "PCM_16", "pcm_s24": "PCM_24", "pcm_s32": "PCM_32",
    "pcm_s64": "PCM_32",  # the widest integers that libsndfile writes
    "pcm_f32": "FLOAT", "pcm_f64": "DOUBLE",
}  # fmt: skip
_EXACT = {"mov", "matroska", "asf", "avi"}  # containers that state a duration; the others let FFmpeg guess it
_COUNT_BLOCK = 1 << 16
_COUNTED: dict[tuple[Any, ...], int] = {}


def require(path: PathLike) -> Any:
    """Return PyAV; MissingDependency, with the line that installs it, where it is absent."""
    return need(show(path), "codecs")


class CodecFile:
    """A file open for reading with the attributes and methods of `plain.PlainFile` that `io` uses.

    `track`: which of several tracks of sound, from 1; 0 for the first. BadInput for a file without sound or without
    that track, for what cannot be decoded, and where the rate changes on the way.
    """

    def __init__(self, path: PathLike, kind: Kind, track: int = 0) -> None:
        av = require(path)
        self._path, self._kind, self._track = path, kind, track
        self._faults: tuple[type[Exception], ...] = (av.FFmpegError, ValueError, IndexError, OverflowError)
        try:
            self._raw: BinaryIO = raws.open_raw(path)
        except OSError as err:
            raise BadInput(f"{show(path)}: cannot be opened: {err.strerror}") from err
        try:
            self._start(av)
        except BaseException:
            self.close()
            raise

    def _start(self, av: Any) -> None:
        try:
            # The demuxer is named: a playlist that calls itself .m4a is not followed.
            self._container = av.open(_Bytes(self._raw), format=self._kind.demuxer, options={"protocol_whitelist": ""})
        except self._faults as err:
            raise self._fault(err, "unreadable") from err
        if not self._container.streams.audio:
            raise BadInput(
                f"{show(self._path)}: holds no sound ({len(self._container.streams)} streams of other kinds)"
            )
        if self._track > len(self._container.streams.audio):
            has = "; ".join(self.tracks)
            raise BadInput(f"{show(self._path)}: has no track {self._track} of sound; choose from {has}")
        self._stream = self._container.streams.audio[max(self._track, 1) - 1]
        self._pieces = self._decode()
        self._rest: np.ndarray | None = next(self._pieces, None)  # the decoder knows rate and channels from here on
        if self._rest is None:
            raise BadInput(f"{show(self._path)}: a header without samples; replace or leave out the file")
        self.channels = len(self._rest)
        self.format = self._kind.suffix[1:].upper()
        self.subtype = _subtype(self._stream)

    left_over = 0
    exact = True
    seeks = False

    @property
    def tracks(self) -> tuple[str, ...]:
        """The tracks of sound in words: number, language, channels, title."""
        found = []
        for number, stream in enumerate(self._container.streams.audio, 1):
            said = [stream.metadata.get("language", "language not said"), f"{stream.codec_context.channels} channels"]
            found.append(f"{number}: {', '.join([*said, *filter(None, [stream.metadata.get('title')])])}")
        return tuple(found)

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """What the container and the stream say besides the sound, as FFmpeg names it."""
        return [*self._container.metadata.items(), *self._stream.metadata.items()]

    @property
    def promised(self) -> int:
        """Samples per channel that the container states; 0 where it does not."""
        return round(self.stated_s * self.samplerate)

    @property
    def frames(self) -> int:
        """Samples per channel, found by decoding the file once (kept while its size and time stay the same)."""
        key = (max(self._track, 1), *raws.key(self._raw))
        if key not in _COUNTED:
            with CodecFile(self._path, self._kind, self._track) as other:
                _COUNTED[key] = sum(iter(lambda: len(other.take(_COUNT_BLOCK)), 0))
        return _COUNTED[key]

    @property
    def stated_s(self) -> float:
        """The duration that the container states in seconds; 0 where it does not."""
        if self._kind.demuxer not in _EXACT:
            return 0.0
        if self._stream.duration:
            return float(self._stream.duration * self._stream.time_base)
        alone = len(self._container.streams) == 1
        return (self._container.duration or 0) / 1e6 if alone else 0.0

    def move(self, frame: int) -> None:
        """Go on to sample `frame` by decoding what lies before: only so is the position exact in every container."""
        while frame and (piece := self._piece(frame)) is not None:
            frame -= piece.shape[1]

    def take(self, frames: int = -1, dtype: str = "float32") -> np.ndarray:
        """Return the next `frames` samples (T, C), fewer at the end, -1 for all."""
        parts = [np.zeros((self.channels, 0), dtype)]
        while frames and (piece := self._piece(frames)) is not None:
            parts.append(piece.astype(dtype))
            frames -= piece.shape[1]
        return np.concatenate(parts, axis=1).T

    def _piece(self, limit: int) -> np.ndarray | None:
        """Return the next piece (C, t), of `limit` samples at most where it is not negative; None at the end."""
        piece, self._rest = self._rest, None
        if piece is None:
            piece = next(self._pieces, None)
        if piece is not None and 0 <= limit < piece.shape[1]:
            piece, self._rest = piece[:, :limit], piece[:, limit:]
        return piece

    def _decode(self) -> Iterator[np.ndarray]:
        """Yield the decoded frames (C, t), the last one as long as its packet says: the rest is the coder's padding."""
        held, self.samplerate, shape = None, 0, None
        frames = self._container.decode(self._stream)
        while (frame := self._next(frames)) is not None:
            wave = _samples(frame)
            shape = shape or (frame.sample_rate, len(wave))
            if (frame.sample_rate, len(wave)) != shape:
                raise BadInput(
                    f"{show(self._path)}: changes from {shape[1]} channels at {shape[0]} Hz to {len(wave)} at "
                    f"{frame.sample_rate} Hz on the way; convert it to WAV or FLAC first"
                )
            self.samplerate = frame.sample_rate
            if held is not None:
                yield held
            held, last = wave, frame
        if held is not None:
            in_samples = last.time_base is not None and last.time_base * self.samplerate == 1
            yield held[:, : last.duration] if in_samples and last.duration else held

    def _next(self, frames: Iterator[Any]) -> Any:
        while True:
            try:
                frame = next(frames, None)
            except self._faults as err:
                raise self._fault(err, "decoding stopped") from err
            except OSError as err:
                raise IOFault(f"{show(self._path)}: reading failed: {err.strerror}") from err
            if frame is None or frame.samples:
                return frame

    def _fault(self, err: Exception, what: str) -> BadInput:
        reason = getattr(err, "strerror", None) or str(err) or type(err).__name__
        return BadInput(
            f"{show(self._path)}: {what} ({' '.join(reason.split())}, as {self._kind.demuxer}); "
            "replace or leave out the file"
        )

    def close(self) -> None:
        """Close decoder and file."""
        container = getattr(self, "_container", None)
        if container is not None:
            container.close()
        self._raw.close()

    def __enter__(self) -> CodecFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Bytes:
    """A file without a name, which FFmpeg would otherwise want as UTF-8; it cannot be left by a broken offset."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self.read, self.tell = raw.read, raw.tell

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._raw.seek(offset, whence)
        except (OSError, OverflowError):
            return -errno.EINVAL  # an error code to FFmpeg, which a Python exception would hide


def _samples(frame: Any) -> np.ndarray:
    """Return a frame's samples (C, t), full scale 1, float64 where float32 cannot hold them."""
    channels, planar = frame.layout.nb_channels, frame.format.is_planar
    code = _KINDS[frame.format.name.removesuffix("p")]
    # Not `to_ndarray`: PyAV counts one plane too many where there are eight, and reading that one is a crash.
    planes = frame.planes[: channels if planar else 1]
    wave: Any = np.stack([np.frombuffer(p, code, frame.samples * (1 if planar else channels)) for p in planes])
    if not planar:
        wave = wave.reshape(-1, channels).T
    if wave.dtype.kind == "f":
        return wave
    scale = _SCALE[wave.dtype.str[1:]]
    kind = np.float32 if wave.dtype.itemsize <= 2 else np.float64
    return (wave.astype(kind) - (128 if wave.dtype.kind == "u" else 0)) * kind(scale)


def _subtype(stream: Any) -> str:
    """Return libsndfile's name of the samples where nothing was lost (PCM_16), else the codec's (AAC)."""
    name = stream.codec.canonical_name
    if name in _LOSSLESS:
        return "PCM_16" if stream.codec_context.format.name.startswith(("s16", "u8")) else "PCM_24"
    return _WIDTHS.get(name.removesuffix("le").removesuffix("be"), name.upper())
