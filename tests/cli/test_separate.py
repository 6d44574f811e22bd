"""`usep separate` as a user meets it: files, exit codes, what stands on which stream."""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile as sf
import torch

from usepcli.audio import io
from usepcli.engine import build, checkpoint


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Usep = Callable[..., Answer]


@pytest.fixture
def usep(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Usep:
    """Run `usep separate ...` with an untrained but mixture-consistent model, in an empty folder."""
    from usepcli.cli.app import main

    torch.manual_seed(0)
    model = build.model(
        {"name": "conformer_mask", "preset": "tiny", "n_src": 2, "sample_rate": 8000, "consistency": "uniform"}
    )
    card = checkpoint.Card(name="toy", model=model.config, sample_rate=8000, n_src=2)
    checkpoint.save_model(tmp_path / "toy.safetensors", model.state_dict(), card)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["usep", "separate", *map(str, arguments), "--model", "toy.safetensors"])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Answer(code, *capsys.readouterr())

    return run


def noise(seconds: float, rate: int = 8000, channels: int = 1, level: float = 0.1) -> np.ndarray:
    draw = np.random.default_rng(0)
    return (level * draw.standard_normal((channels, int(seconds * rate)))).clip(-1, 1).astype(np.float32)


def left_over(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("name", "subtype", "rate", "channels", "expected"),
    [
        ("x.wav", "PCM_16", 8000, 1, "PCM_16"),
        ("x.wav", "PCM_24", 44_100, 2, "PCM_24"),
        ("x.wav", "PCM_U8", 11_025, 1, "PCM_U8"),
        ("x.wav", "FLOAT", 16_000, 1, "FLOAT"),
        ("x.flac", "PCM_16", 48_000, 1, "PCM_16"),
        ("x.aiff", "PCM_16", 22_050, 2, "PCM_16"),
        ("x.ogg", "VORBIS", 16_000, 1, "PCM_16"),
        ("x.mp3", "MPEG_LAYER_III", 44_100, 2, "PCM_16"),
    ],
)
def test_formats_keep_rate_channels_length_and_sample_format(
    usep: Usep, name: str, subtype: str, rate: int, channels: int, expected: str
):
    io.write(name, noise(1.3, rate, channels), rate, subtype)
    answer = usep(name, "-o", "out", "--json")
    assert answer.code == 0, answer.err
    record = json.loads(answer.out)
    held = io.read(name)[0]
    assert record["outputs"] == ["out/x_1.wav", "out/x_2.wav"] and record["gain_db"] == 0
    assert record["duration_s"] == pytest.approx(held.shape[1] / rate)
    for path in record["outputs"]:
        assert io.info(path) == io.Info(rate, held.shape[1], channels, expected, "WAV")
    if rate == 8000:
        total = sum(io.read(path)[0] for path in record["outputs"])
        np.testing.assert_allclose(total, held, atol=1.01 * 2.0**-15)


def test_float_sources_add_up_to_the_input_to_a_millionth(usep: Usep):
    io.write("x.wav", noise(25), 8000, "FLOAT")
    assert usep("x.wav", "-o", "out", "--chunk-s", 4).code == 0
    total = io.read("out/x_1.wav")[0] + io.read("out/x_2.wav")[0]
    np.testing.assert_allclose(total, io.read("x.wav")[0], atol=1e-6)


def test_band_limit_is_said_on_stderr_and_the_table_stands_on_stdout(usep: Usep):
    io.write("x.wav", noise(1, 44_100), 44_100)
    answer = usep("x.wav", "-o", "out")
    assert "44100 Hz, but the model works at 8000 Hz" in answer.err and "below 4 kHz" in answer.err
    assert answer.out.splitlines()[0].split()[:2] == ["file", "first"] and "out/x_1.wav" in answer.out
    assert "Hz" not in usep("x.wav", "-o", "quiet", "-q").err


@pytest.mark.parametrize("length", [1, 2, 50, 127])
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_short_silent_and_constant_files(usep: Usep, length: int, value: float):
    io.write("x.wav", np.full(length, value, np.float32), 16_000, "FLOAT")
    answer = usep("x.wav", "-o", "out")
    assert answer.code == 0, answer.err
    for path in ("out/x_1.wav", "out/x_2.wav"):
        wave = io.read(path)[0]
        assert wave.shape == (1, length) and np.isfinite(wave).all()
        assert value or not wave.any()


def test_nothing_is_overwritten_unless_asked_for(usep: Usep):
    io.write("x.wav", noise(0.5), 8000)
    Path("out").mkdir()
    Path("out/x_2.wav").write_bytes(b"mine")
    answer = usep("x.wav", "-o", "out")
    assert answer.code == 73 and "x_2.wav: exists already" in answer.err and answer.out == ""
    assert left_over(Path("out")) == ["out/x_2.wav"] and Path("out/x_2.wav").read_bytes() == b"mine"
    assert usep("x.wav", "-o", "out", "--overwrite").code == 0
    assert io.info("out/x_2.wav").frames == 4000


def test_bad_file_alone(usep: Usep):
    Path("text.wav").write_text("no sound")
    Path("empty.wav").touch()
    sf.write("header.wav", np.zeros(0), 8000)
    wave = noise(0.5)
    wave[0, 7] = np.nan
    sf.write("nan.wav", wave[0], 8000, "FLOAT")
    for name, code in {"text.wav": 65, "empty.wav": 65, "header.wav": 65, "nan.wav": 65, "none.wav": 66}.items():
        answer = usep(name, "-o", "out")
        assert answer.code == code and name in answer.err and answer.err.count("\n") == 1, answer
        assert answer.out == "" and not left_over(Path("out"))


def test_bad_files_among_many_do_not_stop_the_others(usep: Usep):
    for name in ("in/a/x.wav", "in/b/x.wav", "in/y.flac"):
        io.write(name, noise(0.5), 8000)
    Path("in/b/bad.wav").write_text("no sound")
    answer = usep("in", "missing.wav", "-o", "out", "--json")
    assert answer.code == 4
    assert "in/b/bad.wav: unreadable" in answer.err and "missing.wav: no such file" in answer.err
    assert "2 of 5 files failed" in answer.err
    assert [json.loads(line)["file"] for line in answer.out.splitlines()] == ["in/a/x.wav", "in/b/x.wav", "in/y.flac"]
    expected = [f"out/{stem}_{i}.wav" for stem in ("a/x", "b/x", "y") for i in (1, 2)]
    assert sorted(left_over(Path("out"))) == expected


def test_a_flac_that_breaks_off_leaves_nothing_behind(usep: Usep):
    io.write("whole.flac", noise(20), 8000)
    Path("cut.flac").write_bytes(Path("whole.flac").read_bytes()[:100_000])
    answer = usep("cut.flac", "-o", "out")
    assert answer.code == 65 and "cut.flac" in answer.err and not left_over(Path("out"))


def test_a_wav_that_breaks_off_is_separated_as_far_as_it_goes_and_said_so(usep: Usep):
    io.write("whole.wav", noise(2), 8000)
    Path("cut.wav").write_bytes(Path("whole.wav").read_bytes()[:-8000])
    answer = usep("cut.wav", "whole.wav", "-o", "out", "-q")
    assert answer.code == 0 and io.info("out/cut_1.wav").frames == 12_000
    assert answer.err == "cut.wav: 0.5 s shorter than its header says; separated what is there\n"


def test_loud_input_gets_one_gain_that_is_reported(usep: Usep):
    square = np.sign(np.sin(np.arange(16_000) * 0.35)).astype(np.float32) * 0.99
    io.write("x.wav", square, 44_100, "PCM_16")  # resampling a square wave overshoots
    answer = usep("x.wav", "-o", "out", "--json")
    record = json.loads(answer.out)
    loud = usep("x.wav", "-o", "float", "--subtype", "float")
    assert loud.code == 0
    for i in (1, 2):
        free, held = io.read(f"float/x_{i}.wav")[0], io.read(f"out/x_{i}.wav")[0]
        np.testing.assert_allclose(held, free * 10 ** (record["gain_db"] / 20), atol=1e-4)
    peak = max(np.abs(io.read(f"float/x_{i}.wav")[0]).max() for i in (1, 2))
    assert (record["gain_db"] < 0) == (peak > 1)
    assert ("turned down" in answer.err) == (peak > 1)


def test_dry_run_writes_nothing(usep: Usep):
    io.write("in/x.wav", noise(0.5), 8000)
    answer = usep("in", "-o", "out", "--dry-run", "--json")
    assert answer.code == 0 and not Path("out").exists()
    assert json.loads(answer.out) == [{"file": "in/x.wav", "outputs": ["out/x_1.wav", "out/x_2.wav"]}]


def test_names_formats_and_wrong_usage(usep: Usep):
    io.write("x.wav", noise(0.5), 8000)
    assert usep("x.wav", "-o", "out", "--name", "{i}-{stem}", "--format", "flac", "--subtype", "pcm_24").code == 0
    assert io.info("out/2-x.flac").subtype == "PCM_24"
    for wrong in (["--name", "same"], ["--format", "wax"], ["--subtype", "PCM_99"], ["--chunk-s", "0.1"]):
        answer = usep("x.wav", "-o", "other", *wrong)
        assert answer.code == 2 and not Path("other").exists(), answer


def test_names_in_any_bytes(usep: Usep):
    io.write("x.wav", noise(0.5), 8000)
    os.rename(b"x.wav", b"in \xff\xfe.wav")
    answer = usep(os.fsdecode(b"in \xff\xfe.wav"), "-o", "out")
    assert answer.code == 0, answer.err
    assert sorted(os.listdir(b"out")) == [b"in \xff\xfe_1.wav", b"in \xff\xfe_2.wav"]


def test_full_disk_is_74_and_leaves_no_partial_file(usep: Usep):
    io.write("a.wav", noise(0.5), 8000)
    io.write("b.wav", noise(20), 8000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        answer = usep("a.wav", "b.wav", "-o", "out", "--json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert answer.code == 74 and "writing failed" in answer.err
    assert sorted(left_over(Path("out"))) == ["out/a_1.wav", "out/a_2.wav"]
    assert [json.loads(line)["file"] for line in answer.out.splitlines()] == ["a.wav"]
