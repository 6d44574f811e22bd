"""Members of tar files, read where they lie: `shards/000001.tar/000123.mix.flac` names one.

A tar is looked through once, for where each member begins; nothing is ever unpacked, so that `..` and `/` in names are
only names.  What such a look found may be kept in a file (`note`), and is trusted no further than the header before a
member: where that is another's, the tar was replaced and is looked through again.  Tars may lie at addresses that
fsspec knows; compressed ones have no places to go to, and are refused.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import mmap
import os
import tarfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from usepcli.audio import remote
from usepcli.audio.checks import PathLike, regular, show
from usepcli.audio.reading import reading
from usepcli.errors import BadInput, InputNotFound, IOFault
from usepcli.files import MOST_LIST, read_json, write_text

SUFFIX = ".tar"
FOLDER = "index"  # beside a table
_BLOCK = tarfile.BLOCKSIZE
_MOST_MEMBERS = 10_000_000
_MOST_HEAD = 1 << 20  # bytes of a long name or of extended headers
_HELD_MEMBERS = 1_000_000  # whose places stay in memory
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"(\xb5/\xfd": "zstd", b"PK\x03\x04": "zip"}
_KINDS = {tarfile.SYMTYPE: "a link", tarfile.LNKTYPE: "a link", tarfile.CHRTYPE: "a device",
          tarfile.BLKTYPE: "a device", tarfile.FIFOTYPE: "a pipe", tarfile.GNUTYPE_SPARSE: "a sparse file"}  # fmt: skip
_FORMAT = 1


class Place(NamedTuple):
    """Where a member's bytes begin in its tar, and how many they are."""

    offset: int
    size: int


@dataclass
class Index:
    """The members of a tar of `size` bytes by name, in their order; what was passed over, and why; `fault`: how the
    tar ends, where it does not end well.
    """

    size: int
    places: dict[str, Place] = field(default_factory=dict)
    passed: list[tuple[str, str]] = field(default_factory=list)
    fault: str = ""


def split(path: PathLike) -> tuple[str, str] | None:
    """Return the tar and the member that a path names; None for other paths, and where there is no such tar."""
    text = os.fsdecode(path)
    at = text.find(SUFFIX + "/")
    if at < 0:
        return None
    where = remote.address(text)
    text = where or text
    at = text.find(SUFFIX + "/")
    while at >= 0:
        tar, member = text[: at + len(SUFFIX)], text[at + len(SUFFIX) + 1 :]
        if member and (where or os.path.isfile(tar)):
            return tar, named(member)
        at = text.find(SUFFIX + "/", at + 1)
    return None


def is_tar(path: PathLike) -> bool:
    """Return whether a path names a tar by its suffix, here or at an address."""
    return os.fsdecode(path).endswith(SUFFIX)


def named(name: str) -> str:
    """Return a member's name as part of a path: without ./ and / at its beginning."""
    return str(PurePosixPath(name.lstrip("/"))) if name.strip("/.") else ""


def kept(folder: Path, tar: str) -> Path:
    """Return the file in the folder of a table that keeps the places of a tar, which the table calls `tar`."""
    digest = hashlib.sha256(os.fsencode(tar)).hexdigest()[:8]
    return folder / FOLDER / f"{PurePosixPath(tar).name}.{digest}.json"


def located(root: Path, relative: str, table: Path | None = None) -> Path:
    """Return the place of a path in a table, whose folder is `table`: below root, or at an address.

    Of a member of a tar it is remembered where the folder keeps the places of all members.
    """
    where = remote.address(relative)
    at = relative.find(SUFFIX + "/")
    if table is not None and at >= 0:
        tar = (where or relative)[: (where or relative).find(SUFFIX + "/") + len(SUFFIX)]
        note(tar if where else str(root / tar), kept(table, tar))
    return Path(where) if where else root / relative


def note(tar: str, kept: Path) -> None:
    """Remember the file that keeps, or will keep, the places of a tar's members; nothing is opened."""
    _noted[tar] = kept


_noted: dict[str, Path] = {}
_known: OrderedDict[str, tuple[tuple[int, int], Index]] = OrderedDict()
_lock = threading.Lock()


def index(tar: str, fresh: bool = False) -> Index:
    """Return the members of a tar, kept while its size and time stay the same; `fresh`: looked through again.

    InputNotFound, IOFault, or BadInput for what is no tar.
    """
    stamp = _stamp(tar)
    if not fresh:
        with _lock:
            held = _known.get(tar)
        if held is not None and held[0] == stamp:
            return held[1]
        if (kept := _noted.get(tar)) is not None and (found := _load(kept, stamp[0])) is not None:
            return _keep(tar, stamp, found)
    if remote.address(tar):
        with reading(tar), remote.copied(tar) as file:
            return _keep(tar, stamp, look_through(file, tar))
    with reading(tar), open(tar, "rb", opener=regular) as file:
        return _keep(tar, stamp, look_through(file, tar))


def _stamp(tar: str) -> tuple[int, int]:
    if remote.address(tar):
        return 0, 0
    try:
        held = os.stat(tar)
    except OSError as fault:
        raise InputNotFound(f"{show(tar)}: cannot be opened: {fault.strerror}") from fault
    return held.st_size, held.st_mtime_ns


def _keep(tar: str, stamp: tuple[int, int], found: Index) -> Index:
    with _lock:
        _known[tar] = stamp, found
        _known.move_to_end(tar)
        while sum(len(one.places) for _, one in _known.values()) > _HELD_MEMBERS and len(_known) > 1:
            _known.popitem(last=False)
    return found


def look_through(file: BinaryIO, tar: str) -> Index:
    """Return the members of an open tar by its headers alone; BadInput for what is none, or holds too many."""
    found = Index(file.seek(0, os.SEEK_END))
    file.seek(0)
    head = file.read(_BLOCK)
    if packed := next((name for mark, name in _PACKED.items() if head.startswith(mark)), ""):
        raise BadInput(f"{show(tar)}: packed by {packed}, where members cannot be gone to; unpack it to a plain .tar")
    file.seek(0)
    try:
        for member in _members(file):
            _add(found, member)
            if len(found.places) + len(found.passed) > _MOST_MEMBERS:
                raise BadInput(f"{show(tar)}: more than {_MOST_MEMBERS} members; split it")
    except (tarfile.TarError, ValueError, OverflowError) as fault:
        if not found.places and not found.passed and head.strip(b"\0"):
            raise BadInput(f"{show(tar)}: no tar file ({fault}); begins with {head[:4]!r}") from fault
        found.fault = f"cut short or damaged ({fault})"
    return found


def _members(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    last = -1
    with tarfile.TarFile(fileobj=_Heads(file), errors="surrogateescape") as tar:  # type: ignore[arg-type]
        while (member := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]
            if member.size < 0 or member.offset_data <= last:
                raise tarfile.ReadError("a member of less than no bytes")
            last = member.offset_data
            yield member


def _add(found: Index, member: tarfile.TarInfo) -> None:
    name = named(member.name)
    if member.isdir():
        return
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE) or member.issparse():
        found.passed.append((member.name, _KINDS.get(member.type, "no plain file")))
    elif not name or name in found.places:
        found.passed.append((member.name, "a second member of this name" if name else "a member without a name"))
    else:
        found.places[name] = Place(member.offset_data, member.size)


class _Heads:
    """A tar of which headers alone are read: a length that no header has is damage, not a wish for memory."""

    name = ""
    mode = "rb"

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MOST_HEAD:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)


def save(found: Index, kept: Path) -> None:
    """Keep the places of a tar's members in a file; errors as for `files.write_text`."""
    members = [[name, *place] for name, place in found.places.items()]
    write_text(kept, json.dumps({"format": _FORMAT, "size": found.size, "members": members}))


def _load(kept: Path, size: int) -> Index | None:
    """Return what a file keeps of a tar of `size` bytes (0: not known); None for another, or none."""
    try:
        said = read_json(kept, most=MOST_LIST)
        if said["format"] != _FORMAT or (size and said["size"] != size):
            return None
        found = Index(int(said["size"]), {str(n): Place(int(at), int(count)) for n, at, count in said["members"]})
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    inside = all(_BLOCK <= at <= at + count <= found.size for at, count in found.places.values())
    return found if inside else None


class Member(io.RawIOBase):
    """A member, open for reading; `read_at` reads without moving.  key: tells one version of it from others."""

    def __init__(self, path: PathLike, tar: str, place: Place, total: int) -> None:
        """total: bytes of the tar.  BadInput where it ends before the member, OSError where it cannot be opened."""
        self.name, self.size, self._offset, self._tar = os.fsdecode(path), place.size, place.offset, tar
        self._at, self._fd = 0, -1
        if (lacks := place.offset + place.size - total) > 0:
            raise BadInput(f"{show(path)}: the tar is cut short, {lacks} bytes before the end of this member")
        self._far = bool(remote.address(tar))
        if not self._far:
            self._fd = regular(tar, os.O_RDONLY | os.O_CLOEXEC)
        held = None if self._far else os.fstat(self._fd)
        whole = (total, 0) if held is None else (held.st_size, held.st_mtime_ns)
        self.mtime_ns = whole[1]
        self.key: tuple[Any, ...] = (tar, *whole, place.offset, place.size)

    def header(self) -> bytes:
        """Return the block before the member."""
        return self.read_at(_BLOCK, -_BLOCK)

    def read_at(self, count: int, at: int) -> bytes:
        """Return up to `count` bytes from `at` on."""
        count = max(0, min(count, self.size - at))
        if not self._far:
            return os.pread(self._fd, count, self._offset + at)
        base, parts = self._offset - _BLOCK, list[bytes]()
        at += _BLOCK
        end, whole = at + count, self.size + _BLOCK
        while at < end:
            first = at - at % remote.PIECE
            piece = remote.fetch(self._tar, base + first, base + min(first + remote.PIECE, whole))
            part = piece[at - first : end - first]
            if not part:
                break
            parts.append(part)
            at += len(part)
        return b"".join(parts)

    @property
    def data(self) -> Any:
        """The bytes as mmap gives them: len, slices, find and rfind."""
        if self._far or not self.size:
            return self.read_at(self.size, 0)
        return _Mapped(self._fd, self._offset, self.size)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move as `io.IOBase.seek` does."""
        at = offset + (0, self._at, self.size)[whence]
        if at < 0:
            raise OSError(errno.EINVAL, "a place before the beginning")
        self._at = at
        return at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the position on; what a connection meets is an OSError here, as of a disk."""
        view = memoryview(buffer).cast("B")
        try:
            data = self.read_at(len(view), self._at)
        except IOFault as fault:
            raise OSError(errno.EIO, str(fault)) from fault
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        """Close the tar."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        super().close()


class _Mapped:
    """A part of a file in memory, as mmap would give it if it began where a page does."""

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self._shift = offset % mmap.ALLOCATIONGRANULARITY
        self._data = mmap.mmap(fd, size + self._shift, access=mmap.ACCESS_READ, offset=offset - self._shift)
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: Any) -> Any:
        if not isinstance(part, slice):
            return self._data[self._shift + (part if part >= 0 else part + self._size)]
        start, stop, step = part.indices(self._size)
        return self._data[start + self._shift : max(start, stop) + self._shift : step]

    def find(self, sub: bytes, start: int = 0, end: int | None = None) -> int:
        """Return where `sub` begins first, -1 for nowhere."""
        return self._found(self._data.find, sub, start, end)

    def rfind(self, sub: bytes, start: int = 0, end: int | None = None) -> int:
        """Return where `sub` begins last, -1 for nowhere."""
        return self._found(self._data.rfind, sub, start, end)

    def _found(self, look: Any, sub: bytes, start: int, end: int | None) -> int:
        first, last, _ = slice(start, end).indices(self._size)
        at: int = look(sub, first + self._shift, last + self._shift)
        return at - self._shift if at >= 0 else -1

    def close(self) -> None:
        """Let go of the memory."""
        self._data.close()


def open_member(path: PathLike, tar: str, name: str) -> Member:
    """Open a member; InputNotFound where the tar or the member is not there, BadInput where it is cut, IOFault."""
    for fresh in (False, True):
        found = index(tar, fresh)
        if name not in found.places:
            if not fresh and _noted.get(tar):
                continue
            if found.fault:
                raise BadInput(f"{show(path)}: is not in what is left of the tar, which is {found.fault}")
            raise InputNotFound(f"{show(path)}: the tar holds no such member")
        member = Member(path, tar, found.places[name], found.size)
        try:
            if _heads(member.header(), name, member.size):
                return member
        except BaseException:
            member.close()
            raise
        member.close()
    raise BadInput(f"{show(path)}: the header of the member is damaged; make the tar again")


def _heads(block: bytes, name: str, size: int) -> bool:
    """Return whether a header is that of a member; of a long name it holds a part, of a long file no size."""
    try:
        said = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    short = named(said.name)
    long = len(os.fsencode(said.name)) >= tarfile.LENGTH_NAME - 1
    return (short == name or long or not name.isascii()) and (said.size == size or size >= 8 << 30)
