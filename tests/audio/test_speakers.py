from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from usepcli.audio import io
from usepcli.audio.tagging import _crc
from usepcli.errors import OutputError

RATE, FRAMES = 48000, 30000
# Vorbis I, 4.3.9, and what WAV has for the same speakers.
VORBIS = {
    3: "FL FC FR", 4: "FL FR RL RR", 5: "FL FC FR RL RR", 6: "FL FC FR RL RR LFE", 7: "FL FC FR SL SR BC LFE",
    8: "FL FC FR SL SR RL RR LFE",
}  # fmt: skip
WAV = {
    3: "FL FR FC", 4: "FL FR RL RR", 5: "FL FR FC RL RR", 6: "FL FR FC LFE RL RR", 7: "FL FR FC LFE BC SL SR",
    8: "FL FR FC LFE RL RR SL SR",
}  # fmt: skip
HZ = {"LFE": 48, "FL": 400, "FR": 640, "FC": 880, "RL": 1200, "RR": 1520, "SL": 1840, "SR": 2160, "BC": 2480}
KEPT = [(".ogg", n) for n in (3, 4, 5, 7, 8)] + [(".opus", n) for n in (3, 4, 5)]


def tones(speakers: str) -> np.ndarray:
    """Each speaker's own tone (C, T)."""
    time = np.arange(FRAMES) / RATE
    return np.stack([0.3 * np.sin(2 * np.pi * HZ[name] * time) for name in speakers.split()]).astype(np.float32)


def heard(wave: np.ndarray) -> str:
    """The speakers whose tones the channels (C, T) are."""
    power = np.abs(np.fft.rfft(wave * np.hanning(wave.shape[1])))
    hz = power.argmax(1) * RATE / wave.shape[1]
    return " ".join(min(HZ, key=lambda name: abs(HZ[name] - found)) for found in hz)


def coded(path: Path, channels: int) -> None:
    """A file as other programs write it: libsndfile takes the channels as coded."""
    subtype = {".ogg": "VORBIS", ".opus": "OPUS"}[path.suffix]
    sf.write(path, tones(VORBIS[channels]).T, RATE, format="OGG", subtype=subtype)


@pytest.mark.parametrize("suffix", [".ogg", ".opus"])
@pytest.mark.parametrize("channels", VORBIS)
def test_speakers_of_ogg_come_in_the_order_of_wav(tmp_path: Path, suffix: str, channels: int):
    path = tmp_path / f"a{suffix}"
    coded(path, channels)
    whole = io.read(path)[0]
    assert heard(whole) == WAV[channels]
    assert np.array_equal(np.concatenate(list(io.blocks(path, 7000)), axis=1), whole)
    assert heard(next(io.blocks(path, 20000, wide=True))) == WAV[channels]
    assert heard(io.read(path, 9000, 20000)[0]) == WAV[channels]


@pytest.mark.parametrize("suffix", [".ogg", ".opus"])
def test_joined_files_as_well(tmp_path: Path, suffix: str):
    path = tmp_path / f"a{suffix}"
    coded(path, 5)
    path.write_bytes(2 * path.read_bytes())
    assert io.info(path).frames == 2 * FRAMES
    assert heard(io.read(path)[0][:, FRAMES:]) == heard(io.read(path, FRAMES, FRAMES)[0]) == WAV[5]


def test_channels_of_opus_that_are_no_speakers_stay_where_they_are(tmp_path: Path):
    path = tmp_path / "a.opus"
    coded(path, 5)
    data = bytearray(path.read_bytes())
    data[data.index(b"OpusHead") + 18] = 255
    size = 27 + data[26] + sum(data[27 : 27 + data[26]])
    data[22:26] = bytes(4)
    data[22:26] = struct.pack("<I", _crc(bytes(data[:size])))
    path.write_bytes(data)
    assert heard(io.read(path)[0]) == VORBIS[5]


def test_channels_of_flac_in_ogg_stay_where_they_are(tmp_path: Path):
    av = pytest.importorskip("av")
    path = tmp_path / "a.ogg"
    with av.open(str(path), "w") as out:
        sound = out.add_stream("flac", rate=RATE, layout="5.1")
        codes = np.ascontiguousarray((tones(WAV[6]) * 32767).astype(np.int16).T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(codes, format="s16", layout="5.1")
        frame.sample_rate, frame.pts = RATE, 0
        for ready in av.AudioResampler("s16", "5.1", RATE, 4096).resample(frame):
            out.mux(sound.encode(ready))
        out.mux(sound.encode())
    assert heard(io.read(path)[0]) == WAV[6]


@pytest.mark.parametrize(("suffix", "channels"), KEPT)
def test_each_speaker_is_written_where_players_look_for_it(tmp_path: Path, suffix: str, channels: int):
    path, wave = tmp_path / f"a{suffix}", tones(WAV[channels])
    with io.Writer(path, RATE, channels) as writer:
        for start in range(0, FRAMES, 7000):
            writer.write(wave[:, start : start + 7000])
    assert heard(sf.read(path, dtype="float32")[0].T) == VORBIS[channels]
    assert heard(io.read(path)[0]) == WAV[channels]


@pytest.mark.parametrize(("suffix", "channels"), [(s, c) for s, c in KEPT if c < 8])  # of eight PyAV 18 makes no array
def test_players_with_the_order_of_wav_find_each_speaker(tmp_path: Path, suffix: str, channels: int):
    av = pytest.importorskip("av")
    path = tmp_path / f"a{suffix}"
    io.write(path, tones(WAV[channels]), RATE)
    with av.open(str(path)) as played:
        wave = np.concatenate([frame.to_ndarray() for frame in played.decode(audio=0)], axis=1)
    assert heard(wave) == WAV[channels]


@pytest.mark.parametrize(
    ("suffix", "rate", "channels"),
    [(".ogg", 44100, 6), (".ogg", 40000, 6), (".ogg", 70000, 6), (".opus", 48000, 6), (".opus", 8000, 7),
     (".opus", 16000, 8)],
)  # fmt: skip
def test_a_coder_that_would_take_a_channel_for_bass_is_refused(tmp_path: Path, suffix: str, rate: int, channels: int):
    with pytest.raises(OutputError, match=r"bass alone.*take WAV or FLAC") as caught:
        io.Writer(tmp_path / f"a{suffix}", rate, channels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("suffix", "rate", "channels"),
    [(".ogg", 39999, 6), (".ogg", 70001, 6), (".ogg", 48000, 7), (".ogg", 48000, 8), (".ogg", 48000, 9),
     (".opus", 48000, 5), (".opus", 48000, 9)],
)  # fmt: skip
def test_no_channel_of_what_is_written_is_cut_to_its_bass(tmp_path: Path, suffix: str, rate: int, channels: int):
    path = tmp_path / f"a{suffix}"
    wave = 0.1 * np.random.default_rng(0).standard_normal((channels, rate // 2)).astype(np.float32)
    io.write(path, wave, rate)
    found = io.read(path)[0][:, : wave.shape[1]]
    likeness = [np.corrcoef(a, b)[0, 1] for a, b in zip(wave, found, strict=True)]
    assert min(likeness) > 0.8 * max(likeness)  # a fifth where only the bass is left
