"""Sound from a pipe: copied into a temporary file, because decoders have to seek."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from usepcli import stops
from usepcli.audio.checks import show
from usepcli.audio.formats import HEAD, sniff
from usepcli.errors import BadInput, IOFault, UsageError, UsepError

NAME = "standard input"
_BLOCK = 1 << 20


@contextmanager
def spooled(stream: BinaryIO, folder: Path | None = None) -> Iterator[Path]:
    """Copy a pipe to a temporary file in `folder` (None: $TMPDIR) and give its path, suffix by content; then remove it.

    Errors of the body that name the file name `standard input` instead. BadInput if nothing comes or no known
    sound, UsageError if the stream is a terminal, IOFault if the disk is full.
    """
    if stream.isatty():
        raise UsageError(f"{NAME}: is a terminal; pipe a sound file into it, or name a file instead of -")
    head = _read(stream, HEAD)
    if not head:
        raise BadInput(f"{NAME}: is empty (0 bytes); the program before the pipe may have failed")
    kind = sniff(head)
    if kind is None:
        raise BadInput(
            f"{NAME}: begins with {head[:4]!r}, no sound file that is known; headerless samples have no rate"
        )
    path = _copy(head, stream, kind.suffix, folder)
    try:
        yield path
    except UsepError as err:
        raise type(err)(str(err).replace(show(path), NAME)) from err
    finally:
        path.unlink(missing_ok=True)


def _copy(head: bytes, stream: BinaryIO, suffix: str, folder: Path | None) -> Path:
    place = os.fspath(folder) if folder is not None else tempfile.gettempdir()
    try:
        handle, name = tempfile.mkstemp(suffix, ".usep_stdin_", place)
        stops.passing(name)
    except OSError as err:
        raise IOFault(f"{show(place)}: no temporary file for {NAME}: {err.strerror}; set TMPDIR") from err
    path = Path(name)
    try:
        with open(handle, "wb", buffering=0) as file:
            block = head
            while block:
                _write(file, block, place)
                block = _read(stream, _BLOCK)
    except BaseException:  # an interrupt must not leave gigabytes behind
        path.unlink(missing_ok=True)
        raise
    return path


def _write(file: BinaryIO, block: bytes, place: str) -> None:
    view = memoryview(block)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as err:
        raise IOFault(
            f"{show(place)}: no room for a copy of {NAME}: {err.strerror}; free some space, or set TMPDIR"
        ) from err


def _read(stream: BinaryIO, size: int) -> bytes:
    """Read `size` bytes, fewer only at the end: a raw pipe gives what it happens to hold."""
    parts, missing = [], size
    try:
        while missing and (part := stream.read(missing)):
            parts.append(part)
            missing -= len(part)
    except OSError as err:
        raise IOFault(f"{NAME}: reading failed: {err.strerror}") from err
    return b"".join(parts)
