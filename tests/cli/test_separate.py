"""`usep separate` as a user meets it: files, exit codes, what stands on which stream."""

from __future__ import annotations

import csv
import io as streams
import json
import os
import re
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch

from usepcli import registry
from usepcli.audio import io
from usepcli.dsp.parts import Parts
from usepcli.models.separator import SeparationModel

Usep = Callable[..., Any]


@pytest.fixture
def usep(separating: Usep) -> Usep:
    return separating


def noise(seconds: float, rate: int = 8000, channels: int = 1, level: float = 0.1) -> np.ndarray:
    draw = np.random.default_rng(0)
    return (level * draw.standard_normal((channels, int(seconds * rate)))).clip(-1, 1).astype(np.float32)


def table(path: str) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def left_over(folder: Path) -> list[str]:
    """All files but the tables."""
    return sorted(str(path) for path in folder.rglob("*") if path.is_file() and path.suffix != ".csv")


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
        # Integers add up exactly; what a decoder gave is no integer, and is met to half a code.
        exact = subtype.startswith("PCM")
        np.testing.assert_allclose(total, held, atol=0 if exact else 0.51 * 2.0**-15 if expected != "FLOAT" else 1e-6)


def test_float_sources_add_up_to_the_input_to_a_millionth(usep: Usep):
    io.write("x.wav", noise(25), 8000, "FLOAT")
    assert usep("x.wav", "-o", "out", "--chunk-s", 4).code == 0
    total = io.read("out/x_1.wav")[0] + io.read("out/x_2.wav")[0]
    np.testing.assert_allclose(total, io.read("x.wav")[0], atol=1e-6)


def test_band_limit_is_said_on_stderr_and_the_table_stands_on_stdout(usep: Usep):
    io.write("x.wav", noise(1, 44_100), 44_100)
    answer = usep("x.wav", "-o", "out")
    assert "44100 Hz, but the model works at 8000 Hz: what lies above 4 kHz goes to" in answer.err
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


def test_what_nobody_foresaw_in_one_file_does_not_stop_the_others(usep: Usep, monkeypatch: pytest.MonkeyPatch):
    from usepcli.separator.separator import Separator

    whole = Separator.file

    def file(self: Separator, path: Path, *more: object) -> object:
        if path.name == "b.wav":
            raise ValueError("a kind of file that nobody foresaw")
        return whole(self, path, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Separator, "file", file)
    for name in "abc":
        io.write(f"in/{name}.wav", noise(0.1), 8000)
    answer = usep("in", "-o", "out")
    assert answer.code == 4 and "b.wav: ValueError: a kind of file that nobody foresaw" in answer.err
    assert sorted(left_over(Path("out"))) == [f"out/{name}_{i}.wav" for name in "ac" for i in (1, 2)]
    assert [row["code"] for row in table("out/errors.csv")] == ["1"]
    assert usep("in/b.wav", "-o", "alone").code == 1 and not left_over(Path("alone"))


def test_integers_of_64_bits(usep: Usep):
    pytest.importorskip("av")
    wave = noise(0.5)[0]
    codes = (wave.astype(np.float64) * 2**63).astype("<i8").tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(codes), b"WAVE", b"fmt ", 16, 1, 1, 8000, 64000, 8, 64,
                       b"data", len(codes))  # fmt: skip
    Path("x.wav").write_bytes(head + codes)
    assert np.abs(io.read("x.wav")[0][0] - wave).max() < 1e-7
    assert usep("x.wav", "-o", "out").code == 0 and io.info("out/x_1.wav").subtype == "PCM_32"


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
    assert answer.err == "cut.wav: 0.5 s shorter than its header or its size says; separated what is there\n"


def test_an_ogg_that_breaks_off_is_said_to_have_no_end(usep: Usep):
    io.write("whole.ogg", noise(3), 8000)
    data = Path("whole.ogg").read_bytes()
    Path("cut.ogg").write_bytes(data[: 2 * len(data) // 3])
    answer = usep("cut.ogg", "whole.ogg", "-o", "out")
    assert answer.code == 0 and "cut.ogg: nothing in it says where it ends" in answer.err
    assert "whole.ogg: nothing" not in answer.err


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


def test_the_gain_in_the_table_is_exact_enough_to_check_the_sum_to_a_code(usep: Usep):
    io.write("x.wav", noise(5, level=0.6), 8000, "PCM_24")
    answer = usep("x.wav", "-o", "out")
    assert answer.code == 0, answer.err
    gain = float(table("out/outputs.csv")[0]["gain_db"])
    assert gain < 0
    total = sum(io.read(f"out/x_{i}.wav")[0].astype(np.float64) for i in (1, 2))
    assert np.abs(total - 10 ** (gain / 20) * io.read("x.wav")[0].astype(np.float64)).max() < 1.1 * 2**-23


@pytest.mark.parametrize("subtype", ["ULAW", "ALAW", "IMA_ADPCM"])
def test_coded_integers_add_up_exactly_and_the_table_knows(usep: Usep, subtype: str):
    sf.write("x.wav", noise(2)[0], 8000, subtype)
    answer = usep("x.wav", "-o", "out")
    assert answer.code == 0 and "x.wav: sources add up to the input exactly (sum check, not quality)" in answer.err
    coded = usep("x.wav", "-o", "ogg", "--format", "ogg", "--json")
    assert ", before coding as VORBIS (sum check" in coded.err and not json.loads(coded.out)["exact"]
    total = sum(sf.read(f"out/x_{i}.wav")[0] for i in (1, 2))
    np.testing.assert_array_equal(total, sf.read("x.wav")[0])


def test_dry_run_writes_nothing(usep: Usep):
    io.write("in/x.wav", noise(0.5), 8000)
    answer = usep("in", "-o", "out", "--dry-run", "--json")
    assert answer.code == 0 and not Path("out").exists()
    assert json.loads(answer.out) == [{"file": "in/x.wav", "outputs": ["out/x_1.wav", "out/x_2.wav"], "done": False}]


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
    assert sorted(os.listdir(b"out")) == [b"in \xff\xfe_1.wav", b"in \xff\xfe_2.wav", b"outputs.csv"]


def test_a_name_that_is_too_long_fails_alone_and_control_characters_stay_off_the_terminal(usep: Usep):
    for name in ("a\r\x1b[2Jb.wav", "L" * 251 + ".wav", "z.wav"):
        io.write("x.wav", noise(0.1), 8000)
        os.rename("x.wav", name)
    answer = usep(".", "-o", "out")
    assert answer.code == 4 and "File name too long; choose a shorter name" in answer.err
    assert {row["code"] for row in table("out/errors.csv")} == {"73"}
    assert len(left_over(Path("out"))) == 4
    assert "\x1b" not in answer.out + answer.err and "\r" not in answer.out + answer.err
    assert "a\\x0d\\x1b[2Jb.wav: sources add up" in answer.err


def test_outputs_beside_their_inputs_are_no_inputs_of_the_next_run(usep: Usep):
    for name in ("in/x.wav", "in/sub/y.wav"):
        io.write(name, noise(0.1), 8000)
    assert usep("in", "-o", "in").code == 0
    before = left_over(Path("in"))
    again = usep("in", "in/*.wav", "-o", "in")
    assert again.code == 0 and "2 of 2 files are done already" in again.err
    assert left_over(Path("in")) == before and len(before) == 6
    os.remove("in/outputs.csv")  # as if a kill had come before the rows
    Path("in/.usep.pending").write_text('["x_1.wav", "x_2.wav", "sub/y_1.wav", "sub/y_2.wav"]')
    assert usep("in", "-o", "in").code == 0
    assert left_over(Path("in")) == before


def test_files_that_are_made_again_have_one_row_each_whatever_ends_the_run(usep: Usep):
    for k in range(3):
        io.write(f"in/{k}.wav", noise(0.1), 8000)
    assert usep("in", "-o", "out").code == 0
    before = Path("out/outputs.csv").read_text()
    assert usep("in", "-o", "out", "--overwrite", "--no-resume").code == 0
    assert Path("out/outputs.csv").read_text() == before
    Path("in/2.wav").write_text("no sound")
    assert usep("in", "-o", "out", "--overwrite", "--no-resume", "--clip", "allow", "--fail-fast").code == 65
    rows = table("out/outputs.csv")
    assert len(rows) == len({row["output"] for row in rows}) == 6
    assert len({row["settings"] for row in rows if row["file"] != "in/2.wav"}) == 1
    # A killed run leaves the older rows; the last one counts.
    changed = before.splitlines(keepends=True)[1].replace(rows[0]["settings"], "0" * 16)
    Path("out/outputs.csv").write_text(before.splitlines(keepends=True)[0] + changed + "".join(_rows(rows)))
    assert usep("in/0.wav", "-o", "out", "--clip", "allow").code == 0
    assert table("out/outputs.csv") == rows


def _rows(rows: list[dict[str, str]]) -> list[str]:
    file = streams.StringIO()
    csv.DictWriter(file, list(rows[0]), lineterminator="\n").writerows(rows)
    return [file.getvalue()]


def test_near_silent_sources_are_named_and_with_auto_left_out(usep: Usep, monkeypatch: pytest.MonkeyPatch):
    def lopsided(self: SeparationModel, mix: torch.Tensor) -> Parts:
        return Parts(torch.stack([mix, 1e-4 * mix], 1))

    monkeypatch.setattr(registry.load("model", "conformer_mask"), "estimate_parts", lopsided)
    io.write("a.wav", noise(1), 8000)
    answer = usep("a.wav", "-o", "all")
    assert "a.wav: source 2 is near-silent; --sources auto leaves such sources out" in answer.err
    assert left_over(Path("all")) == ["all/a_1.wav", "all/a_2.wav"] and "source 1" not in answer.err
    assert [row["active"] for row in table("all/outputs.csv")] == ["true", "false"]
    monkeypatch.setattr(
        registry.load("model", "conformer_mask"), "estimate_parts",
        lambda self, mix: Parts(torch.stack([0.8 * mix, 0.2 * mix], 1)),
    )  # fmt: skip
    assert "a.wav: source 2 has little of its own; --sources auto leaves" in usep("a.wav", "-o", "trace").err
    monkeypatch.setattr(registry.load("model", "conformer_mask"), "estimate_parts", lopsided)
    io.write("still.wav", np.zeros(8000), 8000)
    assert "still.wav: all its sources are silent\n" in (said := usep("still.wav", "-o", "all").err)
    assert "near-silent" not in said
    answer = usep("a.wav", "-o", "auto", "--sources", "auto", "-q")
    assert "a.wav: source 2 is near-silent and was not written; --sources all writes it" in answer.err
    assert left_over(Path("auto")) == ["auto/a_1.wav"] and usep("a.wav", "-o", "auto", "--sources", "auto").code == 0
    loud = usep("a.wav", "-o", "said", "--sources", "auto", "--json")
    assert "a.wav: no sum check: source 2 was not written" in loud.err and not json.loads(loud.out)["exact"]


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
    assert {row["file"] for row in table("out/outputs.csv")} == {"a.wav"}


def test_two_hundred_files_three_of_them_bad(usep: Usep):
    for k in range(200):
        io.write(f"in/{k % 7}/{k}.wav", noise(0.02), 8000)
    for name in ("in/0/bad.wav", "in/3/worse.wav"):
        Path(name).write_text("no sound")
    wave = noise(0.02)
    wave[0, 7] = np.inf
    sf.write("in/5/inf.wav", wave[0], 8000, "FLOAT")
    answer = usep("in", "-o", "out", "-q", "--json")
    assert answer.code == 4 and answer.err.count("usep: error") == 4 and "3 of 203 files failed" in answer.err
    assert len(table("out/outputs.csv")) == 400 and len(answer.out.splitlines()) == 200
    assert {row["file"]: row["code"] for row in table("out/errors.csv")} == {
        "in/0/bad.wav": "65", "in/3/worse.wav": "65", "in/5/inf.wav": "65"
    }  # fmt: skip
    Path("out/2/2_1.wav").unlink()
    os.unlink("in/3/worse.wav")
    io.write("in/3/worse.wav", noise(0.02), 8000)
    again = usep("in", "-o", "out", "--json")
    assert again.code == 4 and "199 of 203 files are done already" in again.err
    new = [json.loads(line) for line in again.out.splitlines()]
    assert [record["file"] for record in new if not record["resumed"]] == ["in/2/2.wav", "in/3/worse.wav"]
    assert {row["file"] for row in table("out/errors.csv")} == {"in/0/bad.wav", "in/5/inf.wav"}
    assert len({row["output"] for row in table("out/outputs.csv")}) == len(table("out/outputs.csv")) == 402


def test_fail_fast_stops_at_the_first_fault(usep: Usep):
    io.write("a.wav", noise(0.1), 8000), Path("b.wav").write_text("no"), io.write("c.wav", noise(0.1), 8000)
    answer = usep("a.wav", "b.wav", "c.wav", "-o", "out", "--fail-fast")
    assert answer.code == 65 and left_over(Path("out")) == ["out/a_1.wav", "out/a_2.wav"]
    assert [row["file"] for row in table("out/errors.csv")] == ["b.wav"]


def test_sources_that_are_chosen_and_the_rest_as_one_of_them(usep: Usep):
    io.write("x.wav", noise(1, 16_000), 16_000, "FLOAT")
    kept = usep("x.wav", "-o", "one", "--keep", "2", "--json")
    assert kept.code == 0 and left_over(Path("one")) == ["one/x_2.wav"]
    assert "x.wav: no sum check: some sources were not written" in kept.err and "sources add up" not in kept.err
    assert json.loads(kept.out)["exact"] is False and json.loads(kept.out)["null_db"] is None
    assert table("one/outputs.csv")[0]["null_db"] == "nan"
    assert (
        json.loads(usep("x.wav", "-o", "one", "--keep", "2", "--json").out)["exact"] is False
    )  # of a file that is done
    answer = usep("x.wav", "-o", "out", "--residual", "--json", "--name", "{i:02d}-{stem}")
    assert answer.code == 0, answer.err
    record = json.loads(answer.out)
    assert record["outputs"] == ["out/01-x.wav", "out/02-x.wav", "out/residual-x.wav"]
    total = sum(io.read(path)[0] for path in record["outputs"])
    np.testing.assert_allclose(total, io.read("x.wav")[0], atol=1e-6)
    assert usep("x.wav", "-o", "left", "--rest", "leave").code == 0
    lacking = io.read("x.wav")[0] - io.read("left/x_1.wav")[0] - io.read("left/x_2.wav")[0]
    np.testing.assert_allclose(lacking, io.read("out/residual-x.wav")[0], atol=1e-5)
    shared = usep("x.wav", "-o", "shared", "--json")
    assert json.loads(shared.out)["null_peak_db"] < -120
    assert "sources add up to the input" in shared.err


def test_channel_policies(usep: Usep):
    wave = np.concatenate([noise(0.5), 0.3 * noise(0.5)[:, ::-1]])
    io.write("x.wav", wave, 8000, "FLOAT")
    for policy, expected in {
        "linked": wave,
        "each": wave,
        "mix": wave.mean(0, keepdims=True),
        "first": wave[:1],
    }.items():
        assert usep("x.wav", "-o", policy, "--channels", policy).code == 0
        total = io.read(f"{policy}/x_1.wav")[0] + io.read(f"{policy}/x_2.wav")[0]
        np.testing.assert_allclose(total, expected, atol=1e-6)
    for policy, goal in {"each": "the input:", "mix": "the mean of the", "first": "the input's first channel"}.items():
        assert f"sources add up to {goal}" in usep("x.wav", "-o", policy, "--channels", policy, "--no-resume",
                                                   "--overwrite").err  # fmt: skip
    assert usep("x.wav", "-o", "no", "--channels", "both").code == 2 and not Path("no").exists()


def test_clipping_is_an_error_or_allowed_if_one_says_so(usep: Usep):
    square = np.sign(np.sin(np.arange(16_000) * 0.35)).astype(np.float32) * 0.99
    io.write("x.wav", square, 44_100, "PCM_16")
    free = usep("x.wav", "-o", "float", "--subtype", "float", "--json")
    loud = max(source["peak"] for source in json.loads(free.out)["sources"]) > 1
    strict = usep("x.wav", "-o", "strict", "--clip", "error")
    assert strict.code == (65 if loud else 0) and bool(left_over(Path("strict"))) != loud
    cut = usep("x.wav", "-o", "cut", "--clip", "allow", "--json")
    assert cut.code == 0 and json.loads(cut.out)["gain_db"] == 0
    for source, path in zip(json.loads(cut.out)["sources"], ("cut/x_1.wav", "cut/x_2.wav"), strict=True):
        assert source["peak"] == pytest.approx(float(np.abs(io.read(path)[0]).max()), abs=1e-6)  # of the file
    held, wide = io.read("cut/x_1.wav")[0], io.read("float/x_1.wav")[0]
    np.testing.assert_allclose(held, wide.clip(-1, 1), atol=2.0**-14)


def standard_input(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", streams.TextIOWrapper(streams.BytesIO(data)))


def test_sound_on_standard_input(usep: Usep, monkeypatch: pytest.MonkeyPatch):
    io.write("x.flac", noise(1), 8000)
    standard_input(monkeypatch, Path("x.flac").read_bytes())
    answer = usep("-", "-o", "out", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["file"] == "-" and left_over(Path("out")) == ["out/stdin_1.wav", "out/stdin_2.wav"]
    standard_input(monkeypatch, Path("x.flac").read_bytes())
    assert "1 of 1 files are done already" in usep("-", "-o", "out").err
    io.write("y.flac", noise(1.1), 8000)
    standard_input(monkeypatch, Path("y.flac").read_bytes())
    assert usep("-", "-o", "out").code == 73
    standard_input(monkeypatch, b"")
    assert usep("-", "-o", "new").code == 65


def test_lists_and_patterns_with_files_of_one_name(usep: Usep):
    for name in ("rec/a/x.wav", "rec/b/x.wav", "rec/y.wav"):
        io.write(name, noise(0.1), 8000)
    Path("list").write_text("rec/a/x.wav\nrec/b/x.wav\nrec/y.wav\n")
    assert usep("rec/**/*.wav", "-o", "found").code == 0
    assert left_over(Path("found")) == [f"found/{name}_{i}.wav" for name in ("a/x", "b/x", "y") for i in (1, 2)]
    assert "3 of 3 files are done already" in usep("rec/**/*.wav", "-o", "found").err
    answer = usep("--files-from", "list", "-o", "first")
    assert answer.code == 4 and "--name '{folder}_{stem}_{i}'" in answer.err
    assert left_over(Path("first")) == [f"first/{name}_{i}.wav" for name in "xy" for i in (1, 2)]
    assert {row["file"] for row in table("first/outputs.csv")} == {"rec/a/x.wav", "rec/y.wav"}
    assert [(row["file"], row["code"]) for row in table("first/errors.csv")] == [("rec/b/x.wav", "73")]
    assert usep("--files-from", "list", "-o", "listed", "--name", "{folder}_{stem}_{i}").code == 0
    assert left_over(Path("listed")) == [f"listed/{name}_{i}.wav" for name in ("a_x", "b_x", "rec_y") for i in (1, 2)]
    # What a list held before keeps its place when it grows.
    Path("list").write_text("rec/y.wav\n")
    assert usep("--files-from", "list", "-o", "grown").code == 0
    Path("list").write_text("rec/y.wav\nrec/a/x.wav\n")
    assert "1 of 2 files are done already" in usep("--files-from", "list", "-o", "grown").err


def test_standard_input_inside_a_list(usep: Usep, monkeypatch: pytest.MonkeyPatch):
    io.write("x.wav", noise(0.1), 8000)
    Path("list").write_text("x.wav\n-\n")
    answer = usep("--files-from", "list", "-o", "out", "--shard", "1/2")
    assert answer.code == 2 and "standard input has none" in answer.err
    standard_input(monkeypatch, Path("list").read_bytes())
    answer = usep("--files-from", "-", "-o", "out")
    assert answer.code == 2 and "can be read once" in answer.err
    standard_input(monkeypatch, Path("x.wav").read_bytes())
    assert usep("--files-from", "list", "-o", "out").code == 0
    assert {row["file"] for row in table("out/outputs.csv")} == {"x.wav", "-"}


def test_two_files_do_not_share_a_page(usep: Usep):
    for name in ("x.wav", "x.flac"):
        io.write(name, noise(0.1), 8000)
    names = ("--name", "{stem}_{ext}_{i}")
    answer = usep("x.wav", "x.flac", "-o", "out", *names, "--report")
    assert answer.code == 4 and "x_report.html: would be made for both x.wav and x.flac" in answer.err
    assert len(table("out/outputs.csv")) == 4 and [row["file"] for row in table("out/errors.csv")] == ["x.flac"]
    assert "x.wav" in Path("out/x_report.html").read_text("utf-8")
    assert usep("x.wav", "x.flac", "-o", "out", *names).code == 0


@pytest.mark.parametrize(("end", "option"), [(b"\n", []), (b"\r\n", []), (b"\0", ["-0"])])
def test_lists_of_files_with_names_in_any_bytes(
    usep: Usep, monkeypatch: pytest.MonkeyPatch, end: bytes, option: list[str]
):
    names = [b"\xff \xfe.wav", b"-o.wav", "\u00e9.wav".encode()]
    for name in names:
        io.write("x.tmp.wav", noise(0.1), 8000)
        os.rename(b"x.tmp.wav", name)
    Path("list").write_bytes(end.join([b"./" + name for name in names] + [b""]))
    assert usep("--files-from", "list", *option, "-o", "out").code == 0
    assert {os.fsencode(row["file"]) for row in table("out/outputs.csv")} == set(names)
    standard_input(monkeypatch, Path("list").read_bytes())
    assert "3 of 3 files are done already" in usep("--files-from", "-", *option, "-o", "out").err


@pytest.mark.parametrize(
    "wrong",
    [
        [], ["-", "-"], ["-", "--files-from", "-"], ["x.wav", "-0"], ["-", "--shard", "1/2"],
        ["x.wav", "--shard", "3/2"], ["x.wav", "--keep", "3"], ["x.wav", "--keep", "a"],
        ["x.wav", "--sources", "some"], ["x.wav", "--clip", "yes"], ["x.wav", "--rest", "none"],
        ["--files-from", "empty"], ["x.wav", "--chunk-s", "inf"], ["x.wav", "--format", "mp3", "--subtype", "pcm_16"],
    ],
)  # fmt: skip
def test_what_does_not_go_together(usep: Usep, wrong: list[str], monkeypatch: pytest.MonkeyPatch):
    io.write("x.wav", noise(0.1), 8000), Path("empty").touch()
    standard_input(monkeypatch, Path("x.wav").read_bytes())
    answer = usep(*wrong, "-o", "out")
    assert answer.code == 2 and answer.err.count("\n") == 1 and not Path("out").exists(), answer


def test_a_missing_list_and_a_second_run_in_one_folder(usep: Usep):
    from usepcli.engine.folder import Lock

    assert usep("--files-from", "none", "-o", "out").code == 66
    io.write("x.wav", noise(0.1), 8000)
    with Lock(Path("out"), ".usep"):
        answer = usep("x.wav", "-o", "out")
    assert answer.code == 73 and f"in use by pid {os.getpid()} on" in answer.err and not left_over(Path("out"))


def test_shares_of_a_job_array(usep: Usep, monkeypatch: pytest.MonkeyPatch):
    for k in range(8):
        io.write(f"in/{k}.wav", noise(0.05), 8000)
    for task in ("1", "2"):
        for name, value in {"ID": task, "COUNT": "2", "MIN": "1"}.items():
            monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
        answer = usep("in", "-o", "out", "--shard", "slurm")
        assert answer.code == 0 and f"shard {task} of 2: " in answer.err
        assert f"outputs-{task}-of-2.csv; tables of {task} shards are there; when all have ended" in answer.err
        merging = "when all shards are done: usep separate in -o out --model toy.safetensors --merge (without"
        assert merging in answer.err.splitlines()[-1]
    assert Path("out/outputs-2-of-2.csv").exists() and len(left_over(Path("out"))) == 16
    assert "8 of 8 files are done already" in usep("in", "-o", "out").err
    assert len(table("out/outputs.csv")) == 16 and not Path("out/outputs-2-of-2.csv").exists()


def test_merged_tables_are_those_of_one_run_and_a_merge_separates_nothing(usep: Usep):
    for k in range(6):
        io.write(f"in/{k}.wav", noise(0.05), 8000)
    Path("in/4.wav").write_bytes(b"no sound")
    assert usep("in", "-o", "whole").code == 4
    assert usep("in", "-o", "out", "--merge").code == 65 and not Path("out").exists()
    for k in (3, 1):
        assert usep("in", "-o", "out", "--shard", f"{k}/3").code in (0, 4)
    gone = usep("in", "-o", "out", "--merge")
    assert gone.code == 65 and "files are missing: not done: shard 2 of 3" in gone.err
    usep("in", "-o", "out", "--shard", "2/3")
    merged = usep("in", "-o", "out", "--merge")
    assert merged.code == 4 and "in/4.wav" in merged.err
    for name in ("outputs.csv", "errors.csv"):
        assert Path("out", name).read_bytes() == Path("whole", name).read_bytes()
    assert not list(Path("out").glob("*-of-*"))


def test_pages_for_one_file_and_for_many(usep: Usep):
    for name in ("in/a.wav", "in/sub/b.wav"):
        io.write(name, noise(0.5), 8000)
    assert usep("in/a.wav", "-o", "one", "--report").code == 0
    assert "a.wav" in Path("one/report.html").read_text("utf-8")
    assert usep("in", "-o", "out", "--report").code == 0
    index = Path("out/report.html").read_text("utf-8")
    assert "sub/b_report.html" in index and Path("out/a_report.html").exists()
    Path("out/sub/b_report.html").unlink()
    answer = usep("in", "-o", "out", "--report")
    assert "2 of 2 files are done already" in answer.err and Path("out/sub/b_report.html").exists()
    Path("one/report.html").write_text("mine")
    assert usep("in/a.wav", "-o", "one", "--report", "--no-resume").code == 73


def test_a_page_that_comes_later_is_the_page_that_would_have_come_at_once(usep: Usep):
    io.write("a.wav", noise(7, channels=2), 8000)
    pages = []
    for folder, runs in (("now", [["--report"]]), ("later", [[], ["--report"]])):
        for more in runs:
            answer = usep("a.wav", "-o", f"{folder}/out", "--chunk-s", "2", *more)
            assert answer.code == 0
        pages.append(Path(f"{folder}/out/report.html").read_text("utf-8"))
    assert "1 of 1 files are done already" in answer.err
    specs = [json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1]) for page in pages]  # type: ignore[index]
    seams = [spec["players"]["main"].pop("seams") for spec in specs]
    assert specs[0] == specs[1] and len(seams[0]) == len(seams[1]) > 2
    for one, other in zip(*seams, strict=True):
        assert one["order"] == other["order"] and one["time"] == pytest.approx(other["time"], abs=1e-3)


@pytest.mark.parametrize(("form", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_pictures_beside_the_outputs_are_replaced_only_if_ours(usep: Usep, form: str, begins: bytes):
    pytest.importorskip("matplotlib")
    io.write("in/sub/a.wav", noise(0.5), 8000)
    picture = Path(f"out/sub/a_figure.{form}")
    assert usep("in", "-o", "out", "--figure", form).code == 0
    assert picture.read_bytes().startswith(begins) and not list(Path("out").rglob("*.html"))
    picture.unlink()
    assert usep("in", "-o", "out", "--figure", form).code == 0 and picture.exists()  # it was lacking
    before = picture.stat().st_ino
    Path("out/sub/a_2.wav").unlink()
    assert (
        usep("in", "-o", "out", "--figure", form).code == 0 and picture.stat().st_ino != before
    )  # its own is replaced
    picture.write_bytes(begins + b"mine")
    Path("out/sub/a_2.wav").unlink()
    answer = usep("in", "-o", "out", "--figure", form)
    assert answer.code == 73 and "no picture of usep" in answer.err and picture.read_bytes() == begins + b"mine"


def test_pictures_that_cannot_be_drawn_are_refused_before_any_work(usep: Usep, monkeypatch: pytest.MonkeyPatch):
    io.write("a.wav", noise(0.5), 8000)
    answer = usep("a.wav", "-o", "out", "--figure", "svgg")
    assert answer.code == 2 and "did you mean 'svg'" in answer.err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    answer = usep("a.wav", "-o", "out", "--figure", "svg")
    assert answer.code == 69 and "usepcli[plot]" in answer.err and not Path("out").exists()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_ends_the_run_without_debris_and_the_next_run_goes_on(
    usep: Usep, until: Callable[..., Any], patience_s: int, number: int, code: int
):
    io.write("a.wav", noise(0.1), 8000)
    io.write("b.wav", noise(600), 8000)
    line = [sys.executable, "-m", "usepcli", "separate", "a.wav", "b.wav", "-o", "out", "--model", "toy.safetensors"]
    run = subprocess.Popen([*line, "--chunk-s", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    until(lambda: list(Path(".").glob("out/.b_1.wav.*")) or run.poll() is not None, "the second file began")
    run.send_signal(number)
    _, said = run.communicate(timeout=patience_s)
    assert run.returncode == code, said
    assert sorted(os.listdir("out")) == ["a_1.wav", "a_2.wav", "outputs.csv"] and b"Traceback" not in said
    name = b"Ctrl-C" if number == signal.SIGINT else b"SIGTERM"
    assert b"usep: stopped by " + name + b": 1 of 2 files are done and kept in out, nothing is half written" in said
    assert "1 of 1 files are done already" in usep("a.wav", "-o", "out", "--chunk-s", "2").err


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="needs root to mount a small disk")
def test_a_disk_that_fills_up(usep: Usep):
    for name, seconds in {"a.wav": 2, "b.wav": 30, "c.wav": 2}.items():
        io.write(name, noise(seconds), 8000)
    Path("disk").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", "disk"], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        answer = usep("a.wav", "b.wav", "c.wav", "-o", "disk/out", "--json")
        assert answer.code == 74 and "disk/out/b_" in answer.err
        assert sorted(os.listdir("disk/out")) == ["a_1.wav", "a_2.wav", "outputs.csv"]
        assert {row["file"] for row in table("disk/out/outputs.csv")} == {"a.wav"}
        os.unlink("b.wav")
        io.write("b.wav", noise(1), 8000)
        again = usep("a.wav", "b.wav", "c.wav", "-o", "disk/out")
        assert again.code == 0 and "1 of 3 files are done already" in again.err
    finally:
        subprocess.run(["umount", "disk"], check=True)


def test_a_page_that_fails_is_a_fault_of_its_file_alone(usep: Usep, monkeypatch: pytest.MonkeyPatch):
    from usepcli.engine.separation import report_files
    from usepcli.errors import OutputError

    make = report_files.write_report

    def no_page_for_a(record, *rest, **more):
        if record.file == "a.wav":
            raise OutputError("a.wav: no page today")
        return make(record, *rest, **more)

    for name in "ab":
        io.write(f"{name}.wav", noise(1), 8000)
    with monkeypatch.context() as patch:
        patch.setattr(report_files, "write_report", no_page_for_a)
        answer = usep("a.wav", "b.wav", "-o", "out", "--report")
    assert answer.code == 4 and "no page today" in answer.err
    assert Path("out/a_1.wav").exists() and Path("out/b_report.html").exists()
    assert usep("a.wav", "b.wav", "-o", "out", "--report").code == 0 and Path("out/a_report.html").exists()


def test_residual_and_leave_exclude_each_other(usep: Usep):
    io.write("x.wav", noise(0.5), 8000)
    answer = usep("x.wav", "-o", "out", "--residual", "--rest", "leave")
    assert answer.code == 2 and "give one of them" in answer.err and not Path("out").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux' unit of ru_maxrss")
def test_memory_does_not_grow_with_the_length(usep: Usep, tmp_path: Path):
    # 15 minutes at 16 kHz and their two sources are 173 MB as float32; a tenth of the peak is less than half of that.
    code = (
        "import resource, sys; sys.argv = ['usep', 'separate', sys.argv[1], '-o', 'out', '-q', '--overwrite',"
        "'--threads', '1', '--model', 'toy.safetensors']\n"
        "from usepcli.cli.app import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for minutes in (1, 15):
        with io.Writer(tmp_path / f"{minutes}.wav", 16_000, 1) as file:
            for _ in range(minutes):
                file.write(noise(60, 16_000))
        told = [sys.executable, "-c", code, f"{minutes}.wav"]
        done = subprocess.run(told, cwd=tmp_path, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] < 1.1 * peaks[0], peaks
