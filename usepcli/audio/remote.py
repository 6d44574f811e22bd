"""Ranges of bytes from addresses such as https://, s3:// or memory://, through fsspec (extra `shards`).

A range is asked for again when a connection drops, and the last ones stay in memory, so that a file whose head is
looked at before its sound is fetched once.  Nothing here runs a program: `pipe:` and its like are no protocols.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeVar

from usepcli import stops
from usepcli.audio.checks import show
from usepcli.errors import BadInput, InputNotFound, IOFault, MissingDependency
from usepcli.versions import need

PIECE = 8 << 20  # bytes asked for at once
HELD = 64 << 20  # bytes that stay in memory
WAITS_S = (0.5, 1.0, 2.0)  # before the second, third and fourth try
# A path has lost one slash of an address; a single letter would be a drive.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(?=[^/])")
_SHELL = re.compile(r"\s*pipe:|.*\|\s*$", re.DOTALL)
_REFUSED = (401, 403, 407, 410)  # what the next try would meet as well
T = TypeVar("T")


def address(path: str | os.PathLike[str]) -> str:
    """Return the address that a path stands for, '' for a path on this machine; BadInput for a shell command."""
    text = os.fsdecode(path)
    if _SHELL.match(text):
        raise BadInput(
            f"{show(text)}: is a shell command, and usep runs none; name files, or an address as https:// or s3://"
        )
    found = _ADDRESS.match(text)
    return f"{found[1].lower()}://{text[found.end() :]}" if found else ""


def size(where: str) -> int:
    """Return the bytes of the file at an address; InputNotFound, IOFault, or BadInput where the server does not say."""
    held = _asked(where, lambda fs, path: fs.info(path).get("size"))
    if not isinstance(held, int):
        raise BadInput(f"{show(where)}: the server does not say how long the file is; copy it here, or to another one")
    return held


def fetch(where: str, start: int, end: int) -> bytes:
    """Return the bytes from `start` up to `end`, fewer where the file ends before; errors as for `size`."""
    key = where, start, end
    with _lock:
        if key in _held:
            _held.move_to_end(key)
            return _held[key]
    data = _range(where, start, end)
    with _lock:
        _held[key] = data
        while sum(map(len, _held.values())) > HELD and len(_held) > 1:
            _held.popitem(last=False)
    return data


@contextmanager
def copied(where: str, named: bool = False) -> Iterator[BinaryIO]:
    """Give an open copy of the whole file, which goes when the block ends; errors as for `size`.

    named: it has a name; without one nothing is left of it even where this process is killed.
    """
    import tempfile

    total = size(where)
    with tempfile.NamedTemporaryFile(suffix=".tar") if named else tempfile.TemporaryFile() as file:
        if named:
            stops.passing(file.name)
        try:
            for start in range(0, total, PIECE):
                file.write(_range(where, start, min(start + PIECE, total)))
            file.flush()
        except OSError as fault:
            raise IOFault(f"{show(where)}: no copy can be made in {tempfile.gettempdir()}: {fault.strerror}") from fault
        file.seek(0)
        yield file  # type: ignore[misc]


_held: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()
_lock = threading.Lock()


def _range(where: str, start: int, end: int) -> bytes:
    data: bytes = _asked(where, lambda fs, path: fs.cat_file(path, start=start, end=end))
    if len(data) > end - start:
        raise BadInput(f"{show(where)}: the server sends whole files where a range was asked for; copy the file here")
    return data


def _asked(where: str, ask: Callable[[Any, str], T]) -> T:
    """Return what a file system answers, asked again after a drop."""
    fs, path = _system(where)
    for wait in (*WAITS_S, None):
        try:
            return ask(fs, path)
        except FileNotFoundError as fault:
            raise InputNotFound(f"{show(where)}: no such file there") from fault
        except Exception as fault:  # each protocol has its own
            said = " ".join((str(fault) or type(fault).__name__).split())
            if isinstance(fault, PermissionError) or getattr(fault, "status", 0) in _REFUSED:
                raise IOFault(f"{show(where)}: access refused ({said}); check the address and your rights") from fault
            if wait is None:
                raise IOFault(
                    f"{show(where)}: cannot be read after {len(WAITS_S) + 1} tries ({said}); check the connection and "
                    "run the same command again"
                ) from fault
            time.sleep(wait)
    raise AssertionError("unreachable")


def _system(where: str) -> tuple[Any, str]:
    """Return fsspec's file system for an address, which it keeps for each process, and the path there."""
    need(show(where), "shards", "fsspec", *(("aiohttp",) if where.startswith("http") else ()))
    from fsspec.core import url_to_fs

    try:
        fs, path = url_to_fs(where)
    except ImportError as fault:
        raise MissingDependency(f"{show(where)}: {' '.join(str(fault).split())}") from fault
    except Exception as fault:
        raise BadInput(f"{show(where)}: no address that fsspec knows ({' '.join(str(fault).split())})") from fault
    return fs, path
