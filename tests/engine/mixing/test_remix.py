from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from usepcli.audio import io
from usepcli.engine.mixing import takes
from usepcli.engine.mixing.automation import curve
from usepcli.engine.mixing.desk import desk
from usepcli.engine.mixing.inputs import Stems, find_stems
from usepcli.engine.mixing.levels import Goal, Levels, Room
from usepcli.engine.mixing.remix import Remix, check_output, levels, remix
from usepcli.errors import IOFault, OutputError, UsageError
from usepcli.models.separator import SeparationModel
from usepcli.separator.separator import Separator


class Thirds(SeparationModel):
    """Two outputs of a third and two thirds of the input."""

    runs = 0

    def __init__(self) -> None:
        super().__init__(n_src=2, sample_rate=8000, hop=1)

    def estimate(self, mix: Tensor) -> Tensor:
        self.runs += 1
        return mix[:, None] * mix.new_tensor([1 / 3, 2 / 3])[:, None]


def mixed(pieces: takes.Mix) -> np.ndarray:
    return np.concatenate([wanted for _, wanted in pieces], axis=1)


def codes(path: Path) -> np.ndarray:
    """Samples as integers with the 32 bits on top."""
    return sf.read(path, dtype="int32", always_2d=True)[0].T.astype(np.int64)


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_U8", 8), ("PCM_16", 16), ("PCM_24", 24), ("PCM_32", 32)])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_stems_add_up_to_the_integer(tmp_path: Path, subtype: str, bits: int, channels: int):
    draw, top = np.random.default_rng(0), 2 ** (bits - 1)
    waves = draw.integers(-top // 4, top // 4, (4, channels, 20_000))
    for k, wave in enumerate(waves):
        io.write(tmp_path / "stems" / f"s{k}.wav", wave[:, : 20_000 - 3000 * k] / top, 16_000, subtype)
        waves[k, :, 20_000 - 3000 * k :] = 0
    stems = find_stems([tmp_path / "stems"])
    done = remix(stems, tmp_path / "mix.wav", desk(stems.names))
    assert np.array_equal(codes(tmp_path / "mix.wav") >> (32 - bits), waves.sum(0))
    assert io.info(tmp_path / "mix.wav").subtype == subtype and done.gain_db == 0


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_unity_returns_the_samples_themselves(tmp_path: Path, subtype: str, channels: int):
    wave = np.random.default_rng(0).uniform(-1, 1, (channels, 20_000))
    io.write(tmp_path / "x.wav", wave, 44_100, subtype)
    model = Thirds()
    mixer = desk(["1", "2"], ["1=0"], pans=["2=0"])
    remix(Stems((tmp_path / "x.wav",), ("x",)), tmp_path / "y.w64", mixer, separator=Separator(model))
    assert np.array_equal(codes(tmp_path / "y.w64"), codes(tmp_path / "x.wav")) and model.runs == 0
    remix(Stems((tmp_path / "x.wav",), ("x",)), tmp_path / "y.wav", mixer, separator=Separator(model))
    assert (tmp_path / "y.wav").read_bytes() == (tmp_path / "x.wav").read_bytes()


def test_a_curve_at_0_db_changes_no_sample(tmp_path: Path):
    wave = np.random.default_rng(0).uniform(-1, 1, (2, 20_000))
    io.write(tmp_path / "x.wav", wave, 8000, "PCM_24")
    mixer = desk(["1", "2"], curves={"1": curve([(0, 0), (1, 0)])})
    remix(Stems((tmp_path / "x.wav",), ("x",)), tmp_path / "y.wav", mixer, separator=Separator(Thirds()))
    assert np.array_equal(codes(tmp_path / "y.wav"), codes(tmp_path / "x.wav"))


def test_shorter_stems_end_in_silence_and_gains_apply(tmp_path: Path):
    long, short = np.full(100_000, 0.25, np.float32), np.full(30_000, 0.5, np.float32)
    io.write(tmp_path / "long.wav", long, 8000)
    io.write(tmp_path / "short.wav", short, 8000)
    stems = find_stems([tmp_path / "short.wav", tmp_path / "long.wav"])
    found = mixed(takes.mix_stems(stems, desk(stems.names, ["long=6.0205999132796239"])))
    np.testing.assert_allclose(found[0], 0.5 + np.where(np.arange(100_000) < 30_000, 0.5, 0), atol=1e-12)


def test_the_gain_of_separate_is_undone(tmp_path: Path):
    io.write(tmp_path / "a.wav", np.full(100, 0.25), 8000, "DOUBLE")
    stems = Stems((tmp_path / "a.wav",), ("1",), scale=2.0)
    remix(stems, tmp_path / "b.wav", desk(["1"]), subtype="DOUBLE")
    assert np.all(sf.read(tmp_path / "b.wav")[0] == 0.5)


@pytest.mark.parametrize("channels", [1, 2])
def test_file_remix_changes_the_sources_and_keeps_the_rest(tmp_path: Path, channels: int):
    t = np.arange(50_000) / 8000
    wave = np.stack([0.3 * np.sin(2 * np.pi * (300 + 200 * c) * t) for c in range(channels)])
    io.write(tmp_path / "x.wav", wave, 8000, "FLOAT")
    separator = Separator(Thirds(), chunk_s=2)
    first, second = separator(wave.astype(np.float32), 8000).sources
    found = mixed(takes.mix_file(tmp_path / "x.wav", separator, desk(["1", "2"], ["1=20"], ["2"])))
    np.testing.assert_allclose(found, 10 * first, atol=2e-5)
    found = mixed(takes.mix_file(tmp_path / "x.wav", separator, desk(["1", "2"], ["1=-20", "2=-20"])))
    np.testing.assert_allclose(found, wave / 10, atol=1e-6)  # whatever the model does, all of it is the input
    found = mixed(takes.mix_file(tmp_path / "x.wav", separator, desk(["1", "2"], pans=["1=-1", "2=1"])))
    np.testing.assert_allclose(found, np.stack([first[0], second[-1]]), atol=1e-5)


def test_file_remix_follows_a_curve_across_chunks(tmp_path: Path):
    io.write(tmp_path / "x.wav", np.full((1, 60_000), 0.3), 8000, "FLOAT")
    mixer = desk(["1", "2"], curves={"1": curve([(0, 0), (6, -60)]), "2": curve([(2, 0), (4, -math.inf)])})
    found = mixed(takes.mix_file(tmp_path / "x.wav", Separator(Thirds(), chunk_s=2), mixer))[0]
    t = np.arange(60_000) / 8000
    expected = 0.1 * 10 ** (-np.minimum(t, 6) / 2) + np.where(t <= 4, 0.2, 0)
    away = np.abs(t - 4.005) > 0.006
    np.testing.assert_allclose(found[away], expected[away], atol=1e-5)


def test_panned_mono_stems_make_stereo(tmp_path: Path):
    for name, level in (("a", 0.25), ("b", 0.5)):
        io.write(tmp_path / f"{name}.wav", np.full(10_000, level), 8000)
    stems = find_stems([tmp_path / "a.wav", tmp_path / "b.wav"])
    done = remix(stems, tmp_path / "y.wav", desk(stems.names, pans=["a=-1"]))
    wave, _ = io.read(tmp_path / "y.wav")
    assert np.array_equal(wave, np.repeat([[0.75], [0.5]], 10_000, axis=1).astype(np.float32))
    assert done.pans == {"a": -1}


def test_a_model_runs_once_however_often_the_mix_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    wave = np.random.default_rng(0).standard_normal((1, 24_000)).clip(-3, 3) * 0.3
    io.write(tmp_path / "x.wav", wave, 8000, "FLOAT")
    model, starts = Thirds(), []
    original = takes.mix_file

    def counted(*arguments: Any) -> Iterator[Any]:
        starts.append(1)
        return original(*arguments)

    monkeypatch.setattr("usepcli.engine.mixing.remix.mix_file", counted)
    stems, goal = Stems((tmp_path / "x.wav",), ("x",)), Goal(-12, -3, "limit")
    remix(stems, tmp_path / "y.wav", desk(["1", "2"], ["1=6"]), separator=Separator(model), goal=goal)
    assert len(starts) == 1 and model.runs
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.wav", "y.wav"]


_take = takes._take


@given(counts=st.lists(st.integers(0, 9), max_size=6), takes=st.lists(st.integers(0, 9), max_size=6))
def test_take_gives_samples_in_order(counts: list[int], takes: list[int]):
    wave = np.arange(sum(counts), dtype=float)[None]
    held = [*np.split(wave, np.cumsum(counts), axis=1)]
    got = [_take(held, count) for count in takes]
    assert np.array_equal(np.concatenate([*got, *held], axis=1), wave)


def noise(tmp_path: Path, level: float, seconds: float = 3.0, subtype: str = "PCM_16") -> Path:
    wave = np.random.default_rng(0).standard_normal((2, int(8000 * seconds)))
    io.write(tmp_path / "x.wav", level * wave / np.abs(wave).max(), 8000, subtype, overwrite=True)
    return tmp_path / "x.wav"


def write(source: Path, goal: Goal, out: str = "out.wav", gain: str = "1=0", subtype: str = "") -> Remix:
    return remix(find_stems([source]), source.with_name(out), desk(["x"], [gain]), goal=goal, subtype=subtype)


def test_loudness_target_is_met_and_measured_in_the_file(tmp_path: Path):
    source = noise(tmp_path, 0.5)
    done = write(source, Goal(-30), gain="1=6")
    before = levels(source)
    assert done.lufs_after == pytest.approx(-30, abs=0.05) == levels(tmp_path / "out.wav").lufs
    assert done.lufs_before == before.lufs and done.true_peak_before == before.dbtp
    assert done.gain_db == pytest.approx(-30 - before.lufs - 6, abs=0.01)


def test_a_target_that_would_clip_is_not_reached(tmp_path: Path):
    done = write(noise(tmp_path, 0.5), Goal(-1))
    assert done.lufs_after < -5 and done.peak_after == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(("level", "seconds"), [(0.0, 3.0), (0.5, 0.3)])
def test_silent_and_short_files_keep_their_level(tmp_path: Path, level: float, seconds: float):
    source = noise(tmp_path, level, seconds)
    done = write(source, Goal(-23))
    assert done.gain_db == 0 and not math.isfinite(done.lufs_before) and not math.isfinite(done.lufs_after)
    assert np.array_equal(codes(tmp_path / "out.wav"), codes(source))


@pytest.mark.parametrize("peak", ["gain", "limit"])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("lufs", [None, -8.0])
def test_the_true_peak_of_the_file_keeps_its_target(tmp_path: Path, peak: str, subtype: str, lufs: float | None):
    done = write(noise(tmp_path, 0.9, subtype=subtype), Goal(lufs, -2, peak))
    found = levels(tmp_path / "out.wav")
    assert found.dbtp == done.true_peak_after <= -2 + 0.05
    assert found.dbtp > -2.1
    assert (done.limited_db > 0.5) == (peak == "limit")
    if peak == "limit" and lufs:
        assert done.lufs_after == pytest.approx(lufs, abs=0.2)
    if peak == "limit" and not lufs:
        assert done.gain_db == 0 and 0 < done.limited_share < 1


def test_a_lossy_format_keeps_the_true_peak_too(tmp_path: Path):
    done = write(noise(tmp_path, 0.9), Goal(None, -1), out="out.ogg")
    assert levels(tmp_path / "out.ogg").dbtp == done.true_peak_after <= -0.9


def test_a_limiter_without_a_target_keeps_1_dbtp_and_does_nothing_below(tmp_path: Path):
    loud = write(noise(tmp_path, 0.99), Goal(peak="limit"))
    assert -1.1 < loud.true_peak_after <= -0.95 and loud.gain_db == 0
    quiet = write(noise(tmp_path, 0.3), Goal(peak="limit"), out="quiet.wav")
    assert quiet.limited_db == 0 and (tmp_path / "quiet.wav").read_bytes() == (tmp_path / "x.wav").read_bytes()


def test_float_files_may_pass_full_scale_unless_a_peak_is_asked_for(tmp_path: Path):
    source = noise(tmp_path, 0.9, subtype="FLOAT")
    assert write(source, Goal(), gain="1=6").peak_after == pytest.approx(5.08, abs=0.01)
    done = write(source, Goal(), out="int.wav", gain="1=6", subtype="PCM_16")
    assert done.peak_after == pytest.approx(0, abs=0.01) and done.gain_db == pytest.approx(-5.08, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5.0, None, "gain"), "--lufs: found 5"),
        ((math.nan, None, "gain"), "--lufs: found nan"),
        ((None, 1.0, "gain"), "--true-peak: found 1"),
        ((None, None, "limiter"), "did you mean 'limit'"),
    ],
)
def test_goals_out_of_range(arguments: tuple[Any, ...], message: str):
    with pytest.raises(UsageError, match=message):
        Goal(*arguments)


@pytest.mark.parametrize(
    ("low", "high", "subtype", "suffix", "expected"),
    [
        (-1.0, 1 - 2**-15, "PCM_16", ".wav", 1.0),
        (-1 - 2**-17, 1 - 2**-16, "PCM_16", ".wav", 1.0),  # rounds to the last code
        (-1.0, 1.0, "PCM_16", ".wav", 0.999999 * (1 - 2**-15)),
        (-2.0, 0.1, "PCM_24", ".wav", 0.999999 / 2),
        (-2.0, 9.0, "FLOAT", ".wav", math.inf),
        (-2.0, 0.0, "FLOAT", ".ogg", 0.999999 / 2),
    ],
)
def test_room(low: float, high: float, subtype: str, suffix: str, expected: float):
    assert Room.of(subtype, suffix).most(Levels(-20, 1, low, high, 1)) == pytest.approx(expected, rel=1e-12)


def test_output_is_checked_before_any_work(tmp_path: Path):
    source = noise(tmp_path, 0.5)
    info = io.info(source)
    with pytest.raises(OutputError, match="exists already"):
        check_output(source, info, [source], "", False)
    with pytest.raises(OutputError, match="never overwritten"):
        check_output(source, info, [source], "", True)
    with pytest.raises(UsageError, match=r"unknown format '\.txt'"):
        check_output(tmp_path / "x.txt", info, [source], "", False)
    for name, said in (
        ("o.xyz", r"o\.xyz: unknown format '\.xyz'; choose from"),
        ("o", "nothing in the name says"),
    ):
        with pytest.raises(UsageError, match=said) as fault:
            check_output(tmp_path / name, info, [source], "", False)
        assert "subtype" not in str(fault.value)  # nobody typed one
    assert check_output(tmp_path / "new.flac", info, [source], "", False) == "PCM_16"


def no_space(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_leaves_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    io.write(tmp_path / "x.wav", np.full(30_000, 0.3), 8000, "FLOAT")
    monkeypatch.setattr("usepcli.engine.mixing.remix.os.replace", no_space)
    mixer, stems = desk(["1", "2"], ["1=3"]), Stems((tmp_path / "x.wav",), ("x",))
    with pytest.raises(IOFault, match=r"y.wav: writing failed: No space left"):
        remix(stems, tmp_path / "y.wav", mixer, separator=Separator(Thirds()))
    assert [path.name for path in tmp_path.iterdir()] == ["x.wav"]


def test_a_full_disk_leaves_no_spool(tmp_path: Path):
    with (
        pytest.raises(IOFault, match="cannot be kept there for its second pass: No space left"),
        takes.Spool(tmp_path / "new" / "y.wav", 1, False) as spool,
    ):
        spool._file.write = no_space  # type: ignore[method-assign, assignment]
        spool.write(np.zeros((1, 3)))
    assert not any((tmp_path / "new").iterdir())


@pytest.mark.skipif(os.name != "posix", reason="elsewhere an open file keeps its name")
def test_a_killed_process_leaves_no_spool(tmp_path: Path):
    with takes.Spool(tmp_path / "y.wav", 1, False) as spool:
        spool.write(np.ones((1, 3)))
        assert not any(tmp_path.iterdir())
        assert np.array_equal(next(spool.blocks(9)), np.ones((1, 3)))


def test_a_spool_gives_back_what_it_was_given(tmp_path: Path):
    wave = np.random.default_rng(0).standard_normal((2, 1000))
    for exact, expected in ((True, wave), (False, wave.astype(np.float32))):
        with takes.Spool(tmp_path / "y.wav", 2, exact) as spool:
            for block in np.split(wave, [10, 500], axis=1):
                spool.write(block)
            for _ in range(2):
                assert np.array_equal(np.concatenate(list(spool.blocks(300)), axis=1), expected)
