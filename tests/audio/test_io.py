from __future__ import annotations

import os
import resource
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from usepcli import files
from usepcli.audio import io
from usepcli.audio.riff import parse_wav
from usepcli.errors import BadInput, InputNotFound, IOFault, OutputError

RATE = 8000


def noise(channels: int = 1, frames: int = 4000, peak: float = 0.5) -> np.ndarray:
    wave = np.random.default_rng(7).uniform(-peak, peak, (channels, frames))
    return wave.astype(np.float32)


LOSSLESS = [
    (".wav", "PCM_U8", 8), (".wav", "PCM_16", 16), (".wav", "PCM_24", 24), (".wav", "PCM_32", 32),
    (".flac", "PCM_16", 16), (".flac", "PCM_24", 24), (".aiff", "PCM_16", 16), (".w64", "PCM_16", 16),
    (".caf", "PCM_16", 16), (".rf64", "PCM_16", 16),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "subtype", "bits"), LOSSLESS)
def test_integer_formats_round_once_and_then_never_change(tmp_path: Path, suffix: str, subtype: str, bits: int):
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    wave = noise(2)
    io.write(first, wave, RATE, subtype)
    once, rate = io.read(first)
    assert rate == RATE and once.dtype == np.float32
    assert np.abs(once - wave).max() <= 0.5 * 2 ** (1 - bits) + 2**-24
    io.write(second, once, RATE, subtype)
    assert np.array_equal(io.read(second)[0], once)
    assert io.info(second) == io.Info(RATE, 4000, 2, subtype, io.info(first).format)


def test_every_pcm16_code_survives_a_copy(tmp_path: Path):
    codes = np.arange(-32768, 32768, dtype=np.int16)
    io.write(tmp_path / "a.wav", codes, RATE)
    wave, _ = io.read_mono(tmp_path / "a.wav")
    io.write(tmp_path / "b.wav", wave, RATE)
    assert np.array_equal(sf.read(tmp_path / "b.wav", dtype="int16")[0], codes)


def test_float_wav_keeps_values_beyond_full_scale(tmp_path: Path):
    io.write(tmp_path / "a.wav", noise(peak=3.0), RATE, "FLOAT")
    assert np.array_equal(io.read(tmp_path / "a.wav")[0], noise(peak=3.0))


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("suffix", [".ogg", ".mp3", ".opus"])
def test_lossy_formats_keep_length_rate_level_and_a_tone(tmp_path: Path, suffix: str, channels: int, kind: type):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    both = np.stack([tone, -0.3 * tone])[:channels]
    io.write(tmp_path / f"a{suffix}", (both * 32768 if kind is np.int16 else both).astype(kind), 16000)
    waves, rate = io.read(tmp_path / f"a{suffix}")
    assert (rate, waves.shape) == (16000, both.shape)
    for wave, meant in zip(waves, both, strict=True):
        lag = max(range(-40, 41), key=lambda lag: float(meant[2000:8000] @ wave[2000 + lag : 8000 + lag]))
        found = wave[2000 + lag : 8000 + lag]
        assert np.corrcoef(meant[2000:8000], found)[0, 1] > 0.98
        assert np.square(found).mean() == pytest.approx(np.square(meant[2000:8000]).mean(), rel=0.1)


def test_saturates_instead_of_wrapping(tmp_path: Path):
    io.write(tmp_path / "a.wav", np.array([2.0, -2.0], np.float32), RATE)
    assert io.read(tmp_path / "a.wav")[0].tolist() == [[32767 / 32768, -1.0]]


def test_mono_is_the_mean_of_the_channels(tmp_path: Path):
    wave = noise(3)
    io.write(tmp_path / "a.wav", wave, RATE, "FLOAT")
    np.testing.assert_allclose(io.read_mono(tmp_path / "a.wav")[0], wave.mean(axis=0), atol=1e-7)


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_parts_of_a_file_equal_the_whole(tmp_path: Path, name: str):
    io.write(tmp_path / name, noise(), RATE)
    whole = io.read_mono(tmp_path / name)[0]
    assert np.array_equal(io.read_mono(tmp_path / name, 100, 50)[0], whole[100:150])
    assert np.array_equal(io.read(tmp_path / name, 3990)[0][0], whole[3990:])
    assert len(io.read_mono(tmp_path / name, 3990, 50)[0]) == 10  # the file ends there
    assert np.array_equal(np.concatenate(list(io.blocks(tmp_path / name, 777)), axis=1)[0], whole)
    assert max(block.shape[1] for block in io.blocks(tmp_path / name, 777)) == 777
    with pytest.raises(BadInput, match="4000 samples"):
        io.read_mono(tmp_path / name, 4000)


def test_the_fast_path_reads_what_libsndfile_reads(tmp_path: Path):
    path = tmp_path / "a.wav"
    io.write(path, noise(), RATE)
    # A chunk of odd length before the samples, as editors put there.
    data = path.read_bytes()
    path.write_bytes(data[:36] + b"LIST" + struct.pack("<I", 3) + b"abc\0" + data[36:])
    assert io.wav_layout(path).offset == 44 + 12
    assert np.array_equal(io.read_mono(path)[0], io.read(path)[0][0])


def test_a_stream_of_unknown_length_is_read_to_its_end(tmp_path: Path):
    path = tmp_path / "a.wav"
    io.write(path, noise(), RATE)
    data = bytearray(path.read_bytes())
    data[40:44] = data[4:8] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert parse_wav(bytes(data)).declared is None
    assert len(io.read_mono(path)[0]) == 4000


def zoo(tmp_path: Path) -> dict[str, Path]:
    """Files that hold no usable sound."""
    good, places = tmp_path / "good.wav", {}
    io.write(good, noise(), RATE)
    io.write(tmp_path / "good.flac", noise(), RATE)
    flac = (tmp_path / "good.flac").read_bytes()
    contents = {
        "zero.wav": b"", "header.wav": good.read_bytes()[:40] + struct.pack("<I", 0), "text.wav": b"not a sound",
        "torn.flac": flac[: len(flac) // 2], "clip.m4a": b"\0\0\0\x20ftypM4A ",
    }  # fmt: skip
    for name, content in contents.items():
        places[name] = tmp_path / name
        places[name].write_bytes(content)
    places["folder.wav"] = tmp_path / "folder.wav"
    places["folder.wav"].mkdir()
    places["nan.wav"] = tmp_path / "nan.wav"
    sf.write(places["nan.wav"], np.array([0.0, np.nan, np.inf], np.float32), RATE, subtype="FLOAT")
    return places


@pytest.mark.parametrize(
    ("name", "words"),
    {
        "zero.wav": "0 bytes", "header.wav": "without samples", "text.wav": "unreadable", "torn.flac": "torn.flac",
        "clip.m4a": "clip.m4a", "folder.wav": "is a folder", "nan.wav": "2 samples are NaN",
    }.items(),
)  # fmt: skip
@pytest.mark.parametrize("reader", ["read", "read_mono", "blocks"])
def test_unusable_files_are_named_and_never_silence(tmp_path: Path, name: str, words: str, reader: str):
    path = zoo(tmp_path)[name]
    with pytest.raises(BadInput, match=words) as caught:
        {"read": io.read, "read_mono": io.read_mono, "blocks": lambda p: list(io.blocks(p, 100))}[reader](path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_not_finite_samples_can_be_asked_for(tmp_path: Path):
    assert np.isnan(io.read(zoo(tmp_path)["nan.wav"], finite=False)[0][0, 1])


def test_missing_files_and_dangling_links(tmp_path: Path):
    (tmp_path / "link.wav").symlink_to(tmp_path / "nowhere.wav")
    for name in ("absent.wav", "link.wav"):
        with pytest.raises(InputNotFound, match=name):
            io.read_mono(tmp_path / name)


def test_names_that_are_no_utf8(tmp_path: Path):
    path = os.path.join(tmp_path, os.fsdecode(b"\xff\xfe_bad.wav"))
    io.write(path, noise(2), RATE)
    assert io.read(path)[0].shape == (2, 4000) and io.info(path).frames == 4000
    Path(path).write_bytes(b"")
    with pytest.raises(BadInput) as caught:
        io.read(path)
    str(caught.value).encode("utf-8")


def test_refuses_to_overwrite_unless_told(tmp_path: Path):
    io.write(tmp_path / "a.wav", noise(), RATE)
    before = (tmp_path / "a.wav").read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        io.write(tmp_path / "a.wav", noise() / 2, RATE)
    assert (tmp_path / "a.wav").read_bytes() == before
    io.write(tmp_path / "a.wav", noise() / 2, RATE, overwrite=True)
    assert (tmp_path / "a.wav").read_bytes() != before


def test_never_writes_nan_as_a_click(tmp_path: Path):
    wave = noise()
    wave[0, 5] = np.nan
    with pytest.raises(BadInput, match="1 samples are NaN"):
        io.write(tmp_path / "a.wav", wave, RATE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "subtype"), [("a.xyz", "PCM_16"), ("a.flac", "FLOAT")])
def test_impossible_formats(tmp_path: Path, name: str, subtype: str):
    with pytest.raises(OutputError, match="choose from"):
        io.write(tmp_path / name, noise(), RATE, subtype)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg"])
def test_a_full_disk_leaves_no_debris(tmp_path: Path, name: str):
    # The size limit of a process makes the kernel refuse the write half-way, as a full disk does.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(IOFault, match="writing failed") as caught:
            io.write(tmp_path / name, noise(2, 200_000), RATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "MiB are free" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_writer_shows_the_file_only_at_a_clean_end(tmp_path: Path):
    path = tmp_path / "a.wav"
    with io.Writer(path, RATE, 2) as writer:
        for _ in range(3):
            writer.write(noise(2, 1000))
            assert not path.exists()
    assert io.info(path).frames == 3000 and writer.frames == 3000
    with pytest.raises(RuntimeError), io.Writer(tmp_path / "b.wav", RATE, 1) as writer:
        writer.write(noise())
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize("name", ["_Sink", "sf.SoundFile"])
def test_a_writer_that_is_interrupted_while_it_opens_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    def interrupted(*_: object, **__: object) -> None:
        if name == "_Sink":
            files.hidden(tmp_path / "x.wav").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(f"usepcli.audio.writer.{name}", interrupted)
    with pytest.raises(KeyboardInterrupt), io.Writer(tmp_path / "x.wav", 8000, 1):
        pass
    assert not list(tmp_path.iterdir())


def test_names_are_shown_in_one_printable_line():
    assert io.show("a\n\x1b[1m\udcff.wav") == r"a\x0a\x1b[1m\udcff.wav"


def test_writer_chooses_rf64_only_when_it_must(tmp_path: Path):
    with io.Writer(tmp_path / "short.wav", RATE, 1) as writer:
        writer.write(noise())
    assert (tmp_path / "short.wav").read_bytes()[:4] == b"RIFF"
    writer = io.Writer(tmp_path / "long.wav", 48000, 4, "FLOAT", frames=2**29)
    with pytest.raises(KeyboardInterrupt), writer:
        assert next(tmp_path.glob(".long*")).read_bytes()[:4] == b"RF64"
        raise KeyboardInterrupt
    assert not list(tmp_path.glob("*long*"))


def test_a_folder_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be made"):
        io.write(tmp_path / "file" / "a.wav", noise(), RATE)


def test_blocks_of_the_wrong_width_are_a_bug(tmp_path: Path):
    with (
        pytest.raises(ValueError, match="2 channels for a file of 1"),
        io.Writer(tmp_path / "a.wav", RATE, 1) as writer,
    ):
        writer.write(noise(2))
