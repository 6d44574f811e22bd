"""Where a file of chunks keeps its samples, settled from all its chunks, and the header that a decoder needs for them.

Containers: WAV and RF64 or BW64 (EBU Tech 3306, ITU-R BS.2088), their big-endian RIFX, AIFF and AIFC, CAF (Apple),
Wave64 (Sony), AU (Sun).  A length that was never filled in reaches to the end; further chunks of samples, and further
files behind the first, are read on while they are of its kind; what nothing explains is counted.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

from usepcli.audio import raws
from usepcli.audio.formats import HEAD, tag_bytes
from usepcli.audio.riff import is_open

_JOINABLE = (1, 3, 6, 7)  # WAV's codes of integers, floats, A-law and mu-law: samples to be put one behind the other
_JOINABLE_AIFC = (b"NONE", b"twos", b"sowt", b"raw ", b"in24", b"in32", b"fl32", b"FL32", b"fl64", b"FL64", b"ulaw",
                  b"ULAW", b"alaw", b"ALAW")  # fmt: skip
_JOINABLE_CAF = (b"lpcm", b"ulaw", b"alaw")
_AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}  # of a sample, by encoding
_EXTENSIBLE = 0xFFFE
_FOUR_GIB = 1 << 32
_NEVER = 1 << 62  # a 64-bit length from here on was never filled in


class _Dialect(NamedTuple):
    """How chunks are written: where the first begins, their header, what of it the size counts, padding; the names of
    the chunks with form and samples, and the bytes at the start of the latter that are none.
    """

    start: int
    header: str
    counted: int
    pad: int
    form: bytes
    data: bytes
    skip: int


_WAV = _Dialect(12, "<4sI", 0, 2, b"fmt ", b"data", 0)
_DIALECTS = {
    (b"RIFF", b"WAVE"): _WAV,
    (b"RF64", b"WAVE"): _WAV,
    (b"BW64", b"WAVE"): _WAV,
    (b"RIFX", b"WAVE"): _WAV._replace(header=">4sI"),
    (b"FORM", b"AIFF"): _Dialect(12, ">4sI", 0, 2, b"COMM", b"SSND", 8),
    (b"FORM", b"AIFC"): _Dialect(12, ">4sI", 0, 2, b"COMM", b"SSND", 8),
    (b"caff", b""): _Dialect(8, ">4sq", 0, 1, b"desc", b"data", 4),
    (b"riff", b""): _Dialect(40, "<16sQ", 24, 8, b"fmt ", b"data", 0),
}


class Chunk(NamedTuple):
    """A chunk at the top of a file: its name (the first four bytes), and where its `size` bytes begin."""

    name: bytes
    start: int
    size: int


class Body(NamedTuple):
    """The samples of a file: where they lie, (offset, bytes) each, and what headers and content say of them.

    `promised` are the bytes that headers claim, None where they leave it open; `left_over` those that nothing explains;
    `frame` the bytes of one sample of all channels, 0 where they are coded; `stated` the samples that a fact chunk
    gives, 0 without one; `block` the samples of one block of a code.
    """

    start: bytes
    form: bytes
    parts: tuple[tuple[int, int], ...]
    promised: int | None
    left_over: int
    frame: int
    stated: int = 0
    block: int = 0

    @property
    def frames(self) -> int:
        """Samples per channel that are there; 0 where they are coded."""
        return sum(length // self.frame for _, length in self.parts) if self.frame else 0

    @property
    def missing(self) -> int:
        """Bytes that headers promise beyond those that are there."""
        return 0 if self.promised is None else max(0, self.promised - sum(length for _, length in self.parts))

    def header(self) -> bytes:
        """Return a header of the same container for all parts, to be followed by them, each of whole samples."""
        size = self.frames * self.frame
        if self.start[:4] == b".snd":
            return self.start[:8] + struct.pack(">I", min(size, 0xFFFFFFFF)) + self.start[12:]
        if self.start[:4] == b"FORM":
            kind = self.start[8:12]
            form = self.form[:2] + struct.pack(">I", self.frames) + self.form[6:]
            form = b"COMM" + struct.pack(">I", len(form)) + form + bytes(len(form) % 2)
            rest = kind + form + b"SSND" + struct.pack(">III", size + 8, 0, 0)
            return b"FORM" + struct.pack(">I", len(rest) + size) + rest
        if self.start[:4] == b"caff":
            return self.start[:8] + struct.pack(">4sq", b"desc", len(self.form)) + self.form + struct.pack(
                ">4sqI", b"data", size + 4, 0
            )  # fmt: skip
        if self.start[:4] == b"riff":
            guid = self.start[28:40]
            form = b"fmt " + guid + struct.pack("<Q", 24 + len(self.form)) + self.form + bytes(-len(self.form) % 8)
            rest = self.start[24:40] + form + b"data" + guid + struct.pack("<Q", 24 + size)
            return self.start[:16] + struct.pack("<Q", 24 + len(rest) + size) + rest
        order = ">" if self.start[:4] == b"RIFX" else "<"
        form = b"fmt " + struct.pack(order + "I", len(self.form)) + self.form + bytes(len(self.form) % 2)
        total = 12 + len(form) + size
        if total + 8 < _FOUR_GIB:
            name = b"RIFX" if order == ">" else b"RIFF"
            head = name + struct.pack(order + "I", total) + b"WAVE" + form
            return head + b"data" + struct.pack(order + "I", size)
        sizes = b"ds64" + struct.pack("<IQQQI", 28, total + 36, size, self.frames, 0)
        return b"RF64\xff\xff\xff\xffWAVE" + sizes + form + b"data\xff\xff\xff\xff"

    def whole_parts(self) -> list[tuple[int, int]]:
        """Return the parts without what is less than a sample at their ends."""
        return [(start, length - length % self.frame) for start, length in self.parts]


@raws.once
def survey(file: BinaryIO) -> Body | None:
    """Return where a file of chunks keeps its samples; None for other files, and those without form or samples."""
    total = raws.size(file)
    first, at = _container(file, 0, total)
    if first is None:
        return None
    parts, promised = list(first.parts), first.promised
    while promised is not None and at < total:
        other, end = _container(file, at, total)
        if other is None or other.start[:4] != first.start[:4] or other.form != first.form or not first.frame:
            break
        parts += other.parts
        promised = None if other.promised is None else promised + other.promised
        at = end
    left_over = 0 if promised is None else first.left_over + stray(file, at, total)
    return first._replace(parts=tuple(parts), promised=promised, left_over=left_over)


def stray(file: BinaryIO, at: int, total: int) -> int:
    """Return how many bytes from `at` on nothing explains: not zeros that a recorder set aside, nor tags."""
    while at < total:
        head = _bytes(file, at, HEAD)
        if not any(head):
            return 0
        length = _tag_length(head, total - at) or _ape_items(file, total - at, total)
        if not length:
            return total - at
        at += length
    return 0


def _tag_length(head: bytes, room: int) -> int:
    """Return the bytes of the tag that begins with `head`, 0 where none does."""
    if head.startswith(b"APETAGEX") and len(head) >= 16:
        return 32 + int.from_bytes(head[12:16], "little")
    if head.startswith(b"LYRICSBEGIN"):
        return room
    return tag_bytes(head) or (227 if head.startswith(b"TAG+") else 128 if head.startswith(b"TAG") else 0)


def _ape_items(file: BinaryIO, room: int, total: int) -> int:
    """Return the bytes up to the end of an APE tag that has no header and takes all the room, but for an ID3v1 tag."""
    for end in (total, total - 128):
        foot = _bytes(file, max(0, end - 32), 16)
        if foot.startswith(b"APETAGEX") and int.from_bytes(foot[12:], "little") >= room - (total - end):
            return room - (total - end)
    return 0


def chunks(file: BinaryIO) -> list[Chunk]:
    """Return the chunks of a file, up to the first bytes that are none; an open length counts to the file's end."""
    total = raws.size(file)
    dialect = _dialect(_bytes(file, 0, 40))
    return [] if dialect is None else _Walk(file, dialect, dialect.start, total, _long_data(file, 0)).all()


def _bytes(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)


def _dialect(head: bytes) -> _Dialect | None:
    return _DIALECTS.get((head[:4], head[8:12])) or _DIALECTS.get((head[:4], b""))


def _long_data(file: BinaryIO, base: int) -> int | None:
    """Return the length of the samples that a ds64 chunk gives; None without one."""
    head = _bytes(file, base, 36)
    return struct.unpack_from("<Q", head, 28)[0] if head[12:16] == b"ds64" and len(head) == 36 else None


class _Walk:
    """Goes from chunk to chunk; `at` is where it stopped."""

    def __init__(self, file: BinaryIO, dialect: _Dialect, at: int, total: int, long_data: int | None) -> None:
        self.file, self.dialect, self.at, self.total, self.long_data = file, dialect, at, total, long_data
        self.open = False

    def all(self) -> list[Chunk]:
        """Return the chunks up to the end, or to the first bytes that are none."""
        found = []
        while (chunk := self.next()) is not None:
            found.append(chunk)
        return found

    def next(self) -> Chunk | None:
        """Return the next chunk; None at the end and before bytes that are none."""
        length = struct.calcsize(self.dialect.header)
        head = _bytes(self.file, self.at, length)
        if len(head) < length or not _is_name(head[:4]) or _dialect(_bytes(self.file, self.at, 40)) is not None:
            return None
        name, size = struct.unpack(self.dialect.header, head)
        start, size = self.at + length, size - self.dialect.counted
        if name[:4] == self.dialect.data:
            size = self._data_size(start, size)
        elif size < 0 or start + size > self.total + 1:
            return None
        self.at = self._behind(start, size)
        return Chunk(name[:4], start, size)

    def _data_size(self, start: int, size: int) -> int:
        if size == 0xFFFFFFFF and self.long_data is not None:
            size = self.long_data
        short = self.dialect.header.endswith("I")
        never = (short and self.long_data is None and is_open(size)) or size < 0 or size >= _NEVER
        if never or (size <= self.dialect.skip and self._is_sound(start + max(size, 0))):
            self.open = True
            return self.total - start
        return size

    def _is_sound(self, at: int) -> bool:
        """Whether what lies behind a length of nothing is no chunk either: the length was never filled in."""
        head = _bytes(self.file, at, 40)
        if not head or _tag_length(head, 1) or _dialect(head) is not None:
            return False
        rest = _Walk(self.file, self.dialect, at, self.total, self.long_data)
        return rest.next() is None

    def _behind(self, start: int, size: int) -> int:
        """Return where the next chunk begins: some programs leave the padding out."""
        end = start + size
        padded = end + -size % self.dialect.pad
        if padded > end and end < self.total:
            there, name = _bytes(self.file, end, 40), _bytes(self.file, padded, 4)
            known = there[:4] in (self.dialect.data, self.dialect.form) or _dialect(there) is not None
            if known or (_is_name(there[:4]) and not _is_name(name)):
                return end
        return min(padded, self.total)


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(32 <= byte < 127 for byte in name)


def _container(file: BinaryIO, base: int, total: int) -> tuple[Body | None, int]:
    """Return the samples of the container that begins at `base`, and where it ends."""
    start = _bytes(file, base, 40)
    if start[:4] == b".snd":
        return _au(file, base, total)
    dialect = _dialect(start)
    if dialect is None:
        return None, base
    walk = _Walk(file, dialect, base + dialect.start, total, _long_data(file, base))
    form, stated, promised, left_over = b"", 0, 0, 0
    parts: list[tuple[int, int]] = []
    while (chunk := walk.next()) is not None:
        if chunk.name == dialect.form:
            found = _bytes(file, chunk.start, min(chunk.size, HEAD))
            if form and found != form:
                left_over, walk.at = total - chunk.start, total  # samples of another kind follow
                break
            form = found
        elif chunk.name == b"fact" and chunk.size >= 4:
            stated = struct.unpack(dialect.header[0] + "I", _bytes(file, chunk.start, 4))[0]
        elif chunk.name == dialect.data:
            frame, _ = _measures(start[:4], form)
            if parts and not frame and form:
                left_over, walk.at = total - chunk.start, total  # blocks of a code cannot be joined
                break
            skip = _skip(file, dialect, chunk)
            parts.append((chunk.start + skip, max(0, min(chunk.size, total - chunk.start) - skip)))
            promised += chunk.size - skip
    frame, block = _measures(start[:4], form)
    if not form or not parts:
        return None, walk.at
    if start[:4] == b"FORM" and frame and not walk.open:
        promised = max(promised, _aiff_promise(form, frame))
    claimed = None if walk.open else promised
    return Body(start, form, tuple(parts), claimed, left_over, frame, stated, block), walk.at


def _skip(file: BinaryIO, dialect: _Dialect, chunk: Chunk) -> int:
    if dialect.data == b"SSND":  # the samples may begin further on
        return min(8 + int.from_bytes(_bytes(file, chunk.start, 4)), chunk.size)
    return min(dialect.skip, chunk.size)


def _aiff_promise(form: bytes, frame: int) -> int:
    frames: int = struct.unpack_from(">I", form, 2)[0] if len(form) >= 6 else 0
    size = frames * frame
    return 0 if is_open(frames) or is_open(size) else size


def _au(file: BinaryIO, base: int, total: int) -> tuple[Body | None, int]:
    head = _bytes(file, base, 24)
    if len(head) < 24:
        return None, base
    offset, size, encoding, _, channels = struct.unpack_from(">IIIII", head, 4)
    frame, begin = _AU_BYTES.get(encoding, 0) * channels, base + offset
    if not 24 <= offset <= HEAD or begin > total:
        return None, base
    never = size == 0xFFFFFFFF or (size == 0 and begin < total and _bytes(file, begin, 4) != b".snd")
    length = total - begin if never else min(size, total - begin)
    claimed = None if never else size
    # The place of the samples in the first of joined files is that in the header made for all of them.
    return Body(_bytes(file, base, offset), head[12:24], ((begin, length),), claimed, 0, frame), begin + length


def _measures(container: bytes, form: bytes) -> tuple[int, int]:
    """Return the bytes of one sample of all channels, 0 where they are coded, and the samples of a block of a code."""
    if container == b"FORM" and len(form) >= 18:
        channels, bits = struct.unpack_from(">H4xH", form)
        return (channels * -(-bits // 8) if form[18:22] in (b"", *_JOINABLE_AIFC) else 0), 0
    if container == b"caff" and len(form) >= 32:
        code, _, size = form[8:12], *struct.unpack_from(">II", form, 12)
        return (size if code in _JOINABLE_CAF else 0), 0
    if container not in (b"FORM", b"caff") and len(form) >= 16:
        order = ">" if container == b"RIFX" else "<"
        code, channels, _, _, align, bits = struct.unpack_from(order + "HHIIHH", form)
        if code == _EXTENSIBLE and len(form) >= 26:
            code = struct.unpack_from(order + "H", form, 24)[0]
        if code in _JOINABLE:
            return align or channels * -(-bits // 8), 0
        return 0, (struct.unpack_from(order + "H", form, 18)[0] if len(form) >= 20 else 0)
    return 0, 0
