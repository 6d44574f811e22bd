"""Parts of sound files, the same to the last bit with what is kept in memory and without, in every process."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from usepcli.audio import io
from usepcli.audio.resample import length_after, resample
from usepcli.data import store
from usepcli.data.kept import Kept
from usepcli.data.store import AudioStore
from usepcli.errors import BadInput

RATE = 8000
# Loud floats, quiet 24 bits, a mean of two channels: what 16 bits do not hold.
KINDS = {
    "pcm.wav": ("PCM_16", 1, RATE, 0.1), "loud.wav": ("FLOAT", 1, RATE, 3.0), "quiet.wav": ("PCM_24", 1, RATE, 3e-4),
    "two.wav": ("PCM_16", 2, RATE, 0.1), "x.flac": ("PCM_16", 1, RATE, 0.1), "x.ogg": ("VORBIS", 1, RATE, 0.1),
    "x.mp3": ("MPEG_LAYER_III", 1, 16000, 0.1), "fast.wav": ("PCM_16", 1, 11025, 0.1),
    "cd.flac": ("PCM_24", 2, 44100, 0.1),
}  # fmt: skip


def write(path: Path, seconds: float = 12.0, seed: int = 0) -> np.ndarray:
    subtype, channels, rate, level = KINDS[path.name]
    draw = np.random.default_rng(seed)
    wave = (level * draw.standard_normal((round(seconds * rate) + 7, channels))).astype(np.float32)
    wave[3] = -0.0
    with sf.SoundFile(path, "w", rate, channels, subtype) as file:
        for at in range(0, len(wave), 4096):
            file.write(wave[at : at + 4096])
    return io.read_mono(path)[0]


def bits(wave: np.ndarray) -> list[int]:
    assert wave.dtype == np.float32
    return wave.view(np.uint32).tolist()


@pytest.mark.parametrize("long_s", [store.LONG_S, 1.0])
@pytest.mark.parametrize("name", list(KINDS))
def test_every_sample_has_the_same_bits_with_and_without_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, long_s: float
) -> None:
    monkeypatch.setattr(store, "LONG_S", long_s)
    monkeypatch.setattr(store, "BLOCK_S", 1.0)
    path = tmp_path / name
    wave, own = write(path), KINDS[name][2]
    plain, keeping, full = AudioStore(RATE), AudioStore(RATE, Kept(1 << 20)), AudioStore(RATE, Kept(1 << 16))
    end = length_after(wave.size, own, RATE)
    whole = plain.whole(path)
    assert plain.length(path) == whole.size == end
    # Another rate and the last bit of an MP3 depend on where the reading began.
    assert np.abs(whole - resample(wave, own, RATE)).max() <= 1e-6 * np.abs(wave).max()
    if own == RATE:
        assert bits(whole) == bits(wave)
    draw = np.random.default_rng(1)
    for start in (0, end - 3, *draw.integers(end - 2000, size=6).tolist()):
        want = bits(whole[start : start + 2000])
        for one in (plain, keeping, full, keeping):
            assert bits(one.segment(path, start, 2000)) == want
    assert bits(keeping.whole(path)) == bits(full.whole(path)) == bits(whole)
    assert not plain.segment(path, end, 10).size
    some = plain.segment(path, 5000, 3000, 0.9)
    assert bits(keeping.segment(path, 5000, 3000, 0.9)) == bits(some)


def test_two_bytes_where_they_hold_all_and_no_more_than_the_limit(tmp_path: Path) -> None:
    for name, size in (("pcm.wav", 2), ("x.flac", 2), ("loud.wav", 4), ("quiet.wav", 4), ("two.wav", 4)):
        wave, kept = write(tmp_path / name), Kept(1 << 20)
        before = kept.taken
        assert AudioStore(RATE, kept).whole(tmp_path / name).size == wave.size
        assert 0 <= kept.taken - before - size * wave.size < 8 * 4
    first = AudioStore(RATE, Kept(1 << 20), "first")
    assert first.kept is not None
    before = first.kept.taken
    wave = first.whole(tmp_path / "two.wav")
    assert np.array_equal(wave, io.read(tmp_path / "two.wav")[0][0]) and first.kept.taken - before < 2.1 * wave.size
    small = Kept(1 << 16)
    for k in range(50):
        small.add(str(k), np.zeros(1000, np.float32))
    held = [k for k in range(50) if small.find(str(k)) is not None]
    assert small.taken <= small.limit and len(held) == (small.limit - 64 - 32 * 32) // 2000


def test_what_one_process_decoded_is_there_for_all(tmp_path: Path) -> None:
    """As for the data workers of one epoch after the other."""
    wave, keeping = write(tmp_path / "loud.wav", 2.0), AudioStore(RATE, Kept(1 << 20))
    if not (child := os.fork()):
        code = 1
        try:
            keeping.whole(tmp_path / "loud.wav")
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    (tmp_path / "loud.wav").unlink()
    keeping._headers[str(tmp_path / "loud.wav")] = io.Info(RATE, wave.size, 1, "FLOAT", "WAV")
    assert bits(keeping.whole(tmp_path / "loud.wav")) == bits(wave)


def test_a_process_that_dies_with_the_lock_blocks_nobody() -> None:
    kept = Kept(1 << 16)
    if not (child := os.fork()):
        with kept._alone():
            os.kill(os.getpid(), 9)
    assert os.waitpid(child, 0)[1] == 9
    kept.add("a", np.ones(3, np.float32))
    found = kept.find("a", 1, 1)
    assert found is not None and found.tolist() == [1.0]


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("name", ["quiet.wav", "cd.flac"])
def test_a_part_is_read_and_not_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, keep: bool
) -> None:
    write(tmp_path / name, 20.0)
    read, seconds = io.read_mono, list[float]()

    def measured(*place: Path | int) -> tuple[np.ndarray, int]:
        found = read(*place)  # type: ignore[arg-type]
        seconds.append(found[0].size / found[1])
        return found

    monkeypatch.setattr(io, "read_mono", measured)
    one = AudioStore(RATE, Kept(1 << 20) if keep else None)
    for _ in range(3):
        assert one.segment(tmp_path / name, 11 * RATE, 2 * RATE).size == 2 * RATE
    assert len(seconds) == (1 if keep else 3) and max(seconds) < store.BLOCK_S + 2.1 * store.LEAD_S


def test_a_file_with_less_than_its_header_says_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    write(path, 12.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for keeping in (AudioStore(RATE), AudioStore(RATE, Kept(1 << 20))):
        with pytest.raises(BadInput, match=r"x\.flac"):
            keeping.segment(path, 10 * RATE, RATE)
