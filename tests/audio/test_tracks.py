"""Files with several tracks of sound: they are told, and each can be chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from usepcli.audio import io
from usepcli.cli.app import app
from usepcli.errors import BadInput

av = pytest.importorskip("av")
RATE = 8000


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Two tracks of PCM, mono and stereo, of different lengths."""
    path = tmp_path / "film.mka"
    with av.open(str(path), "w") as file:
        for number, (language, channels) in enumerate((("eng", "mono"), ("deu", "stereo"))):
            stream = file.add_stream("pcm_s16le", rate=RATE, layout=channels)
            stream.metadata["language"] = language
            stream.metadata["title"] = f"title {number}"
        for number, stream in enumerate(file.streams.audio):
            wide = 1 + number
            codes = np.full((1, 4000 * wide * wide), 1000 * wide, np.int16)
            frame = av.AudioFrame.from_ndarray(codes, format="s16", layout=("mono", "stereo")[number])
            frame.sample_rate, frame.pts = RATE, 0
            file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
    return path


def test_each_track_can_be_read(film: Path):
    assert io.tracks(film) == ("1: eng, 1 channels, title 0", "2: deu, 2 channels, title 1")
    for track, channels, frames in ((0, 1, 4000), (1, 1, 4000), (2, 2, 8000)):
        found = io.info(film, track)
        assert (found.channels, found.frames) == (channels, frames)
        wave = np.concatenate(list(io.blocks(film, 999, track=track)), axis=1)
        assert wave.shape == (channels, frames) and np.all(wave == 1000 * channels / 32768)
    with pytest.raises(BadInput, match="no track 3 of sound; choose from 1: eng"):
        io.info(film, 3)


def test_a_file_of_one_track(tmp_path: Path):
    io.write(tmp_path / "a.wav", np.zeros((1, 100), np.float32), RATE)
    assert io.tracks(tmp_path / "a.wav") == ()
    with pytest.raises(BadInput, match="no track 2"):
        io.info(tmp_path / "a.wav", 2)


def test_the_command_tells_and_chooses(tmp_path: Path, film: Path):
    line = ["separate", str(film), "-o", str(tmp_path / "o"), "--threads", "1"]
    first = CliRunner().invoke(app, line)
    assert first.exit_code == 0 and "has 2 tracks of sound (1: eng" in first.stderr and "--track" in first.stderr
    assert io.info(tmp_path / "o/film_1.wav").channels == 1
    other = CliRunner().invoke(app, [*line, "--track", "2"])
    assert other.exit_code != 0 and "other settings" in str(other.exception)
    other = CliRunner().invoke(app, [*line, "--track", "2", "--overwrite"])
    assert other.exit_code == 0 and "tracks of sound" not in other.stderr
    assert io.info(tmp_path / "o/film_1.wav").channels == 2
