"""WAV files that are whole at every moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from usepcli.audio import growing, io, pcm
from usepcli.audio.growing import GrowingWav
from usepcli.errors import IOFault, OutputError


@pytest.mark.parametrize("subtype", pcm.WRITTEN)
def test_a_file_is_whole_while_it_grows(tmp_path: Path, subtype: str) -> None:
    path, rate = tmp_path / "deep" / "a.wav", 8000
    wave = (0.1 * np.random.default_rng(0).standard_normal((1, 3 * rate + 1))).astype(np.float32)
    file = GrowingWav(path, rate, 1, subtype)
    for at in range(0, wave.shape[1], 100):
        file.write(pcm.encode(wave[:, at : at + 100], file.code)[0])
        if at == 2 * rate:  # as after a kill: all but the last half second is there for every program
            seen = sf.read(path, dtype="float32")[0]
            assert at - rate // 2 < len(seen) <= at + 100
            assert np.abs(seen - wave[0, : len(seen)]).max() <= 2**-8
    file.close()
    info = io.info(path)
    assert (info.frames, info.rate, info.channels, info.subtype) == (wave.shape[1], rate, 1, subtype)
    want = pcm.Pcm(rate, 1, file.code).decode(pcm.encode(wave, file.code)[0])
    assert np.array_equal(io.read(path)[0], want) and io.missing_s(path) == 0


def test_beyond_four_gigabytes_the_lengths_take_64_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "_MOST_RIFF", 5000)
    file = GrowingWav(tmp_path / "a.wav", 8000, 2, "FLOAT")
    wave = np.random.default_rng(0).standard_normal((2, 1000)).astype(np.float32)
    file.write(pcm.encode(wave, file.code)[0])
    file.close()
    assert (tmp_path / "a.wav").read_bytes()[:4] == b"RF64" and io.info(tmp_path / "a.wav").frames == 1000
    assert np.array_equal(io.read(tmp_path / "a.wav")[0], wave)
    assert sf.info(tmp_path / "a.wav").format == "RF64"


def test_a_file_can_be_cut_and_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    file = GrowingWav(path, 8000, 1, "PCM_16")
    file.write(bytes(2000))
    file.cut(10)
    file.close()
    assert io.info(path).frames == 10
    with pytest.raises(OutputError, match="exists already"):
        GrowingWav(path, 8000, 1, "PCM_16")
    GrowingWav(path, 8000, 1, "PCM_16", overwrite=True).close()
    assert io.info(path).frames == 0


def test_a_full_disk_leaves_what_was_written() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full")
    with pytest.raises(IOFault, match="No space left"), growing._faults(full), full.open("wb", buffering=0) as file:
        file.write(b"x")
