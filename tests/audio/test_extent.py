"""How much a file holds where no header, or the wrong one, says so: counted, joined, or told as left over."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from usepcli.audio import io
from usepcli.audio.extent import Extent, extent
from usepcli.errors import BadInput

RATE, FRAMES = 8000, 12345


def wave(seed: int = 0, frames: int = FRAMES) -> np.ndarray:
    smooth = np.convolve(np.random.default_rng(seed).standard_normal(frames + 31), np.ones(32) / 32, "valid")
    return 0.3 * smooth * np.hanning(frames)


def join(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def written(path: Path, seed: int = 0, rate: int = RATE, channels: int = 1, **how: str) -> Path:
    sf.write(path, np.stack([wave(seed)] * channels, 1), rate, **how)
    return path


def decoded(path: Path) -> np.ndarray:
    """Return the first channel, the same in one piece, in blocks and from any place on."""
    whole = io.read(path)[0]
    assert np.array_equal(whole, np.concatenate(list(io.blocks(path, 1000)), axis=1))
    assert io.info(path).frames == whole.shape[1]
    for start in (1, 4097, whole.shape[1] // 2 + 7, whole.shape[1] - 3):
        assert np.abs(io.read(path, start, 500)[0] - whole[:, start : start + 500]).max() < 1e-6
    return whole[0]


def test_an_ordinary_file(tmp_path: Path):
    found = extent(written(tmp_path / "a.wav", channels=2))
    assert found == Extent(FRAMES, RATE, 2, 0, 0.0, True)


def test_a_flac_that_does_not_know_its_length(tmp_path: Path):
    known = written(tmp_path / "known.flac")
    data = bytearray(known.read_bytes())
    data[21] &= 0xF0  # the last 36 bits before the checksum: total samples (RFC 9639, section 8.2)
    data[22:26] = bytes(4)
    open_ended = tmp_path / "a.flac"
    open_ended.write_bytes(data)
    assert np.array_equal(decoded(open_ended), io.read(known)[0][0])
    assert extent(open_ended).frames == FRAMES
    open_ended.write_bytes(data[: len(data) // 2])
    with pytest.raises(BadInput, match="decoding stopped"):
        io.info(open_ended)


def test_a_joined_flac_says_what_is_left(tmp_path: Path):
    first, second = written(tmp_path / "1.flac"), written(tmp_path / "2.flac", 1)
    joined = join(tmp_path / "a.flac", first, second)
    assert np.array_equal(decoded(joined), io.read(first)[0][0])
    found = extent(joined)
    assert found.left_over_bytes == second.stat().st_size
    assert found.missing_s == pytest.approx(FRAMES / RATE, rel=0.1) and extent(first).missing_s == 0


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
def test_a_flac_from_a_pipe(tmp_path: Path):
    written(tmp_path / "a.wav")
    line = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "a.wav"), "-f", "flac", "pipe:1"]
    (tmp_path / "a.flac").write_bytes(subprocess.run(line, check=True, capture_output=True).stdout)
    assert np.array_equal(decoded(tmp_path / "a.flac"), io.read(tmp_path / "a.wav")[0][0])


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_a_joined_ogg_is_read_whole(tmp_path: Path, subtype: str):
    parts = [written(tmp_path / f"{k}.ogg", k, subtype=subtype) for k in range(3)]
    joined = join(tmp_path / "a.ogg", *parts)
    assert np.array_equal(decoded(joined), np.concatenate([io.read(part)[0][0] for part in parts]))
    assert extent(joined).missing_s == 0 and extent(joined).exact


def test_a_joined_ogg_of_two_kinds_says_what_is_left(tmp_path: Path):
    first, second = written(tmp_path / "1.ogg"), written(tmp_path / "2.ogg", 1, rate=16000, channels=2)
    joined = join(tmp_path / "a.ogg", first, second, first)
    assert np.array_equal(decoded(joined), io.read(first)[0][0])
    found = extent(joined)
    assert found.left_over_bytes == joined.stat().st_size - first.stat().st_size and found.missing_s > 1


@pytest.mark.parametrize("between", [b"", b"ID3\x04\0\0\0\0\x02\x00" + bytes(256)])
def test_a_joined_mp3_is_read_whole(tmp_path: Path, between: bytes):
    parts = [written(tmp_path / f"{k}.mp3", k, rate=16000, format="MP3") for k in range(3)]
    joined = tmp_path / "a.mp3"
    joined.write_bytes(between.join(part.read_bytes() for part in parts))
    whole, first = decoded(joined), io.read(parts[0])[0][0]
    assert np.abs(whole[:FRAMES] - first)[: FRAMES - 1200].max() < 1e-3  # no delay is lost at the start
    assert 3 * FRAMES <= len(whole) < 3 * (FRAMES + 4 * 576)
    for part in parts[1:]:
        own = io.read(part)[0][0]
        spectrum = np.fft.rfft(whole, 1 << 17) * np.conj(np.fft.rfft(own, 1 << 17))
        lag = int(np.argmax(np.fft.irfft(spectrum)))
        assert np.corrcoef(whole[lag : lag + FRAMES], own)[0, 1] > 0.99
    assert extent(joined).missing_s == 0


def test_a_joined_mp3_of_two_kinds_says_what_is_left(tmp_path: Path):
    first = written(tmp_path / "1.mp3", rate=16000, format="MP3")
    second = written(tmp_path / "2.mp3", 1, rate=44100, channels=2, format="MP3")
    joined = join(tmp_path / "a.mp3", first, second)
    assert np.array_equal(decoded(joined), io.read(first)[0][0])
    assert extent(joined).left_over_bytes == pytest.approx(second.stat().st_size, rel=0.2)
    assert extent(joined).missing_s > 0.1


def test_a_large_tag_behind_an_mp3_is_no_sound(tmp_path: Path):
    path = written(tmp_path / "a.mp3", rate=16000, format="MP3")
    before = decoded(path)
    path.write_bytes(path.read_bytes() + b"APETAGEX" + bytes(range(256)) * 100)
    assert np.array_equal(decoded(path), before) and extent(path).missing_s == 0


def chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def riff(*chunks: bytes, channels: int = 1, rate: int = RATE) -> bytes:
    form = chunk(b"fmt ", struct.pack("<HHIIHH", 1, channels, rate, 2 * channels * rate, 2 * channels, 16))
    body = b"WAVE" + form + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


CODES = np.rint(wave() * 32767).astype("<i2")


@pytest.mark.parametrize("cut", [2000, 6001, 2 * FRAMES - 2])
@pytest.mark.parametrize("between", [b"", chunk(b"LIST", b"abc")])
@pytest.mark.parametrize("reader", [io.read, io.read_mono])
def test_two_chunks_of_samples_are_one_recording(tmp_path: Path, cut: int, between: bytes, reader):
    path, data = tmp_path / "a.wav", CODES.tobytes()
    path.write_bytes(riff(chunk(b"data", data[:cut]), between, chunk(b"data", data[cut - cut % 2 :])))
    assert np.array_equal(np.ravel(reader(path)[0]) * 32768, CODES)
    assert np.array_equal(decoded(path) * 32768, CODES) and extent(path).missing_s == 0


def test_joined_wavs_are_one_recording(tmp_path: Path):
    first, other = riff(chunk(b"data", CODES.tobytes())), riff(chunk(b"data", bytes(8000)), rate=16000)
    path = tmp_path / "a.wav"
    path.write_bytes(first * 3)
    assert np.array_equal(decoded(path) * 32768, np.tile(CODES, 3)) and extent(path).missing_s == 0
    path.write_bytes(first + other)
    assert np.array_equal(decoded(path) * 32768, CODES) and extent(path).left_over_bytes == len(other)


@pytest.mark.parametrize(
    ("tail", "missing"),
    [(b"", 0), (chunk(b"LIST", bytes(9000)), 0), (bytes(9000), 0), (b"TAG" + bytes(125), 0), (b"\x7f\x01" * 4000, 0.5)],
)
def test_what_stands_behind_the_samples(tmp_path: Path, tail: bytes, missing: float):
    path = tmp_path / "a.wav"
    path.write_bytes(riff(chunk(b"data", CODES.tobytes())) + tail)
    assert np.array_equal(decoded(path) * 32768, CODES)
    assert extent(path).missing_s == pytest.approx(missing, abs=0.01)
