"""Sound while it comes in: from standard input, a pipe, a microphone, or a file that is played through.

Each gives blocks (C, t) of float32 as soon as so many samples are there, all that has come meanwhile at once, up to a
second. Whoever waits here can be asked to stop at any time.
"""

from __future__ import annotations

import hashlib
import os
import queue
import select
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from usepcli import versions
from usepcli.audio import io, pcm
from usepcli.audio.checks import show
from usepcli.audio.pcm import Pcm
from usepcli.audio.spool import NAME
from usepcli.errors import BadInput, InputNotFound, IOFault, MissingDependency, UsageError

MICROPHONE = "mic:"
_LOOK_S = 0.1  # between two looks at whether a stop is asked for
_MOST_S = 1.0  # of one block
_PIECE = 1 << 16  # bytes read at once: what a pipe holds
_HELD_S = 10.0  # of a microphone, before blocks are dropped
_GONE_S = 5.0  # without a sound from a microphone, which gives silence where there is none

Asked = Callable[[], bool]  # whether a stop is asked for


class Stopped(Exception):
    """A stop was asked for before there was anything to hear."""


class Incoming:
    """A stream that is open: what it is like, and what was noted of it while it was heard."""

    name = ""
    rate = channels = 0
    code = "f32le"  # of its samples, one of pcm.CODES; of a file, what stores them
    left_over = 0  # bytes behind the last whole frame
    missing = 0  # samples per channel that a header promised beyond those that came
    dropped = 0  # samples per channel that came and could not be kept
    bytes = 0
    sha256 = ""

    def blocks(self, frames: int, stop: Asked) -> Iterator[np.ndarray]:
        """Yield blocks (C, t), t >= frames but for the last one, until the end or until a stop is asked for."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what was opened."""


class Piped(Incoming):
    """Bytes from a file descriptor: a WAV stream, of any length or none in its header, or samples without a header."""

    def __init__(self, handle: int, name: str, like: Pcm | None, stop: Asked, own: bool = True) -> None:
        """Read the header, unless `like` says how the samples are written. BadInput where it has none."""
        self.name, self._handle, self._own = name, handle, own
        self._hash = hashlib.sha256()
        self._ended = False
        self._stop = stop
        try:
            self.pcm, self._declared = (like, None) if like else pcm.wav_head(self._exactly, name)
        except BaseException:
            self.close()
            raise
        self.rate, self.channels, self.code = self.pcm.rate, self.pcm.channels, self.pcm.code

    def blocks(self, frames: int, stop: Asked) -> Iterator[np.ndarray]:
        """Yield what comes; IOFault where reading fails."""
        size, most = self.pcm.frame, max(frames, round(_MOST_S * self.rate)) * self.pcm.frame
        held, left = bytearray(), self._declared
        self._stop = stop
        while data := self._read(min(_PIECE, most - len(held))):
            held += data if left is None else data[:left]
            left = None if left is None else left - min(left, len(data))
            if len(held) >= frames * size and (len(held) >= most or not self._waiting()):
                yield self._whole(held)
        if held:
            yield self._whole(held)
        self.left_over = len(held)
        self.missing = (left or 0) // size if self._ended else 0
        self.sha256 = self._hash.hexdigest()

    def _whole(self, held: bytearray) -> np.ndarray:
        """Take the whole frames out of what is held."""
        end = len(held) - len(held) % self.pcm.frame
        wave = self.pcm.decode(bytes(held[:end]))
        del held[:end]
        return wave

    def close(self) -> None:
        """Close the descriptor, if it was opened for this."""
        if self._own:
            os.close(self._handle)
            self._own = False

    def _waiting(self) -> bool:
        return bool(select.select([self._handle], [], [], 0)[0])

    def _read(self, size: int) -> bytes:
        """Return up to `size` bytes as soon as there are any, none at the end and where a stop is asked for."""
        while not self._stop():
            try:
                if not select.select([self._handle], [], [], _LOOK_S)[0]:
                    continue
                data = os.read(self._handle, size)
            except BlockingIOError:
                continue
            except OSError as err:
                raise IOFault(f"{self.name}: reading failed: {err.strerror}") from err
            self._ended = not data
            self.bytes += len(data)
            self._hash.update(data)
            return data
        return b""

    def _exactly(self, size: int) -> bytes:
        parts, missing = [], size
        while missing and (part := self._read(min(missing, _PIECE))):
            parts.append(part)
            missing -= len(part)
        if missing and not self._ended:
            raise Stopped
        return b"".join(parts)


class Played(Incoming):
    """A sound file of any format, heard as if it came in, as fast as it is separated."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, show(path)
        info = io.info(path)
        self.rate, self.channels = info.rate, info.channels
        self.code = pcm.WRITTEN.get(info.subtype, pcm.WRITTEN["PCM_16"])

    def blocks(self, frames: int, stop: Asked) -> Iterator[np.ndarray]:
        """Yield blocks of `frames`."""
        for block in io.blocks(self.path, frames):
            if stop():
                return
            yield block


class Microphone(Incoming):
    """A device of PortAudio, by its number or a part of its name; the system's usual one without."""

    def __init__(self, device: str, rate: int, like: Pcm | None, frames: Callable[[int], int]) -> None:
        """Open a device at `rate`, or its own where it does not know that; `frames` of a rate is the block's size.

        MissingDependency where the package or the device is absent.
        """
        self._sounds: Any = _sounddevice()
        self.name = f"microphone {device or 'of the system'}"
        self.rate, self.channels = (like.rate, like.channels) if like else (rate, 1)
        self._queue: queue.Queue[np.ndarray] = queue.Queue()
        self._held = 0
        which: Any = int(device) if device.isdigit() else device or None
        try:
            if not like:
                self.rate = self._known(which)
            self._stream = self._sounds.InputStream(
                samplerate=self.rate, channels=self.channels, device=which, dtype="float32",
                blocksize=frames(self.rate), latency="low", callback=self._heard,
            )  # fmt: skip
        except (self._sounds.PortAudioError, ValueError) as err:
            raise MissingDependency(
                f"{self.name}: cannot be opened at {self.rate} Hz with {self.channels} channels: {_said(err)}; "
                "python -m sounddevice lists what there is, --pcm RATE:CHANNELS asks for others"
            ) from err

    def _known(self, which: Any) -> int:
        """Return the rate to ask for: the wanted one, or the device's own where it refuses that."""
        try:
            self._sounds.check_input_settings(device=which, channels=1, dtype="float32", samplerate=self.rate)
            return self.rate
        except self._sounds.PortAudioError:
            return round(self._sounds.query_devices(which, "input")["default_samplerate"])

    def _heard(self, block: np.ndarray, frames: int, when: Any, status: Any) -> None:
        # In a thread of PortAudio: nothing here may wait.
        if getattr(status, "input_overflow", False) or self._held > _HELD_S * self.rate:
            self.dropped += frames
            if self._held > _HELD_S * self.rate:
                return
        self._held += frames
        self._queue.put(block.T.copy())

    def blocks(self, frames: int, stop: Asked) -> Iterator[np.ndarray]:
        """Yield what is heard until a stop is asked for; IOFault where the device vanishes."""
        try:
            with self._stream:
                last = time.monotonic()
                while not stop():
                    found = self._next()
                    if found is not None:
                        last = time.monotonic()
                        yield found
                    elif not self._stream.active or time.monotonic() - last > _GONE_S:
                        raise IOFault(f"{self.name}: gives nothing any more; unplugged, or taken by another program")
        except self._sounds.PortAudioError as err:
            raise IOFault(f"{self.name}: {_said(err)}; unplugged, or taken by another program") from err

    def _next(self) -> np.ndarray | None:
        """Return all that waits, up to a second, None where nothing comes for a while."""
        try:
            parts = [self._queue.get(timeout=_LOOK_S)]
        except queue.Empty:
            return None
        count = parts[0].shape[1]
        while count < _MOST_S * self.rate and not self._queue.empty():
            parts.append(self._queue.get())
            count += parts[-1].shape[1]
        self._held -= count
        return np.concatenate(parts, axis=1)

    def close(self) -> None:
        """Give the device back."""
        self._stream.close()


def _sounddevice() -> Any:
    why = versions.why_not("live")
    if "PortAudio library" in why:  # which its package does not bring on Linux
        why = "sounddevice finds no PortAudio; install it, e.g. apt install libportaudio2"
    if why:
        raise MissingDependency(f"{MICROPHONE} is a microphone: {why}")
    return versions.need(MICROPHONE, "live")


def _said(err: BaseException) -> str:
    return " ".join(str(err).split())[:200]


def check(text: str) -> None:
    """Raise what can be said of an input before anything is opened for long: absent, a terminal, a folder."""
    if text.startswith(MICROPHONE):
        _sounddevice()
    elif text == "-":
        if sys.stdin.isatty():
            raise UsageError(f"{NAME}: is a terminal; pipe sound into it, or name a pipe instead of -")
    else:
        try:
            mode = os.stat(text).st_mode
        except OSError as err:
            raise InputNotFound(f"{show(text)}: {err.strerror}; name a pipe, a sound file, - or {MICROPHONE}") from err
        if stat.S_ISDIR(mode):
            raise UsageError(f"{show(text)}: is a folder; --live hears one pipe, sound file, - or {MICROPHONE}")


def opened(text: str, like: Pcm | None, rate: int, frames: Callable[[int], int], stop: Asked) -> Incoming:
    """Open an input, and wait until it says what it is like.

    `like` says how samples without a header are written, or what a microphone is asked for, otherwise `rate`.
    """
    if text.startswith(MICROPHONE):
        return Microphone(text.removeprefix(MICROPHONE), rate, like, frames)
    if text == "-":
        return Piped(sys.stdin.fileno(), NAME, like, stop, own=False)
    if stat.S_ISREG(os.stat(text).st_mode) and not like:
        return Played(Path(text))
    try:
        # A pipe that nobody writes into yet would be waited for where nothing can be asked.
        handle = os.open(text, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as err:
        raise BadInput(f"{show(text)}: cannot be read: {err.strerror}") from err
    return Piped(handle, show(text), like, stop)
