"""Samples as bytes: what libsndfile makes of the same bytes, and headers of streams."""

from __future__ import annotations

import io as streams
import struct

import numpy as np
import pytest
import soundfile as sf

from usepcli.audio import pcm
from usepcli.audio.pcm import Pcm
from usepcli.errors import BadInput, UsageError


def raw(code: str, data: bytes, channels: int = 1) -> np.ndarray:
    ends = "BIG" if code.endswith("be") else "LITTLE"
    like = Pcm(8000, channels, code)
    return sf.read(
        streams.BytesIO(data), dtype="float32", format="RAW", subtype=like.subtype, samplerate=8000,
        channels=channels, endian="FILE" if like.width == 1 else ends, always_2d=True,
    )[0].T  # fmt: skip


@pytest.mark.parametrize("code", pcm.CODES)
def test_bytes_are_what_libsndfile_reads(code: str) -> None:
    draw = np.random.default_rng(0)
    data = draw.integers(0, 256, 240, np.uint8).tobytes()
    if code[0] == "f":
        data = draw.standard_normal(30).astype(pcm.CODES[code]).tobytes()
    got = Pcm(8000, 2, code).decode(data)
    assert got.dtype == np.float32 and np.array_equal(got, raw(code, data, 2))


@pytest.mark.parametrize("subtype", pcm.WRITTEN)
def test_what_is_written_reads_back_and_saturates(subtype: str) -> None:
    code = pcm.WRITTEN[subtype]
    assert Pcm(8000, 1, code).subtype == subtype
    wave = np.array([[0.0, 0.5, -0.25, -1.0, 1.5, -1.25], [0.125, 0, 0, 0, 1.0, 0]], np.float32)
    data, limited = pcm.encode(wave, code)
    found = Pcm(8000, 2, code).decode(data)
    if code[0] == "f":
        assert limited == 0 and np.array_equal(found, wave)
    else:
        step = 2.0 ** (1 - 8 * pcm.bytes_of(code))
        assert limited == 3 and np.array_equal(found, np.clip(wave, -1, np.float32(1 - step)))


@pytest.mark.parametrize("code", pcm.CODES)
def test_every_format_is_written_as_it_is_read(code: str) -> None:
    draw = np.random.default_rng(0)
    every = bytes(range(256)) if code in pcm.LAWS or code == "u8" else draw.integers(0, 256, 240, np.uint8).tobytes()
    data = draw.standard_normal(30).astype(pcm.CODES[code]).tobytes() if code[0] == "f" else every
    wave = pcm.decode(data, code)
    again, limited = pcm.encode(wave[None], code)
    assert limited == 0 and np.array_equal(pcm.decode(again, code), wave)
    assert np.array_equal(pcm.stored(wave, code), wave)
    if pcm.bytes_of(code) < 4:  # float32 holds the codes; where a law has two of one value, either is right
        assert again == data or code in pcm.LAWS


@pytest.mark.parametrize("text", ["", "x", "8000:0", "8000:65", "100", "8000:1:s17", "8000:1:u8:2", "-8000", "8000:a"])
def test_wrong_words_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--pcm"):
        pcm.asked(text)


def test_words_have_their_usual_rest() -> None:
    assert pcm.asked("16000") == Pcm(16000, 1, "s16le") and pcm.asked("8000:2:mulaw") == Pcm(8000, 2, "mulaw")


def head(form: bytes, size: int, before: bytes = b"", magic: bytes = b"RIFF") -> bytes:
    chunk = b"fmt " + struct.pack("<I", len(form)) + form
    return magic + b"\xff\xff\xff\xffWAVE" + before + chunk + b"data" + struct.pack("<I", size)


PLAIN = struct.pack("<HHIIHH", 1, 2, 48000, 192000, 4, 16)
EXTENSIBLE = struct.pack("<HHIIHH", 0xFFFE, 1, 16000, 64000, 4, 32) + struct.pack("<HHIH", 22, 32, 4, 3) + bytes(14)
LONG = b"LIST" + struct.pack("<I", 70001) + bytes(70002)  # odd, and so padded
DS64 = b"ds64" + struct.pack("<IQQQI", 28, 1 << 33, 5_000_000_000, 0, 0)


@pytest.mark.parametrize(
    ("data", "like", "declared"),
    [
        (head(PLAIN, 400), Pcm(48000, 2, "s16le"), 400),
        (head(PLAIN, 0xFFFFFFFF), Pcm(48000, 2, "s16le"), None),  # FFmpeg into a pipe
        (head(PLAIN, 0x7FFFF000), Pcm(48000, 2, "s16le"), None),  # SoX
        (head(PLAIN, 0), Pcm(48000, 2, "s16le"), None),
        (head(EXTENSIBLE, 0xFFFFFFFF, LONG), Pcm(16000, 1, "f32le"), None),
        (head(PLAIN, 0xFFFFFFFF, DS64, b"RF64"), Pcm(48000, 2, "s16le"), 5_000_000_000),
    ],
)
def test_headers_of_streams(data: bytes, like: Pcm, declared: int | None) -> None:
    file = streams.BytesIO(data + b"rest")
    assert pcm.wav_head(file.read, "it") == (like, declared) and file.read() == b"rest"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"), (b"fLaC" + bytes(60), "begins with b'fLaC'"), (head(PLAIN, 4)[:-9], "without samples"),
        (head(PLAIN[:-2] + b"\x05\0", 4), "of kind 1 with 5 bits"),
        (head(struct.pack("<HHIIHH", 2, 1, 8000, 4000, 256, 4), 4), "of kind 2 with 4 bits"),
        (b"RIFF\0\0\0\0WAVEdata\4\0\0\0abcd", "does not say how"),
        (head(struct.pack("<HHIIHH", 1, 1, 3, 6, 2, 16), 4), "1 channels at 3 Hz"),
        (head(struct.pack("<HHIIHH", 1, 0, 8000, 6, 2, 16), 4), "0 channels at 8000 Hz"),
    ],
)  # fmt: skip
def test_headers_that_are_none(data: bytes, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        pcm.wav_head(streams.BytesIO(data).read, "it")
