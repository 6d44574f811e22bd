from __future__ import annotations

import itertools
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from usepcli.audio import io
from usepcli.audio.chunks import survey
from usepcli.audio.formats import AUDIO_SUFFIXES, WRITABLE, sniff
from usepcli.audio.riff import Patched, parse_wav
from usepcli.errors import BadInput, IOFault, OutputError, UsepError

RATE, FRAMES = 16000, 7001

# Suffix, libsndfile's format and subtype, largest difference to what was written (None: lossy, by correlation).
TABLE = [
    (".wav", "WAV", "PCM_U8", 2**-7), (".wav", "WAV", "PCM_16", 2**-15), (".wav", "WAV", "PCM_24", 2**-23),
    (".wav", "WAV", "PCM_32", 2**-24), (".wav", "WAV", "FLOAT", 0), (".wav", "WAV", "DOUBLE", 2**-25),
    (".wav", "WAV", "ULAW", 2**-5), (".wav", "WAV", "ALAW", 2**-5), (".wave", "WAVEX", "PCM_24", 2**-23),
    (".rf64", "RF64", "PCM_16", 2**-15), (".rf64", "RF64", "FLOAT", 0), (".w64", "W64", "PCM_24", 2**-23),
    (".flac", "FLAC", "PCM_S8", 2**-7), (".flac", "FLAC", "PCM_16", 2**-15), (".flac", "FLAC", "PCM_24", 2**-23),
    (".aiff", "AIFF", "PCM_16", 2**-15), (".aif", "AIFF", "PCM_24", 2**-23), (".aifc", "AIFF", "FLOAT", 0),
    (".aifc", "AIFF", "ULAW", 2**-5), (".caf", "CAF", "PCM_16", 2**-15), (".caf", "CAF", "FLOAT", 0),
    (".caf", "CAF", "ALAC_16", 2**-15), (".au", "AU", "PCM_16", 2**-15), (".snd", "AU", "ULAW", 2**-5),
    (".ogg", "OGG", "VORBIS", None), (".oga", "OGG", "VORBIS", None), (".opus", "OGG", "OPUS", None),
    (".mp3", "MP3", "MPEG_LAYER_III", None),
]  # fmt: skip


def tones(frames: int = FRAMES) -> np.ndarray:
    """Two channels (2, T) that rise in pitch, so that a shift in time shows."""
    time = np.arange(frames) / RATE
    return 0.5 * np.stack([np.sin(2 * np.pi * (200 + 300 * time) * time), np.sin(2 * np.pi * (500 + 90 * time) * time)])


@pytest.mark.parametrize(("suffix", "form", "subtype", "most"), TABLE)
def test_reads_in_one_piece_and_in_blocks(tmp_path: Path, suffix: str, form: str, subtype: str, most: float | None):
    path, wave = tmp_path / f"a{suffix}", tones()
    sf.write(path, wave.T.astype(np.float32), RATE, format=form, subtype=subtype)
    about = io.info(path)
    assert (about.rate, about.frames, about.channels, about.subtype) == (RATE, FRAMES, 2, subtype)
    whole, rate = io.read(path)
    assert rate == RATE and whole.shape == (2, FRAMES) and whole.dtype == np.float32
    if most is None:
        assert np.corrcoef(whole.ravel(), wave.ravel())[0, 1] > 0.99  # no shift: the coder's delay is taken off
    else:
        assert np.abs(whole - wave.astype(np.float32)).max() <= most
    pieces = list(io.blocks(path, 1000))
    assert [piece.shape for piece in pieces] == [(2, 1000)] * 7 + [(2, 1)]
    assert np.array_equal(np.concatenate(pieces, axis=1), whole)  # soundfile's own blocks of an MP3 differ
    for start in (1, 2999, 5000, FRAMES - 1):
        assert np.abs(io.read(path, start, 700)[0] - whole[:, start : start + 700]).max() <= (most is None) * 1e-6
    assert np.abs(np.concatenate(list(io.blocks(path, 999, wide=True)), axis=1) - whole).max() <= 2**-24
    assert io.missing_s(path) == 0 and not io.is_open_ended(path)
    assert suffix in AUDIO_SUFFIXES


@pytest.mark.parametrize(("suffix", "form", "subtype", "most"), TABLE)
def test_is_known_by_its_bytes_under_any_name(tmp_path: Path, suffix: str, form: str, subtype: str, most: float | None):
    path = tmp_path / "a.txt"
    sf.write(tmp_path / "b", tones(300).T, RATE, format=form, subtype=subtype)
    path.write_bytes((tmp_path / "b").read_bytes())
    kind = sniff(path.read_bytes())
    assert kind is not None and kind.plain and kind.suffix in AUDIO_SUFFIXES
    assert io.info(path).frames == 300


ID3 = b"ID3\x04\0\0\0\0\x02\x00" + bytes(256)


@pytest.mark.parametrize(
    ("rate", "channels", "before"), [(8000, 1, b""), (16000, 2, ID3), (22050, 2, b""), (44100, 1, ID3), (48000, 2, b"")]
)
def test_an_mp3_without_a_xing_tag_is_counted(tmp_path: Path, rate: int, channels: int, before: bytes):
    # libsndfile takes its length from the size and the bit rate of the first frame, and stops there.
    wave = 0.1 * np.random.default_rng(1).standard_normal((40000, channels))
    wave[:20000] *= 1e-3  # the bit rate rises on the way
    sf.write(tmp_path / "tagged.mp3", wave, rate, format="MP3")
    data = (tmp_path / "tagged.mp3").read_bytes()
    path = tmp_path / "a.mp3"
    tag = max(data.find(b"Xing"), data.find(b"Info"))
    path.write_bytes(before + data[data.index(data[:2], tag) :] + b"TAG" + bytes(125))
    found = io.info(path).frames
    assert (found + 529) % (1152 if rate > 24000 else 576) == 0  # 529: the delay of the decoder, left out
    assert 40000 < found < 40000 + 4 * 1152
    assert io.is_open_ended(path) and not io.is_open_ended(tmp_path / "tagged.mp3")
    whole = io.read(path)[0]
    assert whole.shape == (channels, found) == (channels, sum(b.shape[1] for b in io.blocks(path, 4096)))
    tagged = io.read(tmp_path / "tagged.mp3")[0]
    spectrum = np.fft.rfft(whole[0], 1 << 17) * np.conj(np.fft.rfft(tagged[0], 1 << 17))
    lag = int(np.argmax(np.fft.irfft(spectrum)))
    assert np.corrcoef(whole[0, lag : lag + 39000], tagged[0, :39000])[0, 1] > 0.999


PCM = [row[:3] for row in TABLE if row[2].startswith(("PCM", "FLOAT", "ULAW")) and row[1] not in ("FLAC", "CAF")]


@pytest.mark.parametrize(("suffix", "form", "subtype"), PCM)
def test_a_cut_file_says_what_is_missing(tmp_path: Path, suffix: str, form: str, subtype: str):
    path = tmp_path / f"a{suffix}"
    sf.write(path, tones(2 * RATE).T, RATE, format=form, subtype=subtype)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    found = io.info(path).frames
    assert io.read(path)[0].shape == (2, found) and 0.7 < found / (2 * RATE) < 0.8
    assert io.missing_s(path) == pytest.approx(2 - found / RATE, abs=0.01)


@pytest.mark.parametrize(("suffix", "subtype"), [(".flac", "PCM_16"), (".mp3", None)])
@pytest.mark.parametrize("reader", [io.read, lambda path: list(io.blocks(path, 1000))])
def test_a_cut_file_that_cannot_say_is_refused(tmp_path: Path, suffix: str, subtype: str | None, reader):
    path = tmp_path / f"a{suffix}"
    sf.write(path, tones(4 * RATE).T, RATE, subtype=subtype)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(BadInput, match=r"a\.") as caught:
        reader(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("suffix", "subtype"), [(".ogg", "VORBIS"), (".opus", "OPUS")])
@pytest.mark.parametrize("share", [0.3, 0.62, 0.9, 0.99])
def test_a_cut_ogg_is_refused_or_open_ended(tmp_path: Path, suffix: str, subtype: str, share: float):
    path = tmp_path / f"a{suffix}"
    sf.write(path, tones(4 * RATE).T, RATE, format="OGG", subtype=subtype)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    try:
        io.read(path)
    except BadInput:
        return
    assert io.is_open_ended(path)


def streamed(path: Path, outer: int, data: int) -> bytes:
    """A WAV of FRAMES samples as a program leaves it that could not come back to fill in the lengths."""
    io.write(path, tones(), RATE)
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, 4, outer)
    struct.pack_into("<I", content, 40, data)
    path.write_bytes(content)
    return bytes(content)


@pytest.mark.parametrize(
    ("outer", "data"),
    [(0xFFFFFFFF, 0xFFFFFFFF), (36, 0), (0, 0), (0xFFFFFFFF, 0), (0x7FFFF024, 0x7FFFF000), (0x80000024, 0x80000000)],
)
def test_a_wav_from_a_pipe_is_read_to_its_end(tmp_path: Path, outer: int, data: int):
    path = tmp_path / "a.wav"
    streamed(path, outer, data)
    assert io.info(path).frames == FRAMES and io.is_open_ended(path) and io.missing_s(path) == 0
    assert np.abs(io.read(path)[0] - tones()).max() <= 2**-15
    assert io.read_mono(path, 10, 5)[0].shape == (5,)
    assert sum(block.shape[1] for block in io.blocks(path, 999)) == FRAMES


def test_a_chunk_behind_no_samples_is_no_sound(tmp_path: Path):
    path = tmp_path / "a.wav"
    content = streamed(path, 36 + 8 + 400, 0)[:44] + b"LIST" + struct.pack("<I", 400) + b"x" * 400
    path.write_bytes(content)
    with pytest.raises(BadInput, match="without samples"):
        io.read(path)
    path.write_bytes(content[:44])
    with pytest.raises(BadInput, match="without samples"):
        io.read(path)


def test_the_header_of_more_than_4_gib_is_one_of_rf64(tmp_path: Path):
    streamed(tmp_path / "a.wav", 0xFFFFFFFF, 0xFFFFFFFF)
    with open(tmp_path / "a.wav", "r+b") as file:
        file.truncate(44 + 5 * 2**30)  # sparse: no block of the disk is taken
        found = survey(file)
    assert found is not None and found.header().startswith(b"RF64")
    assert io.info(tmp_path / "a.wav").frames == 5 * 2**30 // 4
    wave, _ = io.read(tmp_path / "a.wav", 5 * 2**30 // 4 - 3)
    assert wave.shape == (2, 3) and not wave.any()


def test_a_patched_file_moves_like_a_file(tmp_path: Path):
    path = tmp_path / "a.wav"
    content = streamed(path, 36, 0)
    layout = parse_wav(content)
    assert layout is not None
    with open(path, "rb") as raw:
        found = survey(raw)
        assert found is not None and found.parts == ((44, len(content) - 44),)
        whole = found.header() + content[44:]
        file = Patched(raw, found.header(), layout.offset)
        for start, size in itertools.product((0, 3, 40, 44, 60, len(whole) - 2), (0, 1, 7, 50, -1)):
            assert file.seek(start) == start
            assert file.read(size) == (whole[start:] if size < 0 else whole[start : start + size])
        assert file.seek(-4, os.SEEK_END) == len(whole) - 4 == file.tell()


@pytest.mark.parametrize(
    ("name", "rate", "channels", "words"),
    [
        ("a.opus", 44100, 2, "expected 8000 12000 16000 24000 48000"), ("a.mp3", 96000, 1, "44100 48000"),
        ("a.mp3", 48000, 3, "up to 2 channels"), ("a.flac", 48000, 9, "up to 8 channels"),
        ("a.ogg", 200001, 1, "up to 200000"), ("a.ogg", 48000, 256, "up to 255 channels"),
    ],
)  # fmt: skip
def test_rates_and_widths_that_a_format_lacks_are_told_before_any_work(
    tmp_path: Path, name: str, rate: int, channels: int, words: str
):
    with pytest.raises(OutputError, match=words):
        io.Writer(tmp_path / name, rate, channels)


@pytest.mark.parametrize("name", ["a.flac", "a.mp3", "a.ogg", "a.opus", "a.wav", "a.caf", "a.w64", "a.aiff"])
def test_every_format_that_is_written_keeps_length_and_place(tmp_path: Path, name: str):
    for frames in (1, 777, 9600, 48001):
        io.write(tmp_path / name, tones(frames).astype(np.float32), 48000, overwrite=True)
        wave, _ = io.read(tmp_path / name)
        assert wave.shape == (2, frames)
    assert np.corrcoef(wave.ravel(), tones(48001).ravel())[0, 1] > 0.99
    assert Path(name).suffix in WRITABLE


def test_random_damage_gives_one_line_and_nothing_else(tmp_path: Path):
    rng = np.random.default_rng(3)
    for number, (suffix, form, subtype, _) in enumerate(TABLE):
        path = tmp_path / f"a{suffix}"
        sf.write(path, tones(600).T, RATE, format=form, subtype=subtype)
        whole = path.read_bytes()
        for turn in range(12):
            damaged = bytearray(whole)
            if turn % 3 == 0:
                damaged = damaged[: rng.integers(0, len(whole))]
            elif turn % 3 == 1:
                for place in rng.integers(0, min(len(whole), 120), 3):
                    damaged[place] = rng.integers(256)
            else:
                damaged[rng.integers(0, len(whole)) :] = rng.bytes(50)
            path.write_bytes(damaged)
            for use in (io.info, io.read, io.read_mono, lambda p: list(io.blocks(p, 100)), io.missing_s):
                try:
                    use(path)
                except UsepError as err:
                    assert path.name in str(err) and "\n" not in str(err), (number, turn)


def test_names_in_any_bytes(tmp_path: Path):
    path = os.path.join(tmp_path, os.fsdecode(b"\xff\xfe.wav"))
    io.write(path, tones().astype(np.float32), RATE)
    with open(path, "r+b") as file:
        file.seek(40)
        file.write(bytes(4))  # no length: through Python's own reading
        file.seek(4)
        file.write(bytes(4))
    assert io.info(path).frames == FRAMES and io.missing_s(path) == 0 and io.is_open_ended(path)
    io.check_codecs(path)


def test_a_disk_that_fails_under_an_open_header_is_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.wav"
    streamed(path, 36, 0)
    raw = Patched.read

    def broken(self: Patched, size: int = -1) -> bytes:
        if self.tell() > 9000:
            self.fault = OSError(5, "Input/output error")
            return b""
        return raw(self, size)

    monkeypatch.setattr(Patched, "read", broken)
    with pytest.raises(IOFault, match="reading failed: Input/output error"):
        list(io.blocks(path, 1000))
