"""What a recording says besides its sound is in the files made of it, or is named as left out."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from typer.testing import CliRunner

from usepcli.audio import id3, io
from usepcli.audio.metadata import Tags, read
from usepcli.audio.tagging import fit
from usepcli.cli.app import app

RATE, FRAMES = 16000, 8001
SAID = {
    "DESCRIPTION": "A field", "ORIGINATOR": "Zoom", "ORIGINATOR_REFERENCE": "R1", "ORIGINATION_DATE": "2026-11-28",
    "ORIGINATION_TIME": "12:34:56", "TIME_REFERENCE": "123456789012", "CODING_HISTORY": "A=PCM,F=16000",
    "COMMENT": "Recorded at 20:00:00 by AudioMoth 24é", "ARTIST": "Moth", "IXML": "<BWFXML/>", "GUANO": "Make: X",
    "CHAPTER001": "00:00:00.100", "CHAPTER001NAME": "start", "CHAPTER002": "00:00:00.250", "CHAPTER002NAME": "wren",
}  # fmt: skip


def chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def cue(key: int, at: int) -> bytes:
    return struct.pack("<II4sIII", key, at, b"data", 0, 0, at)


CHUNKS = {
    b"bext": b"A field".ljust(256, b"\0") + b"Zoom".ljust(32, b"\0") + b"R1".ljust(32, b"\0") + b"2026-11-2812:34:56"
    + struct.pack("<QH", 123456789012, 1) + bytes(254) + b"A=PCM,F=16000\r\n",
    b"LIST": b"INFO" + chunk(b"ICMT", SAID["COMMENT"].encode() + b"\0") + chunk(b"IART", b"Moth\0"),
    b"iXML": b"<BWFXML/>", b"guan": b"Make: X", b"wamd": b"\1\2\3",
    b"cue ": struct.pack("<I", 2) + cue(1, 1600) + cue(2, 4000),
}  # fmt: skip
LABELS = b"adtl" + chunk(b"labl", b"\1\0\0\0start\0") + chunk(b"labl", b"\2\0\0\0wren\0")


def recording(path: Path) -> Path:
    codes = np.random.default_rng(0).integers(-9000, 9000, FRAMES).astype("<i2").tobytes()
    form = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16))
    before = b"".join(chunk(*pair) for pair in CHUNKS.items())
    body = b"WAVE" + form + before + chunk(b"data", codes) + chunk(b"LIST", LABELS)
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def copied(path: Path, tags: Tags, wave: np.ndarray, frames: int = FRAMES) -> Path:
    with io.Writer(path, RATE, 1, overwrite=True, frames=frames, tags=tags) as writer:
        for at in range(0, wave.shape[1], 1000):
            writer.write(wave[:, at : at + 1000])
    return path


def test_a_broadcast_wav_is_read(tmp_path: Path):
    tags = read(recording(tmp_path / "a.wav"))
    assert dict(tags.texts) == SAID and tags.untold == ("wamd",)
    assert tags.chunks == (*CHUNKS.items(), (b"LIST", LABELS))


@pytest.mark.parametrize("frames", [FRAMES, 0])
@pytest.mark.parametrize("name", ["a.wav", "a.rf64"])
def test_chunks_of_a_wav_are_those_of_its_copy(tmp_path: Path, frames: int, name: str):
    tags = read(recording(tmp_path / "in.wav"))
    wave = io.read(tmp_path / "in.wav")[0]
    path = copied(tmp_path / name, tags, wave, frames)
    assert read(path).chunks == tags.chunks and np.array_equal(io.read(path)[0], wave)
    data = path.read_bytes()
    outer = int.from_bytes(data[20:28] if data[:4] == b"RF64" else data[4:8], "little")
    assert outer == len(data) - 8 and io.missing_s(path) == 0
    assert np.array_equal(sf.read(path, dtype="float32")[0], wave[0])


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.opus", "a.mp3", "a.aiff", "a.caf"])
def test_texts_go_into_other_formats_and_back(tmp_path: Path, name: str):
    tags = read(recording(tmp_path / "in.wav"))
    wave = io.read(tmp_path / "in.wav")[0]
    bare = io.read(copied(tmp_path / f"bare{name[1:]}", Tags(), wave))[0]
    path = copied(tmp_path / name, tags, wave)
    assert np.array_equal(io.read(path)[0], bare) and io.missing_s(path) == 0  # the sound is the same
    assert sf.info(path).frames == FRAMES
    assert dict(read(path).texts) == SAID
    assert fit(tags, path.suffix, RATE).lost == ("wamd",)
    back = copied(tmp_path / "back.wav", read(path), wave)
    assert dict(read(back).texts) == SAID
    cues = dict(read(back).chunks)[b"cue "]
    assert cues == CHUNKS[b"cue "]


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff", "w64", "caf"])
def test_without_tags_nothing_changes(tmp_path: Path, suffix: str):
    wave = np.random.default_rng(1).uniform(-0.5, 0.5, (1, 3000))
    for name, tags in (("a", None), ("b", Tags())):
        with io.Writer(tmp_path / f"{name}.{suffix}", RATE, 1, tags=tags, frames=3000) as writer:
            writer.write(wave)
    a, b = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in "ab")
    assert len(a) == len(b) and (suffix == "ogg" or a == b)  # an Ogg stream has a number drawn at random
    assert not read(tmp_path / f"a.{suffix}")


def test_names_of_what_is_left_out():
    tags = Tags(texts=tuple(SAID.items()), pictures=1)
    assert fit(tags, ".w64", RATE).lost[:2] == ("description", "originator")
    assert {"cue points", "comment", "time reference", "pictures"} <= set(fit(tags, ".w64", RATE).lost)
    assert fit(tags, ".flac", RATE).lost == ("pictures",)
    long = Tags(texts=(("COMMENT", "x" * 50_000), ("TITLE", "y")))
    assert fit(long, ".ogg", RATE).lost == ("comment",) and fit(long, ".flac", RATE).lost == ()


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.wav", "a.aiff", "a.mp3"])
def test_tags_that_libsndfile_wrote(tmp_path: Path, name: str):
    with sf.SoundFile(tmp_path / name, "w", RATE, 1) as file:
        file.title, file.artist, file.comment = "A title", "Who", "What"
        file.write(np.zeros(100))
    found = dict(read(tmp_path / name).texts)
    assert {"TITLE": "A title", "ARTIST": "Who"}.items() <= found.items(), found
    assert found.get("COMMENT") == "What" or name == "a.mp3"


def test_older_tags():
    text = b"\1" + "Größe".encode("utf-16")
    third = b"TIT2" + struct.pack(">I", len(text)) + b"\0\0" + text
    comment = b"\1eng" + "d".encode("utf-16") + b"\0\0" + "said".encode("utf-16")
    third += b"COMM" + struct.pack(">I", len(comment)) + b"\0\0" + comment
    assert id3.parse(b"ID3\3\0\0\0\0\0" + bytes([len(third)]) + third) == ([("TITLE", "Größe"), ("COMMENT", "said")], 0)
    second = b"TT2\0\0\3\0ab" + b"PIC\0\0\2xx"
    assert id3.parse(b"ID3\2\0\0\0\0\0" + bytes([len(second)]) + second) == ([("TITLE", "ab")], 1)
    assert id3.parse_v1(b"TAG" + b"T".ljust(30, b"\0") + b"A".ljust(30) + bytes(65)) == [
        ("TITLE", "T"),
        ("ARTIST", "A"),
    ]
    texts = [("TITLE", "é"), ("COMMENT", "c" * 300), ("MINE", "x"), ("TPE3", "conductor")]
    assert sorted(id3.parse(id3.build(texts))[0]) == sorted(texts)


def test_damaged_tags_are_no_reason_to_refuse_sound(tmp_path: Path):
    whole = recording(tmp_path / "a.wav").read_bytes()
    rng = np.random.default_rng(2)
    for _ in range(40):
        data = bytearray(whole)
        for at in rng.integers(36, 1200, 4):
            data[at] = rng.integers(256)
        (tmp_path / "b.wav").write_bytes(data)
        copied(tmp_path / "c.flac", read(tmp_path / "b.wav"), np.zeros((1, 100)))
        assert io.info(tmp_path / "c.flac").frames == 100


def test_the_commands_carry_it_over(tmp_path: Path):
    path = recording(tmp_path / "a.wav")
    line = ["separate", str(path), "-o", str(tmp_path / "o"), "--threads", "1"]
    assert CliRunner().invoke(app, line).exit_code == 0
    for number in (1, 2):
        assert read(tmp_path / f"o/a_{number}.wav").chunks == read(path).chunks
    again = CliRunner().invoke(app, line)
    assert again.exit_code == 0 and "1 of 1 files are done" in again.stderr
    stems = [str(tmp_path / f"o/a_{number}.wav") for number in (1, 2)]
    mixed = CliRunner().invoke(app, ["remix", *stems, "--mute", "a_2", "-o", str(tmp_path / "m.flac")])
    assert mixed.exit_code == 0 and "cannot hold what it says of wamd" in mixed.stderr
    assert dict(read(tmp_path / "m.flac").texts) == SAID
    lost = CliRunner().invoke(app, [*line, "--format", "w64", "--quiet"])
    assert lost.exit_code == 0 and "time reference" in lost.stderr and "cue points" in lost.stderr


@pytest.mark.parametrize(("mask", "channels"), [(0x60F, 6), (0x107, 4), (0x3F, 6), (0, 6)])
def test_unusual_speakers_are_kept_or_named_as_lost(tmp_path: Path, mask: int, channels: int):
    path = tmp_path / "a.wav"
    sf.write(path, np.zeros((100, channels)), RATE, format="WAVEX")
    data = bytearray(path.read_bytes())
    at = data.index(b"fmt ") + 8
    data[at + 20 : at + 24] = mask.to_bytes(4, "little")
    path.write_bytes(data)
    tags, unusual = read(path), mask not in (0x3F, 0)
    with io.Writer(tmp_path / "b.wav", RATE, channels, tags=tags, frames=100) as writer:
        writer.write(np.zeros((channels, 100), np.float32))
    head = (tmp_path / "b.wav").read_bytes()
    at = head.index(b"fmt ") + 8
    assert writer.lost == () and io.info(tmp_path / "b.wav").frames == 100
    assert (head[at : at + 2] == b"\xfe\xff") == unusual
    assert not unusual or int.from_bytes(head[at + 20 : at + 24], "little") == mask
    assert io.Writer(tmp_path / "b.flac", RATE, channels, tags=tags).lost == (("speaker positions",) if unusual else ())
    assert (
        io.Writer(tmp_path / "c.wav", RATE, 1, tags=tags, frames=100).lost == ()
    )  # other channels than those that were named
