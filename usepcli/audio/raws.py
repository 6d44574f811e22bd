"""The bytes of a sound file, whether it is one of its own or a member of a tar: the one door for all that reads them.

What is open has `read`, `seek` and `tell`; what else a reader wants of a file is asked for here.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import wraps
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

from usepcli.audio import tars
from usepcli.audio.checks import PathLike, regular
from usepcli.audio.reading import reading

T = TypeVar("T")


class Facts(NamedTuple):
    """The bytes of a file, and when it changed."""

    size: int
    mtime_ns: int


def open_raw(path: PathLike) -> BinaryIO:
    """Open a file without a buffer; OSError as it comes, of a member of a tar the errors of `tars.open_member`.

    BadInput for a pipe, a socket or a device, which could be waited for without end.
    """
    found = tars.split(path)
    if found is not None:
        with reading(path):
            return cast("BinaryIO", tars.open_member(path, *found))
    with reading(path):
        return cast("BinaryIO", open(path, "rb", buffering=0, opener=regular))


def is_member(path: PathLike) -> bool:
    """Return whether a path names a member of a tar that is there, or of one at an address."""
    return tars.split(path) is not None


def facts(path: PathLike) -> Facts:
    """Return size and time of a file; of a member, the time of its tar.  Errors as for `open_raw`."""
    if not is_member(path):
        held = os.stat(path)
        return Facts(held.st_size, held.st_mtime_ns)
    with open_raw(path) as file:
        member = cast("tars.Member", file)
        return Facts(member.size, member.mtime_ns)


def sha256(path: PathLike) -> str:
    """Return the sha256 of a file's bytes as hexadecimal text; errors as for `open_raw`."""
    with reading(path), open_raw(path) as file:
        return hashlib.file_digest(cast("Any", file), "sha256").hexdigest()


def size(file: BinaryIO) -> int:
    """Return the bytes of an open file."""
    return file.size if isinstance(file, tars.Member) else os.fstat(file.fileno()).st_size


def key(file: BinaryIO) -> tuple[Any, ...]:
    """Return what tells an open file, in its present state, from all others."""
    if isinstance(file, tars.Member):
        return file.key
    held = os.fstat(file.fileno())
    return held.st_dev, held.st_ino, held.st_size, held.st_mtime_ns


def read_at(file: BinaryIO, count: int, at: int) -> bytes:
    """Return up to `count` bytes from `at` on, without moving."""
    return file.read_at(count, at) if isinstance(file, tars.Member) else os.pread(file.fileno(), count, at)


@contextmanager
def mapped(file: BinaryIO) -> Iterator[Any]:
    """Give the bytes of an open file as mmap does: len, slices, find, rfind.  ValueError for an empty file."""
    if not isinstance(file, tars.Member):
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data
        return
    found = file.data
    if isinstance(found, bytes):
        yield found
        return
    with closing(found):
        yield found


def once(look: Callable[[BinaryIO], T]) -> Callable[[BinaryIO], T]:
    """Keep what a look at an open file found while the file's size and time stay the same."""
    known: dict[tuple[Any, ...], T] = {}

    @wraps(look)
    def kept(file: BinaryIO) -> T:
        held = key(file)
        if held not in known:
            known[held] = look(file)
        return known[held]

    return kept
