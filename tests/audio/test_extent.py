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


def patched(data: bytes, at: int, form: str, *values: int) -> bytes:
    found = bytearray(data)
    struct.pack_into(form, found, at, *values)
    return bytes(found)


def total_of(flac: bytes, frames: int) -> bytes:
    """Return the FLAC with another total: the last 36 bits before the checksum (RFC 9639, section 8.2)."""
    return patched(flac, 21, ">BI", flac[21] & 0xF0 | frames >> 32, frames & 0xFFFFFFFF)


@pytest.mark.parametrize("before", [b"", b"ID3\x03\0\0\0\0\x02\x00" + bytes(256)])
@pytest.mark.parametrize(
    ("stated", "missing"), [(0, 0), (FRAMES // 2, 0), (2 * FRAMES, FRAMES / RATE), ((1 << 36) - 1, 0)]
)
def test_a_flac_total_is_checked_against_the_last_frame(tmp_path: Path, before: bytes, stated: int, missing: float):
    path = written(tmp_path / "a.flac")
    known, data = io.read(path)[0][0], path.read_bytes()
    path.write_bytes(before + total_of(data, stated))
    assert np.array_equal(decoded(path), known)
    assert extent(path).missing_s == pytest.approx(missing, abs=1e-3)


@pytest.mark.parametrize(("name", "how"), [("a.flac", {}), ("a.ogg", {}), ("a.mp3", {"format": "MP3"}), ("a.wav", {})])
@pytest.mark.parametrize(
    ("behind", "strange"),
    [
        (b"TAG" + bytes(125), False), (bytes(5000), False), (np.random.default_rng(5).bytes(5000), True),
        (b"APETAGEX" + struct.pack("<II", 2000, 40) + bytes(16) + b"y" * 40, False),
        (b"ID3\4\0\0\0\0\0\7seventy", False),
    ],
)  # fmt: skip
def test_bytes_behind_the_sound_are_tags_or_told(tmp_path: Path, name: str, how: dict, behind: bytes, strange: bool):
    path = written(tmp_path / name, rate=16000, **how)
    known = io.read(path)[0][0]
    path.write_bytes(path.read_bytes() + behind)
    assert np.array_equal(decoded(path), known)
    assert extent(path).left_over_bytes == (len(behind) if strange else 0)
    assert (extent(path).missing_s > 0.1) == strange


def with_tag(mp3: bytes, frames: int | None, size: int | None) -> bytes:
    """Return the MP3 with a Xing tag of these numbers, or without one of them."""
    mark = max(mp3.find(b"Xing"), mp3.find(b"Info"))
    begin = mp3.rfind(mp3[:2], 0, mark) if mp3[:1] == b"\xff" else mp3.find(b"\xff")
    end = mp3.index(mp3[begin : begin + 2], mark)
    flags = int.from_bytes(mp3[mark + 4 : mark + 8]) & ~3 | (frames is not None) | 2 * (size is not None)
    fields = b"".join(struct.pack(">I", value) for value in (flags, frames, size) if value is not None)
    tag = (mp3[begin : mark + 4] + fields + mp3[mark + 16 : end])[: end - begin]
    return mp3[:begin] + tag.ljust(end - begin, b"\0") + mp3[end:]


def test_a_xing_tag_is_checked_against_the_frames(tmp_path: Path):
    path = written(tmp_path / "a.mp3", rate=16000, format="MP3")
    known, data = io.read(path)[0][0], path.read_bytes()
    mark = max(data.find(b"Xing"), data.find(b"Info"))
    frames, size = struct.unpack_from(">II", data, mark + 8)
    for found, length in [
        (frames // 2, size), (2 * frames, size), (0xFFFFFFFF, size), (0, size), (frames // 2, size // 2),
        (None, size), (frames // 2, None), (2 * frames, None), (None, None), (frames, size),
    ]:  # fmt: skip
        path.write_bytes(with_tag(data, found, length))
        assert np.array_equal(decoded(path), known), (found, length)
        assert extent(path).missing_s == 0 and extent(path).exact
    path.write_bytes(with_tag(data, 2 * frames, 2 * size))  # as a file that was cut has it
    with pytest.raises(BadInput, match="cut short"):
        io.read(path)


def test_an_mp3_between_two_of_another_kind_ends_the_reading(tmp_path: Path):
    first = written(tmp_path / "1.mp3", rate=16000, format="MP3")
    second = written(tmp_path / "2.mp3", 1, rate=8000, format="MP3")
    joined = join(tmp_path / "a.mp3", first, second, first)
    assert np.array_equal(decoded(joined), io.read(first)[0][0])
    assert extent(joined).left_over_bytes == joined.stat().st_size - first.stat().st_size


def test_bytes_before_the_first_frame_of_an_mp3(tmp_path: Path):
    path = written(tmp_path / "a.mp3", rate=16000, format="MP3")
    known = io.read(path)[0][0]
    path.write_bytes(bytes(3000) + path.read_bytes())
    assert len(decoded(path)) == len(known)


CONTAINERS = [
    ("a.aiff", "AIFF"), ("a.w64", "W64"), ("a.caf", "CAF"), ("a.au", "AU"), ("a.wav", "WAV"), ("a.wav", "RF64"),
]  # fmt: skip


def place_of(data: bytes) -> tuple[int, str, int]:
    """Return where the length of the samples stands, how it is written, and what it counts beside them."""
    if data[:4] == b".snd":
        return 8, ">I", 0
    if data[:4] == b"RF64":
        return 28, "<Q", 0
    name = b"SSND" if data[:4] == b"FORM" else b"data"
    at = data.index(name) + 4
    return {b"FORM": (at, ">I", 8), b"caff": (at, ">q", 4), b"riff": (at + 12, "<Q", 24)}.get(data[:4], (at, "<I", 0))


@pytest.mark.parametrize(("name", "form"), CONTAINERS)
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_a_length_that_was_never_filled_in_reaches_to_the_end(tmp_path: Path, name: str, form: str, subtype: str):
    path = written(tmp_path / name, format=form, subtype=subtype)
    known, data = io.read(path)[0][0], path.read_bytes()
    at, kind, extra = place_of(data)
    most = {"I": (1 << 32) - 1, "Q": (1 << 64) - 1, "q": -1}[kind[1]]
    for open_length in (most, extra, 0):
        path.write_bytes(patched(data, at, kind, open_length))
        assert np.array_equal(decoded(path), known), open_length
        assert extent(path).missing_s == 0 and not extent(path).exact


@pytest.mark.parametrize(("name", "form"), CONTAINERS)
def test_joined_files_and_wrong_lengths(tmp_path: Path, name: str, form: str):
    first = written(tmp_path / name, format=form, subtype="PCM_16")
    second = written(tmp_path / f"2{name}", 1, format=form, subtype="PCM_16")
    other = written(tmp_path / f"3{name}", 1, rate=16000, format=form, subtype="PCM_16")
    data, known = first.read_bytes(), io.read(first)[0][0]
    joined = join(tmp_path / f"4{name}", first, second, first)
    assert np.array_equal(decoded(joined), np.concatenate([known, io.read(second)[0][0], known]))
    assert extent(joined).missing_s == 0
    found = extent(join(joined, first, other))
    assert (found.frames, found.left_over_bytes) == (FRAMES, other.stat().st_size) and found.missing_s > 1
    at, kind, extra = place_of(data)
    first.write_bytes(patched(data, at, kind, 2 * FRAMES + extra + 80000))
    assert np.array_equal(decoded(first), known)
    assert extent(first).missing_s == pytest.approx(40000 / RATE, abs=1e-3)
    first.write_bytes(patched(data, at, kind, 20000 + extra))
    assert np.array_equal(decoded(first), known[:10000])
    assert extent(first).missing_s == pytest.approx((FRAMES - 10000) / RATE, abs=0.07)  # by bytes


def test_samples_of_another_form_in_one_file_are_left(tmp_path: Path):
    path = tmp_path / "a.wav"
    second = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 2 * RATE, 4 * RATE, 2, 16)) + chunk(b"data", CODES.tobytes())
    path.write_bytes(riff(chunk(b"data", CODES.tobytes())) + second)
    assert np.array_equal(decoded(path) * 32768, CODES) and extent(path).missing_s == pytest.approx(FRAMES / RATE, 0.01)


def test_chunks_without_their_padding(tmp_path: Path):
    path = tmp_path / "a.wav"
    path.write_bytes(riff(b"LIST\x05\0\0\0INFOx", chunk(b"data", CODES.tobytes())))
    assert np.array_equal(decoded(path) * 32768, CODES) and extent(path).left_over_bytes == 0


def test_a_bw64_and_a_big_endian_wav(tmp_path: Path):
    path = written(tmp_path / "a.wav", format="RF64")
    known = io.read(path)[0][0]
    path.write_bytes(b"BW64" + path.read_bytes()[4:])
    assert np.array_equal(decoded(path), known)
    sf.write(path, known, RATE, endian="BIG", format="WAV")
    assert path.read_bytes()[:4] == b"RIFX" and np.array_equal(decoded(path), known)


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM", "GSM610"])
def test_a_fact_chunk_ends_the_last_block_and_no_other(tmp_path: Path, subtype: str):
    path = written(tmp_path / "a.wav", subtype=subtype)
    data = path.read_bytes()
    at = data.index(b"fact") + 8
    path.write_bytes(patched(data, at, "<I", 0))
    whole = extent(path).frames
    for stated, frames in ((whole - 5, whole - 5), (whole // 3, whole), (10 * whole, whole)):
        path.write_bytes(patched(data, at, "<I", stated))
        assert len(decoded(path)) == frames


def test_an_ogg_without_some_of_its_pages(tmp_path: Path):
    path = tmp_path / "a.ogg"
    sf.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 200000), 44100)
    data = path.read_bytes()
    whole = extent(path).frames
    pages = [at for at in range(len(data)) if data[at : at + 4] == b"OggS"]
    path.write_bytes(data[: pages[3]] + data[pages[4] :])
    found = extent(path)
    assert len(io.read(path)[0][0]) == found.frames == sum(block.shape[1] for block in io.blocks(path, 1000))
    assert found.frames + found.missing_s * 44100 == pytest.approx(whole, abs=100)
    path.write_bytes(data[: pages[-1]] + data)  # the first link has no end
    assert not extent(path).exact
