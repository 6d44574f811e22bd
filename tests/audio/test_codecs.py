from __future__ import annotations

import os
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from usepcli.audio import io, spool
from usepcli.errors import BadInput, MissingDependency, UsepError

av = pytest.importorskip("av")

FRAMES, STEP = 70001, 1024


def chirps(rate: int, channels: int, frames: int = FRAMES) -> np.ndarray:
    """Rising tones (C, T): their likeness to a shifted copy falls within a few samples."""
    time = np.arange(frames) / rate
    tones = [0.4 * np.sin(2 * np.pi * (100 + 70 * c + 2000 * time) * time) for c in range(channels)]
    return np.stack(tones).astype(np.float32)


def encode(path: Path, codec: str, rate: int, wave: np.ndarray, *, video: bool = False, form: str | None = None):
    """Write (C, T) with PyAV, with a moving picture beside it where `video` is set."""
    layout = {1: "mono", 2: "stereo", 8: "7.1"}[len(wave)]
    with av.open(os.fspath(path), "w", format=form) as out:
        picture = out.add_stream("mpeg4", rate=10) if video else None
        sound = out.add_stream(codec, rate=rate, layout=layout)
        sound.bit_rate = 128_000
        if picture is not None:
            picture.width = picture.height = 32
            picture.pix_fmt = "yuv420p"
            for k in range(5):
                out.mux(picture.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 9 * k, np.uint8))))
            out.mux(picture.encode())
        to = av.AudioResampler(format=sound.codec_context.format.name, layout=layout, rate=rate)
        for start in range(0, wave.shape[1], STEP):
            part = np.ascontiguousarray(wave[:, start : start + STEP].T).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(part, format="flt", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            for ready in to.resample(frame):
                out.mux(sound.encode(ready))
        out.mux(sound.encode())


def delay(found: np.ndarray, wanted: np.ndarray) -> int:
    """Return the samples by which `found` lags behind, at the maximum of the cross-correlation."""
    size = len(found) + len(wanted)
    spectrum = np.fft.rfft(found, size) * np.conj(np.fft.rfft(wanted, size))
    return int(np.argmax(np.fft.irfft(spectrum, size)[:8192]))


@pytest.mark.parametrize(("name", "coder"), [("a.m4a", "aac"), ("a.mkv", "pcm_s16le")])
def test_eight_channels_come_as_they_went_in(tmp_path: Path, name: str, coder: str):
    time = np.arange(24000) / 48000
    wave = np.stack([np.sin(2 * np.pi * 30 * (k + 1) * time) for k in range(8)]).astype(np.float32) / 4
    encode(tmp_path / name, coder, 48000, wave)
    found = io.read(tmp_path / name)[0]
    bins = np.abs(np.fft.rfft(found[:, 4096:20096])).argmax(1)
    assert np.allclose(bins, 10 * np.arange(1, 9), atol=1)


# Name, coder, rate, picture, length exact, coder's delay taken off, subtype. Where a container does not say how
# much the coder put before and behind (raw AAC, FLV, AVI, AC-3, WMA), it stays.
TABLE = [
    ("a.m4a", "aac", 44100, False, True, True, "AAC"), ("a.mp4", "aac", 48000, True, True, True, "AAC"),
    ("a.mov", "aac", 16000, True, True, True, "AAC"), ("b.mov", "pcm_s16le", 44100, False, True, True, "PCM_16"),
    ("b.m4a", "alac", 44100, False, True, True, "PCM_24"), ("c.mkv", "flac", 44100, False, True, True, "PCM_16"),
    ("a.mkv", "libopus", 48000, True, True, True, "OPUS"), ("a.webm", "libopus", 48000, False, True, True, "OPUS"),
    ("b.mkv", "aac", 44100, True, False, True, "AAC"), ("a.aac", "aac", 44100, False, False, False, "AAC"),
    ("a.wma", "wmav2", 44100, False, False, False, "WMAV2"), ("a.avi", "libmp3lame", 44100, True, False, False, "MP3"),
    ("a.flv", "aac", 44100, False, False, False, "AAC"), ("a.ac3", "ac3", 48000, False, False, False, "AC3"),
    ("d.mov", "pcm_f32le", 48000, False, True, True, "FLOAT"), ("e.mov", "pcm_u8", 8000, False, True, True, "PCM_U8"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "codec", "rate", "video", "exact", "aligned", "subtype"), TABLE)
def test_comes_back_in_place_and_length(
    tmp_path: Path, name: str, codec: str, rate: int, video: bool, exact: bool, aligned: bool, subtype: str
):
    path, wave = tmp_path / name, chirps(rate, 2)
    encode(path, codec, rate, wave, video=video, form={".aac": "adts"}.get(path.suffix))
    about = io.info(path)
    assert (about.rate, about.channels, about.subtype) == (rate, 2, subtype)
    whole, found = io.read(path)
    assert found == rate and whole.dtype == np.float32 and whole.shape == (2, about.frames)
    assert about.frames == FRAMES if exact else abs(about.frames - FRAMES) < 4096
    if codec == "wmav2":  # FFmpeg's reader leaves out two frames of 2048, of which its own writer had put one
        wave = wave[:, 2048:]
    lag = 0 if aligned else delay(whole[0], wave[0])
    assert 0 <= lag < 4096 and np.corrcoef(whole[0, lag : lag + 50000], wave[0, :50000])[0, 1] > 0.99
    assert io.missing_s(path) == 0 and not io.is_open_ended(path)


@pytest.mark.parametrize("name", ["a.m4a", "a.webm"])
def test_blocks_and_parts_equal_the_whole(tmp_path: Path, name: str):
    path = tmp_path / name
    encode(path, "aac" if name == "a.m4a" else "libopus", 48000, chirps(48000, 1))
    whole = io.read(path)[0]
    for size in (777, 1024, 50000):
        pieces = list(io.blocks(path, size))
        assert {piece.shape[1] for piece in pieces[:-1]} == {size}
        assert np.array_equal(np.concatenate(pieces, axis=1), whole)
    for start, count in ((0, 10), (1, 1023), (1024, 1024), (69000, 5000)):
        assert np.array_equal(io.read(path, start, count)[0], whole[:, start : start + count])
    assert np.array_equal(io.read_mono(path, 5)[0], whole[0, 5:])
    assert next(io.blocks(path, 100, wide=True)).dtype == np.float64
    with pytest.raises(BadInput, match="holds 70001 samples"):
        io.read(path, FRAMES)


def test_lossless_coders_lose_nothing(tmp_path: Path):
    codes = np.random.default_rng(2).integers(-32768, 32768, (2, 30000)).astype(np.int16)
    wave = codes.astype(np.float32) / 32768
    for name, codec in (("a.mkv", "flac"), ("a.mov", "pcm_s16le"), ("b.mov", "pcm_s24le"), ("a.m4a", "alac")):
        encode(tmp_path / name, codec, 44100, wave)
        assert np.array_equal(io.read(tmp_path / name)[0], wave), name


def test_the_count_is_of_the_file_as_it_is_now(tmp_path: Path):
    path = tmp_path / "a.m4a"
    encode(path, "aac", 44100, chirps(44100, 1))
    assert io.info(path).frames == FRAMES
    encode(path, "aac", 44100, chirps(44100, 1, 5000))
    assert io.info(path).frames == 5000


def test_a_suffix_that_lies_and_a_name_of_bytes(tmp_path: Path):
    encode(tmp_path / "a.m4a", "aac", 44100, chirps(44100, 2))
    for name in ("a.wav", os.fsdecode(b"\xff\xfe.m4a"), "noname"):
        path = os.path.join(tmp_path, name)
        Path(path).write_bytes((tmp_path / "a.m4a").read_bytes())
        assert io.info(path).frames == FRAMES


def test_from_a_pipe(tmp_path: Path):
    encode(tmp_path / "a.mp4", "aac", 44100, chirps(44100, 2), video=True)
    with open(tmp_path / "a.mp4", "rb") as stream, spool.spooled(stream) as copy:
        assert copy.suffix == ".mp4" and io.info(copy).frames == FRAMES


def test_a_video_without_sound(tmp_path: Path):
    with av.open(os.fspath(tmp_path / "a.mp4"), "w") as out:
        picture = out.add_stream("mpeg4", rate=10)
        picture.width = picture.height = 32
        picture.pix_fmt = "yuv420p"
        out.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        out.mux(picture.encode())
    for use in (io.info, io.read, lambda path: list(io.blocks(path, 100))):
        with pytest.raises(BadInput, match="holds no sound"):
            use(tmp_path / "a.mp4")


def test_a_coder_that_libsndfile_lacks_in_a_container_that_it_knows(tmp_path: Path):
    encode(tmp_path / "a.wav", "ac3", 44100, chirps(44100, 1))
    wave, _ = io.read(tmp_path / "a.wav")
    assert FRAMES <= wave.shape[1] < FRAMES + 4096
    broken = tmp_path / "b.wav"
    broken.write_bytes((tmp_path / "a.wav").read_bytes()[:60])
    with pytest.raises(BadInput, match=r"libsndfile refuses it .* and PyAV"):
        io.info(broken)


def test_without_pyav_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    encode(tmp_path / "a.m4a", "aac", 44100, chirps(44100, 1))
    (tmp_path / "b.caf").write_bytes(b"caff\0\1\0\0desc")
    monkeypatch.setitem(sys.modules, "av", None)
    for use in (io.info, io.read, io.read_mono, io.check_codecs, lambda path: list(io.blocks(path, 100))):
        with pytest.raises(MissingDependency, match=r"pip install 'usepcli\[codecs\]'") as caught:
            use(tmp_path / "a.m4a")
        assert caught.value.code == 69 and "\n" not in str(caught.value)
    io.check_codecs(tmp_path / "a.wav")
    with pytest.raises(BadInput, match=r"only pip install 'usepcli\[codecs\]'"):
        io.info(tmp_path / "b.caf")


def test_a_playlist_that_calls_itself_sound_opens_nothing(tmp_path: Path):
    secret = tmp_path / "secret.m4a"
    encode(secret, "aac", 44100, chirps(44100, 1))
    for text in (f"#EXTM3U\n#EXTINF:1,\nfile://{secret}\n", f"ffconcat version 1.0\nfile '{secret}'\n"):
        for name in ("list.m4a", "list.mp4", "list.wav", "list.aac"):
            (tmp_path / name).write_text(text)
            with pytest.raises(BadInput, match="begins with"):
                io.info(tmp_path / name)


def test_cut_files_are_refused_or_say_what_is_missing(tmp_path: Path):
    for name, codec in (("a.m4a", "aac"), ("a.mkv", "libopus"), ("b.mkv", "flac"), ("a.wma", "wmav2")):
        path = tmp_path / name
        encode(path, codec, 48000, chirps(48000, 2, 200_000))
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 2 // 3])
        try:
            io.read(path)
        except BadInput:
            continue
        assert io.missing_s(path) > 1, name


def test_random_damage_gives_one_line_and_nothing_else(tmp_path: Path):
    rng = np.random.default_rng(4)
    for name, codec in (("a.m4a", "aac"), ("a.mkv", "libopus"), ("a.wma", "wmav2"), ("a.avi", "libmp3lame")):
        path = tmp_path / name
        encode(path, codec, 48000, chirps(48000, 2, 6000))
        whole = path.read_bytes()
        for turn in range(20):
            damaged = bytearray(whole)
            for place in rng.integers(0, len(whole) if turn % 2 else 300, 5):
                damaged[place] = rng.integers(256)
            path.write_bytes(damaged[: rng.integers(1, len(whole))] if turn % 4 == 0 else damaged)
            for use in (io.info, io.read, lambda p: list(io.blocks(p, 1000)), io.missing_s):
                try:
                    use(path)
                except UsepError as err:
                    assert path.name in str(err) and "\n" not in str(err)
