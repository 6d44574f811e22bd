from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from usepcli.audio import io
from usepcli.engine import remix
from usepcli.engine.separate import Separator
from usepcli.errors import BadInput, OutputError, UsageError
from usepcli.models.separator import SeparationModel

NAMES = ["drums", "bass", "lead vocals"]


class Thirds(SeparationModel):
    """Outputs a third and a half of the input: a sixth is left over."""

    def __init__(self) -> None:
        super().__init__(n_src=2, sample_rate=8000, hop=1)

    def estimate(self, mix: Tensor) -> Tensor:
        return mix[:, None] * mix.new_tensor([1 / 3, 1 / 2])[:, None]


def test_gains_by_name_and_number():
    gains = remix.parse_gains(NAMES, ["bass=-20", "3=6"], ["1"])
    np.testing.assert_allclose(gains, [0, 0.1, 10**0.3])
    assert remix.parse_gains(NAMES, ["1=0", "bass=-inf"], []).tolist() == [1, 0, 1]
    assert remix.parse_gains(["a=b"], ["a=b=0"], []).tolist() == [1]


@pytest.mark.parametrize(
    ("gains", "mutes", "message"),
    [
        (["drum=3"], [], "did you mean 'drums'"),
        (["4=3"], [], "or 1 to 3"),
        (["0=3"], [], "no such source"),
        (["bass"], [], "expected NAME=dB"),
        (["bass=loud"], [], "expected NAME=dB"),
        (["bass=nan"], [], "expected NAME=dB"),
        (["bass=inf"], [], "expected NAME=dB"),
        (["=3"], [], "expected NAME=dB"),
        (["bass=3"], ["2"], "given twice"),
    ],
)
def test_wrong_gains(gains: list[str], mutes: list[str], message: str):
    with pytest.raises(UsageError, match=message):
        remix.parse_gains(NAMES, gains, mutes)


def test_a_name_that_is_also_another_ones_number_is_ambiguous():
    with pytest.raises(UsageError, match="fits 2 sources"):
        remix.parse_gains(["2", "1"], ["1=3"], [])
    assert remix.parse_gains(["1", "2"], [], ["1"]).tolist() == [0, 1]


def mixed(pieces: remix.Mix) -> np.ndarray:
    return np.concatenate([wanted for _, wanted in pieces], axis=1)


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_U8", 8), ("PCM_16", 16), ("PCM_24", 24)])
def test_stems_add_up_to_the_integer(tmp_path: Path, subtype: str, bits: int):
    draw, top = np.random.default_rng(0), 2 ** (bits - 1)
    codes = draw.integers(-top // 4, top // 4, (4, 2, 70_000))
    paths = [tmp_path / f"s{k}.wav" for k in range(4)]
    for path, wave in zip(paths, codes, strict=True):
        io.write(path, (wave / top).astype(np.float64), 16_000, subtype)
    info = remix.check_stems(paths)
    remix.write(tmp_path / "mix.wav", info, subtype, lambda: remix.mix_stems(paths, np.ones(4)))
    found, _ = io.read(tmp_path / "mix.wav")
    assert np.array_equal(np.rint(found.astype(np.float64) * top), codes.sum(0))


def test_shorter_stems_end_in_silence_and_gains_apply(tmp_path: Path):
    long, short = np.full(100_000, 0.25, np.float32), np.full(30_000, 0.5, np.float32)
    io.write(tmp_path / "long.wav", long, 8000)
    io.write(tmp_path / "short.wav", short, 8000)
    found = mixed(remix.mix_stems([tmp_path / "short.wav", tmp_path / "long.wav"], np.array([0.5, 2])))
    np.testing.assert_array_equal(found[0], 0.5 + np.where(np.arange(100_000) < 30_000, 0.25, 0))


def test_stems_must_agree(tmp_path: Path):
    io.write(tmp_path / "a.wav", np.zeros(10), 8000)
    io.write(tmp_path / "b.wav", np.zeros(10), 16_000)
    io.write(tmp_path / "c.wav", np.zeros((2, 12)), 8000)
    for other in ("b.wav", "c.wav"):
        with pytest.raises(BadInput, match=f"{other}: .*stems must agree"):
            remix.check_stems([tmp_path / "a.wav", tmp_path / other])
    assert remix.check_stems([tmp_path / "a.wav"]).frames == 10


@pytest.mark.parametrize("rate", [8000, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
def test_file_remix_changes_the_sources_and_keeps_the_rest(tmp_path: Path, rate: int, channels: int):
    t = np.arange(6 * rate) / rate
    wave = np.stack([0.3 * np.sin(2 * np.pi * (300 + 200 * c) * t) for c in range(channels)])
    io.write(tmp_path / "x.wav", wave, rate, "FLOAT")
    gains = np.array([0.0, 0.5])
    found = mixed(remix.mix_file(tmp_path / "x.wav", Separator(Thirds(), chunk_s=2), gains))
    expected = wave * (1 - 1 / 3 - 1 / 4)
    assert found.shape == wave.shape
    np.testing.assert_allclose(found[:, 500:-500], expected[:, 500:-500], atol=1e-3)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_unity_returns_the_samples_themselves(tmp_path: Path, subtype: str):
    wave = np.random.default_rng(0).uniform(-1, 1, (2, 50_000)).astype(np.float32)
    io.write(tmp_path / "x.wav", wave, 44_100, subtype)
    info = io.info(tmp_path / "x.wav")
    separator = Separator(Thirds())
    remix.write(
        tmp_path / "y.flac" if subtype != "FLOAT" else tmp_path / "y.wav",
        info, subtype, lambda: remix.mix_file(tmp_path / "x.wav", separator, np.ones(2)),
    )  # fmt: skip
    (out,) = tmp_path.glob("y.*")
    assert np.array_equal(io.read(out)[0], io.read(tmp_path / "x.wav")[0])


@given(counts=st.lists(st.integers(0, 9), max_size=6), takes=st.lists(st.integers(0, 9), max_size=6))
def test_take_gives_samples_in_order(counts: list[int], takes: list[int]):
    wave = np.arange(sum(counts), dtype=float)[None]
    held = [*np.split(wave, np.cumsum(counts), axis=1)]
    got = [remix._take(held, count) for count in takes]
    assert np.array_equal(np.concatenate([*got, *held], axis=1), wave)


def stem(tmp_path: Path, level: float, seconds: float = 3.0) -> Path:
    wave = np.random.default_rng(0).standard_normal(int(8000 * seconds))
    io.write(tmp_path / "x.wav", (level * wave / max(np.abs(wave).max(), 1)).astype(np.float32), 8000, "PCM_16")
    return tmp_path / "x.wav"


def write(tmp_path: Path, source: Path, lufs: float | None, gain: float = 1.0) -> tuple[float, float, float]:
    done, before = remix.write(
        tmp_path / "out.wav", io.info(source), "PCM_16", lambda: remix.mix_stems([source], np.array([gain])), lufs=lufs
    )
    return done.gain_db, before, remix.loudness(tmp_path / "out.wav")


def test_loudness_target_is_met_and_measured_in_the_file(tmp_path: Path):
    source = stem(tmp_path, 0.5)
    gain, before, after = write(tmp_path, source, -30.0, gain=2.0)
    assert after == pytest.approx(-30, abs=0.05)
    assert before == pytest.approx(remix.loudness(source), abs=1e-6)
    assert gain == pytest.approx(-30 - before - 20 * math.log10(2), abs=0.05)


def test_a_target_that_would_clip_is_not_reached(tmp_path: Path):
    _, _, after = write(tmp_path, stem(tmp_path, 0.5), -1.0)
    assert after < -5
    assert np.abs(io.read(tmp_path / "out.wav")[0]).max() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("level", "seconds"), [(0.0, 3.0), (0.5, 0.3)])
def test_silent_and_short_files_keep_their_level(tmp_path: Path, level: float, seconds: float):
    source = stem(tmp_path, level, seconds)
    gain, before, after = write(tmp_path, source, -23.0)
    assert gain == 0 and not math.isfinite(before) and not math.isfinite(after)
    assert np.array_equal(io.read(tmp_path / "out.wav")[0], io.read(source)[0])


def test_output_is_checked_before_any_work(tmp_path: Path):
    source = stem(tmp_path, 0.5)
    info = io.info(source)
    with pytest.raises(OutputError, match="exists already"):
        remix.check_output(source, info, [source], "", False)
    with pytest.raises(OutputError, match="never overwritten"):
        remix.check_output(source, info, [source], "", True)
    with pytest.raises(UsageError, match=r"unknown format '\.txt'"):
        remix.check_output(tmp_path / "x.txt", info, [source], "", False)
    assert remix.check_output(tmp_path / "new.flac", info, [source], "", False) == "PCM_16"
