"""How many samples a sound file holds, what reads all of them, and which bytes are left over.

No library's word is taken where it guesses, or where it speaks of a part of the file alone:
  WAV, AIFF, CAF, W64, AU  lengths that were never filled in or do not agree; further chunks, further files  chunks.py
  MP3     a Xing tag that is absent, wrong, or speaks of the first of several joined files                   mpeg.py
  Ogg     links of a joined file, pages that are lost                                                        chain.py
  FLAC    a total that is not the number of the last sample: counted once by decoding; a second stream       flac.py
  others  what PyAV reads is counted once by decoding                                                        codecs.py
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import soundfile as sf

from usepcli.audio import chain, flac, mpeg, raws
from usepcli.audio.checks import PathLike, check_rate, show
from usepcli.audio.chunks import Body, survey
from usepcli.audio.codecs import CodecFile
from usepcli.audio.formats import HEAD, Kind, sniff
from usepcli.audio.plain import PlainFile
from usepcli.audio.reading import reading
from usepcli.audio.riff import Patched
from usepcli.errors import BadInput, InputNotFound, IOFault, MissingDependency
from usepcli.versions import install

_UNKNOWN = 1 << 62  # libsndfile says 2**63 - 1 where a header leaves the length open
_BLOCK = 1 << 16
_LEAST_S = 0.1  # containers round, and count the coder's delay; tags may stand behind the sound


@dataclass(frozen=True)
class Extent:
    """What can be read of a file: samples per channel, rate in Hz, channels.

    `left_over_bytes` are sound that cannot be read with the rest, or nothing that the header explains; `missing_s` is
    that in seconds, or what the header promises beyond the file's end where it is more. `exact`: something in the file
    says where it ends, so that a cut one would show.
    """

    frames: int
    rate: int
    channels: int
    left_over_bytes: int
    missing_s: float
    exact: bool


def extent(path: PathLike, track: int = 0) -> Extent:
    """Return how much sound a file holds; errors as for `opened`."""
    with opened(path, track) as file:
        frames, rate, channels, left_over = file.frames, file.samplerate, file.channels, file.left_over
        promised, exact = file.promised, file.exact
        rounds = isinstance(file, CodecFile)
    seconds, missing = frames / rate, max(0, promised - frames) / rate
    if rounds and missing <= _LEAST_S:
        missing = 0.0
    size = raws.facts(path).size
    lost = seconds * left_over / max(1, size - left_over)
    missing = max(missing, lost if lost > _LEAST_S else 0.0)
    return Extent(frames, rate, channels, left_over, round(missing, 3), exact)


@contextmanager
def opened(path: PathLike, track: int = 0) -> Iterator[Any]:
    """Open a file with the library that its first bytes call for; InputNotFound, BadInput or MissingDependency.

    `track` is the number of a track of sound where there are several, 0 for the first. What comes has samplerate,
    channels, frames, subtype, format, left_over, promised, exact, and takes samples and moves as `plain.PlainFile`
    does.
    """
    with reading(path):
        head = first_bytes(path)
        kind = sniff(head)
        other = CodecFile(path, kind, track) if kind is not None and (not kind.plain or track > 1) else None
    if other is not None:
        with other as codec:
            check_rate(codec.samplerate, path)
            yield codec
        return
    with raws.open_raw(path) as raw:
        file: PlainFile | chain.ChainFile | CodecFile
        source: _Source | None = None
        try:
            with reading(path):
                file, source = _settled(path, raw, kind)
        except sf.LibsndfileError as err:
            file = _other(path, kind, head, err.error_string.rstrip(". "))
            if (body := survey(raw)) is not None:  # FFmpeg reads one part
                file.left_over = body.left_over + sum(length for _, length in body.parts[1:])
        with file:
            check_rate(file.samplerate, path)
            yield file
        fault = getattr(source, "fault", None)
        if fault:
            raise IOFault(f"{show(path)}: reading failed: {fault.strerror}; check the disk") from fault


_Source = Patched | chain.ChainFile | bytes


def tracks(path: PathLike) -> tuple[str, ...]:
    """Return the tracks of sound of a file in words; none for a format that has one alone."""
    kind = sniff(first_bytes(path))
    if kind is None or (kind.plain and kind.demuxer != "ogg"):
        return ()
    if kind.plain:
        with raws.open_raw(path) as raw:
            if max(chain.pages(raw).streams, default=1) < 2:
                return ()
    try:
        with CodecFile(path, kind) as codec:
            return codec.tracks
    except (BadInput, MissingDependency):  # the sound itself was read by other means
        return ()


def _settled(path: PathLike, raw: BinaryIO, kind: Kind | None) -> tuple[PlainFile | chain.ChainFile, _Source]:
    """Return a file open in such a way that all its samples are read, and what reads its bytes."""
    reader = kind.demuxer if kind else ""
    if (stream := flac.look(raw)) is not None:
        return _flac(path, raw, stream)
    if reader == "ogg":
        return _ogg(path, raw)
    if reader == "mp3":
        return _mp3(path, raw)
    if (body := survey(raw)) is not None:
        return _chunked(path, raw, body)
    if kind is None and Path(os.fsdecode(path)).suffix.lower() == ".raw":
        raise BadInput(f"{show(path)}: headerless samples have no rate; convert it to WAV first")
    file = PlainFile(_handed(path, raw))
    if kind is None and file.format == "MP3":  # bytes before the first frame, which libsndfile takes for some
        file.close()
        return _mp3(path, raw)
    return file, _handed(path, raw)


def _flac(path: PathLike, raw: BinaryIO, found: flac.Flac) -> tuple[PlainFile, _Source]:
    if found.stated == found.held:
        source = _handed(path, raw)
        file = PlainFile(source)
    else:
        source = Patched(raw, found.header, found.offset)
        total = _counted(path, raw, source)
        file = PlainFile(source)
        file.total, file.promised = total, found.stated
    file.left_over = found.left_over
    return file, source


def _mp3(path: PathLike, raw: BinaryIO) -> tuple[PlainFile, _Source]:
    found = mpeg.look(raw)
    source: _Source = Patched(raw, found.head, found.offset) if found.head else _handed(path, raw)
    file = PlainFile(source)
    file.left_over, file.exact = found.lost, found.tagged or not found.head
    return file, source


def _ogg(path: PathLike, raw: BinaryIO) -> tuple[PlainFile | chain.ChainFile, _Source]:
    pages = chain.pages(raw)
    try:
        links = chain.links(raw)
    except sf.LibsndfileError:
        links = ()  # the first link alone
    if links:
        joined = chain.ChainFile(raw, links)
        joined.exact, joined.left_over = pages.ended, joined.left_over or pages.stray
        return joined, joined
    source: _Source = _handed(path, raw)
    file = PlainFile(source)
    file.exact, file.left_over = pages.ended, pages.stray
    if len(pages.starts) > 1:
        file.left_over = raws.size(raw) - pages.starts[1]
    if pages.torn:
        file.promised, file.total = file.frames, _counted(path, raw, source)
    return file, source


def _chunked(path: PathLike, raw: BinaryIO, body: Body) -> tuple[PlainFile, _Source]:
    """Open a file of chunks as it stands where libsndfile finds what the chunks hold, else with a header for it."""
    source: _Source = _handed(path, raw)
    file = _plain(source) if len(body.parts) == 1 else None
    if body.frame and (file is None or file.frames != body.frames):
        if file is not None:
            file.close()
        source = Patched(raw, body.header(), 0, body.whole_parts())
        file = PlainFile(source)
    file = file or PlainFile(source)
    if file.subtype.startswith("MPEG"):  # of which libsndfile guesses the length
        file.total = _counted(path, raw, source)
    if 0 < file.frames - body.stated < body.block:
        file.total = body.stated  # the rest fills the last block
    file.left_over, file.exact = body.left_over, body.promised is not None
    if body.missing:
        held = sum(length for _, length in body.parts)
        more = body.missing // body.frame if body.frame else file.frames * body.missing // max(held, 1)
        file.promised = file.frames + more
    return file, source


def _handed(path: PathLike, raw: BinaryIO) -> _Source:
    """Return what libsndfile is to open: a file by its name, a member of a tar as what is open already."""
    return Patched(raw, b"", 0) if raws.is_member(path) else os.fsencode(path)


def _plain(source: _Source) -> PlainFile | None:
    try:
        return PlainFile(source)
    except sf.LibsndfileError:
        return None


_COUNTED: dict[tuple[Any, ...], int] = {}


def _counted(path: PathLike, raw: BinaryIO, source: _Source) -> int:
    """Return the samples per channel by decoding once (kept while the file's size and time stay the same)."""
    key = raws.key(raw)
    if key not in _COUNTED:
        with PlainFile(source) as file, decoding(path):
            file.total = _UNKNOWN
            _COUNTED[key] = sum(iter(lambda: len(file.take(_BLOCK)), 0))
        if isinstance(source, Patched):
            source.seek(0)
    return _COUNTED[key]


def first_bytes(path: PathLike) -> bytes:
    """Return the bytes that suffice to know a format; InputNotFound or BadInput where there are none."""
    try:
        alone = not raws.is_member(path)
        if alone and os.path.isdir(path):
            raise BadInput(f"{show(path)}: is a folder where a sound file was expected")
        if alone and not os.path.isfile(path):
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
    with raws.open_raw(path) as file:
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
    """Note that the block reads a file, and tell of what stops its decoder as BadInput."""
    try:
        with reading(path):
            yield
    except sf.LibsndfileError as err:
        why = err.error_string.rstrip(". ") or "damaged"
        raise BadInput(f"{show(path)}: decoding stopped: {why}; replace or leave out the file") from err
