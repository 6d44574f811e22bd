"""`usep remix` as a user meets it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile as sf

from usepcli.audio import io


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Usep = Callable[..., Answer]


@pytest.fixture
def usep(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Usep:
    """Run `usep remix ...` in an empty folder."""
    from usepcli.cli.app import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["usep", "remix", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Answer(code, *capsys.readouterr())

    return run


def tone(path: str, level: float, hertz: float = 440, rate: int = 8000, subtype: str = "PCM_16") -> np.ndarray:
    wave = (level * np.sin(2 * np.pi * hertz * np.arange(2 * rate) / rate)).astype(np.float32)
    io.write(path, wave, rate, subtype)
    return io.read(path)[0]


def test_stems_without_gains_are_the_integer_sum(usep: Usep):
    a, b = tone("a.wav", 0.3), tone("b.wav", 0.4, 700)
    answer = usep("a.wav", "b.wav", "-o", "mix.wav", "--json")
    assert answer.code == 0, answer.err
    assert np.array_equal(io.read("mix.wav")[0] * 32768, a * 32768 + b * 32768)
    record = json.loads(answer.out)
    assert record["gains_db"] == {"a": 0, "b": 0} and record["gain_db"] == 0
    assert record["lufs_before"] == record["lufs_after"]


def test_gain_and_mute_by_name_and_number(usep: Usep):
    a = tone("a.wav", 0.3)
    tone("b.wav", 0.4, 700)
    answer = usep("a.wav", "b.wav", "--gain", "a=-6", "--mute", "2", "-o", "mix.wav")
    assert answer.code == 0 and "gains_db.a" in answer.out and "lufs_after" in answer.out
    np.testing.assert_allclose(io.read("mix.wav")[0], a * 10 ** (-6 / 20), atol=2.0**-15)


def test_a_sum_that_would_clip_is_turned_down_and_said_so(usep: Usep):
    a, b = tone("a.wav", 0.9), tone("b.wav", 0.9)
    answer = usep("a.wav", "b.wav", "-o", "mix.wav", "--json")
    gain = json.loads(answer.out)["gain_db"]
    assert gain == pytest.approx(-20 * np.log10(1.8), abs=0.01) and "turned down by 5.1" in answer.err
    np.testing.assert_allclose(io.read("mix.wav")[0], (a + b) * 10 ** (gain / 20), atol=1e-4)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_file_with_model_and_no_gains_comes_back_bit_by_bit(usep: Usep, model_file: Path, subtype: str):
    tone("x.wav", 0.5, rate=44_100, subtype=subtype)
    answer = usep("x.wav", "--model", model_file, "--gain", "1=0", "-o", "deep/y.wav")
    assert answer.code == 0, answer.err
    assert Path("deep/y.wav").read_bytes() == Path("x.wav").read_bytes()


def test_file_with_model_and_other_format_keeps_every_sample(usep: Usep, model_file: Path):
    wave = tone("x.wav", 0.5, rate=44_100)
    assert usep("x.wav", "--model", model_file, "-o", "y.flac").code == 0
    assert np.array_equal(io.read("y.flac")[0], wave)


def test_file_with_model_gain_and_loudness(usep: Usep, model_file: Path):
    tone("x.wav", 0.5, rate=16_000)
    answer = usep("x.wav", "-m", model_file, "--gain", "1=-6", "--lufs", "-30", "-o", "y.wav", "--json")
    assert answer.code == 0, answer.err
    record = json.loads(answer.out)
    assert record["gains_db"]["1"] == -6 and record["lufs_after"] == pytest.approx(-30, abs=0.05)
    assert io.info("y.wav").frames == io.info("x.wav").frames and io.info("y.wav").rate == 16_000


def test_one_input_that_cannot_be_used_is_not_copied(usep: Usep):
    wave = np.zeros(8000, np.float32)
    wave[5] = np.nan
    sf.write("x.wav", wave, 8000, "FLOAT")
    assert usep("x.wav", "-o", "y.wav").code == 65 and not Path("y.wav").exists()


def test_silence_has_no_loudness_and_no_invalid_json(usep: Usep):
    io.write("x.wav", np.zeros(8000), 8000)
    answer = usep("x.wav", "--lufs", "-23", "--mute", "1", "-o", "y.wav", "--json")
    assert answer.code == 0 and "silent, so its loudness was left" in answer.err
    record = json.loads(answer.out)
    assert record["lufs_before"] is None and record["gains_db"] == {"x": None}
    assert not io.read("y.wav")[0].any()


def test_wrong_usage_and_outputs_in_the_way(usep: Usep, model_file: Path):
    tone("a.wav", 0.1)
    tone("b.wav", 0.1)
    tone("c.wav", 0.1, rate=16_000)
    both = ("a.wav", "b.wav", "-o", "y.wav")
    assert usep(*both, "--gain", "c=1").code == 2
    assert usep(*both, "--model", model_file).code == 2
    assert usep(*both, "--lufs", "5").code == 2
    assert usep("a.wav", "b.wav", "-o", "y.txt").code == 2
    assert usep("a.wav", "c.wav", "-o", "y.wav").code == 65
    assert usep("a.wav", "none.wav", "-o", "y.wav").code == 66
    assert usep("a.wav", "b.wav", "-o", "a.wav").code == 73
    assert usep("a.wav", "b.wav", "-o", "a.wav", "--overwrite").code == 73
    assert usep(*both, "--dry-run").code == 0
    assert not Path("y.wav").exists()
