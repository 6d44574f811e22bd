"""A WAV file that is whole at every moment: under its own name from the first sample on, its lengths kept up to date.

A recording that comes in once cannot wait for its end to become a file, as others do (writer.py): after a kill, all but
the last half second is there for every program, and those last bytes lie behind it. Room for 64-bit lengths stands at
the front; a file that passes 4 GiB becomes RF64 (EBU Tech 3306).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from usepcli import files
from usepcli.audio.pcm import WRITTEN, bytes_of
from usepcli.errors import IOFault, OutputError

_SETTLED_S = 0.5
_MOST_RIFF = 0xFFFFFFFF - 8
_OPEN = 0xFFFFFFFF


class GrowingWav:
    """Takes whole frames of bytes in one of the codes that `WRITTEN` has for a subtype.

    OutputError where a file of the name exists, unless it may be replaced; IOFault where the disk is full.
    """

    def __init__(self, path: Path, rate: int, channels: int, subtype: str, overwrite: bool = False) -> None:
        self.path, self.rate, self.channels, self.code = path, rate, channels, WRITTEN[subtype]
        self.frame = bytes_of(self.code) * channels
        self.bytes = 0  # of samples
        self._settled = 0
        self._every = round(_SETTLED_S * rate) * self.frame
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if overwrite:
                path.unlink(missing_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError as err:
            raise OutputError(f"{files.show(path)}: exists already; choose another name or pass --overwrite") from err
        except OSError as err:
            raise files.fault(path, err) from err
        try:
            self._first = len(self._head())
            self._put(self._head(), 0)
        except BaseException:
            os.close(self._file)
            with suppress(OSError):
                path.unlink()
            raise

    @property
    def frames(self) -> int:
        """Samples per channel."""
        return self.bytes // self.frame

    def write(self, data: bytes) -> None:
        """Add whole frames."""
        self._put(data, self._first + self.bytes)
        self.bytes += len(data)
        if self.bytes - self._settled >= self._every:
            self._settle()

    def cut(self, frames: int) -> None:
        """Keep no more than so many samples per channel."""
        self.bytes = min(self.bytes, frames * self.frame)
        with _faults(self.path):
            os.ftruncate(self._file, self._first + self.bytes)

    def close(self) -> None:
        """Bring the lengths up to date and force the file to the disk; to be called once."""
        try:
            if self.bytes % 2:  # chunks have even lengths
                self._put(b"\0", self._first + self.bytes)
            self._settle()
            with _faults(self.path):
                os.fsync(self._file)
                files.sync_folder(self.path.parent)
        finally:
            os.close(self._file)

    def _settle(self) -> None:
        self._put(self._head(), 0)
        self._settled = self.bytes

    def _head(self) -> bytes:
        kind = 3 if self.code[0] == "f" else 1
        form = struct.pack(
            "<HHIIHH", kind, self.channels, self.rate, self.rate * self.frame, self.frame, 8 * bytes_of(self.code)
        )
        parts = b"fmt " + struct.pack("<I", len(form)) + form
        if kind == 3:
            parts += b"fact" + struct.pack("<II", 4, min(self.frames, _OPEN))
        outer = 4 + 36 + len(parts) + 8 + self.bytes + self.bytes % 2
        if outer <= _MOST_RIFF:
            begin = b"RIFF" + struct.pack("<I", outer) + b"WAVEJUNK" + struct.pack("<I", 28) + bytes(28)
            return begin + parts + b"data" + struct.pack("<I", self.bytes)
        sizes = struct.pack("<QQQI", outer, self.bytes, self.frames, 0)
        begin = b"RF64" + struct.pack("<I", _OPEN) + b"WAVEds64" + struct.pack("<I", 28) + sizes
        return begin + parts + b"data" + struct.pack("<I", _OPEN)

    def _put(self, data: bytes, at: int) -> None:
        view = memoryview(data)
        with _faults(self.path):
            while view:
                done = os.pwrite(self._file, view, at)
                view, at = view[done:], at + done


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    """Turn what the system says while a file is written into an IOFault: what is in it stays."""
    try:
        yield
    except OSError as err:
        why = err.strerror or err
        raise IOFault(f"{files.show(path)}: writing failed: {why}; what came before is whole in it") from err
