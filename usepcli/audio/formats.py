"""Which sound files there are: by suffix, and by their first bytes where the suffix is unknown or lies."""

from __future__ import annotations

from typing import NamedTuple

WRITABLE = {
    ".wav": "WAV", ".rf64": "RF64", ".w64": "W64", ".aiff": "AIFF", ".aif": "AIFF", ".caf": "CAF",
    ".flac": "FLAC", ".ogg": "OGG", ".opus": "OGG", ".mp3": "MP3",
}  # fmt: skip
LOSSY = {".ogg": "VORBIS", ".opus": "OPUS", ".mp3": "MPEG_LAYER_III"}
_READABLE = {".wave", ".bwf", ".aifc", ".au", ".snd", ".oga", ".mp2"}
# `.ts` is left out: in a folder of programs it is TypeScript. A named file is known by its bytes.
CODEC_SUFFIXES = frozenset({
    ".m4a", ".m4b", ".aac", ".wma", ".ac3", ".amr", ".ape", ".wv", ".mka", ".weba",
    ".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".wmv", ".asf", ".flv", ".mpg", ".mpeg", ".m2ts", ".mts",
})  # fmt: skip
AUDIO_SUFFIXES = frozenset(WRITABLE) | _READABLE | CODEC_SUFFIXES
HEAD = 4096  # bytes that suffice to know a format


class Kind(NamedTuple):
    """A container: the suffix that it usually has, FFmpeg's name for its reader, and whether libsndfile reads it."""

    suffix: str
    demuxer: str
    plain: bool


_AT_START = (
    (b"fLaC", Kind(".flac", "flac", True)),
    (b"OggS", Kind(".ogg", "ogg", True)),
    (b"RF64", Kind(".rf64", "wav", True)),
    (b"BW64", Kind(".rf64", "wav", True)),
    (b"riff\x2e\x91\xcf\x11", Kind(".w64", "w64", True)),
    (b"caff", Kind(".caf", "caf", True)),
    (b".snd", Kind(".au", "au", True)),
    (b"\x1a\x45\xdf\xa3", Kind(".mkv", "matroska", False)),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Kind(".wma", "asf", False)),
    (b"FLV\x01", Kind(".flv", "flv", False)),
    (b"\x00\x00\x01\xba", Kind(".mpg", "mpeg", False)),
    (b"\x0b\x77", Kind(".ac3", "ac3", False)),
    (b"#!AMR", Kind(".amr", "amr", False)),
    (b"MAC ", Kind(".ape", "ape", False)),
    (b"wvpk", Kind(".wv", "wv", False)),
)
_IN_FORM = {
    (b"RIFF", b"WAVE"): Kind(".wav", "wav", True),
    (b"RIFX", b"WAVE"): Kind(".wav", "wav", True),
    (b"RIFF", b"AVI "): Kind(".avi", "avi", False),
    (b"FORM", b"AIFF"): Kind(".aiff", "aiff", True),
    (b"FORM", b"AIFC"): Kind(".aifc", "aiff", True),
}
_MP4 = Kind(".mp4", "mov", False)
_ATOMS = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}
_AAC, _MP3 = Kind(".aac", "aac", False), Kind(".mp3", "mp3", True)
_TRANSPORT = Kind(".m2ts", "mpegts", False)
_PACKETS = ((0, 188), (4, 192))  # first sync byte and packet length: broadcast, Blu-ray


def sniff(head: bytes) -> Kind | None:
    """Return the container whose first bytes (4096 suffice) these are; None if it is no known one."""
    for start, kind in _AT_START:
        if head.startswith(start):
            return kind
    form = _IN_FORM.get((head[:4], head[8:12]))
    if form or head[4:8] in _ATOMS:
        return form or _MP4
    for first, step in _PACKETS:
        if len(head) > first + 2 * step and head[first] == head[first + step] == head[first + 2 * step] == 0x47:
            return _TRANSPORT
    return _sniff_frames(head[tag_bytes(head) :], tagged=head.startswith(b"ID3"))


def tag_bytes(head: bytes) -> int:
    """Return the length of an ID3v2 tag at the start (four bytes of seven bits each), 0 without one."""
    if not head.startswith(b"ID3") or len(head) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))


def _sniff_frames(head: bytes, tagged: bool) -> Kind | None:
    # ADTS and MPEG audio share eleven sync bits; layer 00, reserved in MPEG audio, is AAC's.
    if len(head) >= 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        if head[1] & 0xF6 == 0xF0:
            return _AAC
        return _MP3 if head[1] & 0x06 else None
    return _MP3 if tagged else None
