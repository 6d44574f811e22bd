"""How many samples a sound file holds, what reads all of them, and which bytes are left over.

No library's word is taken where it guesses, or where it speaks of a part of the file alone:
  WAV     a length that was never filled in; further chunks of samples, further files behind the first   riff.py
  MP3     a Xing tag that is absent, or that speaks of the first of several joined files                 mpeg.py
  Ogg     links of a joined file                                                                         chain.py
  FLAC    a length that was never filled in: counted once by decoding; a second stream is told, not read
  others  what PyAV reads is counted once by decoding                                                    codecs.py
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import soundfile as sf

from usepcli.audio import chain, mpeg
from usepcli.audio.checks import PathLike, show
from usepcli.audio.codecs import CodecFile
from usepcli.audio.formats import HEAD, OGG_PAGE_MOST, Kind, ends_with_last_page, sniff
from usepcli.audio.plain import PlainFile
from usepcli.audio.riff import Patched, closed_header, data_parts, declared_data, parse_wav, reads_on
from usepcli.errors import BadInput, InputNotFound, IOFault, MissingDependency
from usepcli.versions import install

_UNKNOWN = 1 << 62  # libsndfile says 2**63 - 1 where a header leaves the length open
_BLOCK = 1 << 16
_FLAC = b"fLaC\x00\x00\x00\x22"  # a stream's first bytes: its mark, and the head of a STREAMINFO of 34 bytes
_LEAST_S = 0.1  # containers round, and count the coder's delay; tags may stand behind the sound
_COUNTED: dict[tuple[int, int, int, int], int] = {}


@dataclass(frozen=True)
class Extent:
    """What can be read of a file: samples per channel, rate in Hz, channels.

    `left_over_bytes` are sound that cannot be read with the rest, or nothing that the header explains; `missing_s` is
    that and what the header promises beyond the file's end, in seconds. `exact`: something in the file says where it
    ends, so that a cut one would show.
    """

    frames: int
    rate: int
    channels: int
    left_over_bytes: int
    missing_s: float
    exact: bool


def extent(path: PathLike) -> Extent:
    """Return how much sound a file holds; errors as for `opened`."""
    with opened(path) as file:
        frames, rate, channels, left_over = file.frames, file.samplerate, file.channels, file.left_over
        stated_s = file.stated_s if isinstance(file, CodecFile) else 0.0
    with open(path, "rb") as raw:
        size, promise = os.fstat(raw.fileno()).st_size, declared_data(raw)
        exact = not _is_open_ended(raw)
        left_over = left_over or _second_flac(raw)
    seconds = frames / rate
    missing = max(0.0, stated_s - seconds)
    if promise is not None and sum(promise) > size > promise[0]:
        missing = seconds * (sum(promise) - size) / (size - promise[0])
    elif missing <= _LEAST_S:
        missing = 0.0
    lost = seconds * left_over / max(1, size - left_over)
    return Extent(frames, rate, channels, left_over, round(missing + (lost if lost > _LEAST_S else 0.0), 3), exact)


def _second_flac(file: BinaryIO) -> int:
    """Return the bytes from the second FLAC stream of a joined file on, which no decoder reads; 0 without one."""
    file.seek(0)
    if file.read(len(_FLAC)) != _FLAC:
        return 0
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(_FLAC, len(_FLAC))
        return len(data) - at if at > 0 else 0


def _is_open_ended(file: BinaryIO) -> bool:
    file.seek(0)
    head, size = file.read(HEAD), os.fstat(file.fileno()).st_size
    if head.startswith(b"OggS"):
        file.seek(max(0, size - OGG_PAGE_MOST))
        return not ends_with_last_page(file.read())
    kind = sniff(head)
    if kind is not None and kind.demuxer == "mp3":
        found = mpeg.look(file)
        return bool(found.head) and not found.tagged
    layout = parse_wav(head)
    return layout is not None and layout.declared is None


@contextmanager
def opened(path: PathLike) -> Iterator[Any]:
    """Open a file with the library that its first bytes call for; InputNotFound, BadInput or MissingDependency.

    What comes has samplerate, channels, frames, subtype, format, left_over, and takes samples and moves as
    `plain.PlainFile` does.
    """
    head = first_bytes(path)
    kind = sniff(head)
    if kind is not None and not kind.plain:
        with CodecFile(path, kind) as codec:
            yield codec
        return
    with open(path, "rb", buffering=0) as raw:
        source, left_over = _source(path, raw, kind, head)
        try:
            file: Any = source if isinstance(source, chain.ChainFile) else PlainFile(source)
        except sf.LibsndfileError as err:
            file = _other(path, kind, head, err.error_string.rstrip(". "))
        with file:
            if not isinstance(file, chain.ChainFile):  # which knows itself
                file.left_over = left_over
            if file.frames > _UNKNOWN:
                file.total = _counted(path)
            yield file
        fault = getattr(source, "fault", None)
        if fault:
            raise IOFault(f"{show(path)}: reading failed: {fault.strerror}; check the disk") from fault


def _source(
    path: PathLike, raw: BinaryIO, kind: Kind | None, head: bytes
) -> tuple[Patched | chain.ChainFile | bytes, int]:
    """Return what libsndfile is to read, the file itself where that does, and the bytes that it will not read."""
    total = os.fstat(raw.fileno()).st_size
    if kind is not None and kind.demuxer == "mp3":
        found = mpeg.look(raw)
        return Patched(raw, found.head, found.offset) if found.head else os.fsencode(path), found.lost
    if kind is not None and kind.demuxer == "ogg":
        try:
            links = chain.links(raw)
        except sf.LibsndfileError:
            links = ()  # the first link alone: what is left over is told below
        return chain.ChainFile(raw, links) if links else os.fsencode(path), 0
    layout = parse_wav(head)
    if layout is not None and layout.declared is None and reads_on(head, total):
        raw.seek(0)
        return Patched(raw, closed_header(raw.read(layout.offset), layout.offset, total), layout.offset), 0
    if layout is None or layout.declared is None or layout.offset + layout.declared + 8 > total:
        return os.fsencode(path), 0
    parts, left_over = data_parts(raw, layout, total)
    if len(parts) == 1:
        return os.fsencode(path), left_over
    raw.seek(0)
    size = layout.offset + sum(length for _, length in parts)
    return Patched(raw, closed_header(raw.read(layout.offset), layout.offset, size), layout.offset, parts), left_over


def _counted(path: PathLike) -> int:
    """Return the samples per channel by decoding once (kept while the file's size and time stay the same)."""
    held = os.stat(path)
    key = (held.st_dev, held.st_ino, held.st_size, held.st_mtime_ns)
    if key not in _COUNTED:
        with PlainFile(os.fsencode(path)) as file, decoding(path):
            _COUNTED[key] = sum(iter(lambda: len(file.take(_BLOCK)), 0))
    return _COUNTED[key]


def first_bytes(path: PathLike) -> bytes:
    """Return the bytes that suffice to know a format; InputNotFound or BadInput where there are none."""
    try:
        if os.path.isdir(path):
            raise BadInput(f"{show(path)}: is a folder where a sound file was expected")
        if not os.path.isfile(path):
            os.stat(path)
            raise BadInput(f"{show(path)}: is no regular file; pipe it in with - where the command takes it")
        head = read_head(path)
    except OSError as err:
        if err.errno in (errno.ENOENT, errno.ENOTDIR):
            raise InputNotFound(f"{show(path)}: no such file") from err
        raise BadInput(f"{show(path)}: cannot be opened: {err.strerror}") from err
    if not head:
        raise BadInput(f"{show(path)}: the file is empty (0 bytes)")
    return head


def read_head(path: PathLike) -> bytes:
    """Return a file's first bytes; OSError as it comes."""
    with open(path, "rb", buffering=0) as file:
        return file.read(HEAD)


def _other(path: PathLike, kind: Kind | None, head: bytes, why: str) -> CodecFile:
    """Try PyAV on a container that libsndfile knows but refuses: another codec may be inside."""
    if kind is None:
        raise BadInput(f"{show(path)}: unreadable ({why or 'unknown'}); begins with {head[:4]!r}, no sound file")
    try:
        return CodecFile(path, kind)
    except MissingDependency as err:
        hint = f"damaged, or coded in a way that only {install('codecs')} reads"
        raise BadInput(f"{show(path)}: libsndfile refuses it ({why or 'damaged'}); {hint}") from err
    except BadInput as err:
        reason = str(err).removeprefix(f"{show(path)}: ")
        raise BadInput(f"{show(path)}: libsndfile refuses it ({why or 'damaged'}), and PyAV: {reason}") from err


@contextmanager
def decoding(path: PathLike) -> Iterator[None]:
    """Tell of what stops a decoder in the block as BadInput."""
    try:
        yield
    except sf.LibsndfileError as err:
        why = err.error_string.rstrip(". ") or "damaged"
        raise BadInput(f"{show(path)}: decoding stopped: {why}; replace or leave out the file") from err
