"""Files written whole, what tells one file's bytes from another's, and how paths are named in messages.

What is written stands beside its place under a hidden name, is forced to the disk, and then moves there in one step,
so that a kill, a full disk or a power cut leaves the old file or the new one, never half of one. All writers of the
package go through here, whatever they write.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from usepcli import stops
from usepcli.errors import IOFault, OutputError

_DRIVING = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
_VARIABLE = re.compile(r"\$(?:(\$)|\{([^}]*)\}|([A-Za-z_]\w*))")
MOST_JSON, DEEPEST_JSON = 1 << 24, 40  # bytes and levels of a record; as Python's objects it may take thirtyfold
MOST_LIST = 1 << 28  # bytes of a list of recordings or of members
_TOO_DEEP = f"nested more than {DEEPEST_JSON} levels deep"
_HOST = zlib.crc32(os.fsencode(os.uname().nodename)) if hasattr(os, "uname") else 0
# What turns the direction of writing, takes no place or breaks a line: names that hold it read as others.
_TURNING = {
    code: f"\\u{code:04x}"
    for code in (0xAD, 0x61C, *range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070), 0xFEFF)
}
_LONGEST = 255  # bytes in one name, on nearly every file system
# Of file systems on which a folder is no such thing as can be forced to the disk.
_NO_SYNC = (errno.EINVAL, errno.EBADF, errno.EOPNOTSUPP, errno.ENOSYS)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


def show(path: str | os.PathLike[str]) -> str:
    """Return a path as printable text in one line: bytes that are no UTF-8, and control characters, are escaped."""
    text = os.fspath(path).encode("utf-8", "backslashreplace").decode("utf-8")
    return text.translate({code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | _TURNING)


def shown(text: str) -> str:
    """Return a text of several lines as a terminal may have it: what would drive it, or turn its lines, is escaped."""
    if text.isascii() and not _DRIVING.search(text):
        return text
    return _DRIVING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def hidden(path: Path) -> Path:
    """Return the name under which `path` is written until it is whole: hidden, this process's own, ending in .tmp.

    Jobs on two machines may write one file at the same time, and in containers each of them is process 1.
    """
    tail = f".{_HOST}{os.getpid():08d}.tmp"
    name = f".{path.name}{tail}"
    if len(os.fsencode(name)) > _LONGEST:
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}{tail}"
    stops.passing(path.with_name(name))
    return path.with_name(name)


def debris(path: Path) -> list[Path]:
    """Return what killed writers of `path` left under hidden names, of any process."""
    if not path.parent.is_dir():
        return []
    head = f".{path.name}."
    return [p for p in path.parent.iterdir() if p.name.startswith(head) and p.name.endswith(".tmp")]


def place(written: Path, path: Path) -> None:
    """Force a finished file to the disk and give it its name; OSError where that fails."""
    handle = os.open(written, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    os.replace(written, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to the disk, where its file system can."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as fault:
        if fault.errno not in _NO_SYNC:
            raise
    finally:
        os.close(handle)


@contextmanager
def folder_for(folder: Path) -> Iterator[None]:
    """Make a folder and those above it; where the block fails, remove those that were made and hold nothing."""
    made = [above for above in (folder, *folder.parents) if not above.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for above in made:  # the innermost first
            with suppress(OSError):
                above.rmdir()
        raise


@contextmanager
def whole(path: Path, size: int = 0) -> Iterator[Path]:
    """Give a hidden path to write to, which takes the name `path` when the block ends well and is removed otherwise.

    Folders above are made. OutputError where nothing may be written there, IOFault where the disk is full.
    size: bytes that are to be written, where that is known, for the message.
    """
    temporary = hidden(path)
    try:
        with folder_for(path.parent):
            try:
                yield temporary
                place(temporary, path)
            finally:
                with suppress(OSError):  # placed, never made, or in a folder that is not there
                    temporary.unlink()
    except OSError as err:
        raise fault(path, err, size) from err


def tried(folder: Path) -> None:
    """Raise unless a file can be written into a folder, now or once it is made; leave all as it was.

    Errors as for `refused`.
    """
    made = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]  # the innermost first
    probe = hidden(folder / "tried")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(probe, "wb") as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as err:
        raise refused(folder, err) from err
    finally:
        with suppress(OSError):
            probe.unlink()
        for place in made:
            with suppress(OSError):  # another run has put something there
                place.rmdir()


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file in one step; errors as for `whole`."""
    with whole(path, len(data)) as temporary, open(temporary, "wb") as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Replace a text file (UTF-8; undecodable bytes of names come back as they were) in one step."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def read_json(path: Path, errors: str = "strict", most: int = MOST_JSON) -> Any:
    """Return what a JSON file holds; OSError where it cannot be read, ValueError where it is none that anybody wrote.

    Too long or too deep is none, either: what walks through it later would take all memory, or all of the stack.
    most: bytes.
    """
    with open(path, "rb") as file:
        raw = file.read(most + 1)
    if len(raw) > most:
        raise ValueError(f"more than {most >> 20} MiB")
    return parse_json(raw.decode("utf-8", errors))


def parse_json(text: str) -> Any:
    """Return what a JSON text says; ValueError as for `read_json`."""
    try:
        found = json.loads(text)
    except RecursionError as err:
        raise ValueError(_TOO_DEEP) from err
    level, depth = [found], 0
    while level:
        level = [
            inner
            for value in level
            if isinstance(value, (dict, list))
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
        depth += 1
        if depth > DEEPEST_JSON:
            raise ValueError(_TOO_DEEP)
    return found


def sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes as hexadecimal text; OSError if it cannot be read."""
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fault(path: Path, err: BaseException | None, size: int = 0) -> IOFault | OutputError:
    """Return the error that tells why `path` was not written: nothing may be (OutputError), or writing failed.

    size: bytes that were to be written, 0 where that is not known.
    """
    number, reason = getattr(err, "errno", None), getattr(err, "strerror", None) or str(err)
    if number == errno.ENAMETOOLONG:
        return OutputError(f"{show(path)}: cannot be made: {reason}; choose a shorter name")
    if number in _REFUSED:
        return OutputError(f"{show(path)}: cannot be made: {reason}; choose a folder that you may write to")
    try:
        there = next(above for above in path.absolute().parents if above.exists())
        free = f"; {shutil.disk_usage(there).free / 2**20:.1f} MiB are free there"
        free += f", {size / 2**20:.1f} MiB are needed" if size else ""
    except OSError:
        free = ""
    left = "what stood there is as it was" if path.exists() else "nothing was left under this name"
    return IOFault(f"{show(path)}: writing failed: {reason}{free}; {left}")


def refused(folder: Path, err: OSError) -> IOFault | OutputError:
    """Return why a folder cannot be made or written: it may not be (OutputError), or the disk is full or fails."""
    if err.errno in _FULL:
        return fault(folder, err)
    return OutputError(
        f"{show(folder)}: cannot be made or written ({err.strerror or err}); choose another folder with -o"
    )


def expanded(path: str, environ: Mapping[str, str] | None = None) -> str:
    """Return a path with ~, $NAME and ${NAME} replaced as a shell does it, $$ by a dollar sign.

    ValueError says what cannot be replaced: a variable that is not set or empty, a user that is not known.
    """
    environ = os.environ if environ is None else environ

    def value(match: re.Match[str]) -> str:
        name = match[2] if match[3] is None else match[3]
        if match[1]:
            return "$"
        if not environ.get(name or "", ""):
            raise ValueError(f"the variable {match[0]}, which is not set")
        return environ[name]

    home, rest = re.match(r"(~[^/]*)?(.*)", path, re.DOTALL).groups()  # type: ignore[union-attr]
    if home:
        found = environ.get("HOME", "") if home == "~" else ""
        found = found or os.path.expanduser(home)
        if found.startswith("~"):
            raise ValueError(f"'{home}', a home folder that is not known")
        home = found
    return (home or "") + _VARIABLE.sub(value, rest)
