from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from usepcli.audio import io
from usepcli.cli.prepare_data import prepare_data
from usepcli.data.manifest import Manifest, Pool

app = typer.Typer()
app.command("prepare-data")(prepare_data)
app.callback()(lambda: None)

SMALL = ["--corpus", "speakers", "--train", "4", "--valid", "2", "--test", "2", "--seconds", "0.3", "--min-s", "0.1"]


def usep(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["prepare-data", *map(str, arguments)])


def code(result: Result) -> int:
    """The exit code that the program would give: that of the error, if one came up."""
    return getattr(result.exception, "code", result.exit_code) if result.exception else result.exit_code


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for talker in range(20):
        for utterance in range(2):
            io.write(tmp_path / "speech" / f"t{talker}" / f"{utterance}.wav", draw.normal(size=4000) * 0.1, 8000)
    return tmp_path / "speech"


def test_one_line_for_a_folder_of_recordings(speech: Path, tmp_path: Path):
    result = usep(speech, "-o", tmp_path / "mine")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].split() == ["split", "mixtures", "hours", "utterances", "talkers"]
    assert "train  32" in result.stdout and "is ready" in result.stderr and "is ready" not in result.stdout
    assert len(Manifest.read(tmp_path / "mine")) == 40


def test_speakers_then_check(speech: Path, tmp_path: Path):
    out = tmp_path / "two"
    options = ["--overlap", "0.5", "1", "--level-db", "3", "--length", "min", "--seed", "7", "--workers", "1"]
    result = usep(speech, "-o", out, *SMALL, *options, "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["mixtures"] == {"train": 4, "valid": 2, "test": 2} and facts["splits"][0]["talkers"] == 16
    settings = json.loads((out / "prepare.json").read_text())["settings"]
    assert (settings["overlap"], settings["level_db"], settings["length"], settings["seed"]) == (
        [0.5, 1.0],
        3.0,
        "min",
        7,
    )
    checked = usep(out, "--check")
    assert checked.exit_code == 0 and "no faults" in checked.stdout and "8 of 8 exact" in checked.stderr
    os.truncate(out / Manifest.read(out).rows[0].mixture, 400)
    broken = usep(out, "--check")
    assert code(broken) == 65 and "truncated" in broken.stdout and "check.csv" in str(broken.exception)
    assert json.loads(usep(out, "--check", "--json").stdout)["errors"] >= 1


def test_a_prepared_set_is_no_folder_of_mixtures(speech: Path, tmp_path: Path):
    usep(speech, "-o", tmp_path / "two", *SMALL)
    for more in ((), ("--shards", "1MB")):
        result = usep(tmp_path / "two", "-o", tmp_path / "new", *more)
        assert code(result) == 2 and "a set that usep prepared (prepare.json)" in str(result.exception)
        assert "--corpus csv" in str(result.exception) and not (tmp_path / "new").exists()
    (tmp_path / "two" / "prepare.json").unlink()
    assert "a set that usep prepared (manifest.csv)" in str(usep(tmp_path / "two", "-o", tmp_path / "new").exception)
    assert code(usep(tmp_path / "two", "-o", tmp_path / "csv", "--corpus", "csv", "--shards", "1MB")) == 0
    rows = Manifest.read(tmp_path / "csv").rows
    assert len(rows) == 8 and {len(row.sources) for row in rows} == {2}
    assert code(usep(tmp_path / "two", "-o", tmp_path / "all", "--corpus", "folder")) == 0


def test_a_set_that_lies_in_its_own_folder_goes_on(speech: Path):
    for _ in range(2):
        assert code(usep(speech, "-o", speech)) == 0
    assert len(Manifest.read(speech).rows) == 40


def test_pool_alone(speech: Path, tmp_path: Path):
    result = usep(
        speech, "-o", tmp_path / "pool", *SMALL, "--train", "0", "--valid", "0", "--test", "0", "--limit", "5"
    )
    assert result.exit_code == 0 and len(Pool.read(tmp_path / "pool")) == 5


def test_dry_run_writes_nothing(speech: Path, tmp_path: Path):
    result = usep(speech, "-o", tmp_path / "out", *SMALL, "--dry-run")
    assert result.exit_code == 0 and "nothing was written" in result.stderr and not (tmp_path / "out").exists()


def test_bad_recordings_give_exit_4_after_the_rest_is_done(speech: Path, tmp_path: Path):
    (speech / "t0" / "0.wav").write_bytes(b"")
    result = usep(speech, "-o", tmp_path / "out", *SMALL)
    assert code(result) == 4 and "t0/0.wav" in str(result.exception) and len(Manifest.read(tmp_path / "out")) == 8
    assert (tmp_path / "out" / "bad_files.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "expected", "words"),
    [
        (["--corpus", "speaker"], 2, "did you mean 'speakers'"),
        (["--overlap", "1", "1"], 2, "--overlap has no meaning for --corpus folder; it belongs to: speakers"),
        (["--noise-snr", "1", "1", "--corpus", "fuss"], 2, "--noise-snr has no meaning"),
        (["--rt60", "0.2", "0.5"], 2, "--rt60 has no meaning for --corpus folder; it belongs to: fuss-mix, wsj-mix"),
        (["--corpus", "wsj-mix", "--rt60", "0.01", "0.5"], 2, "--rt60"),
        (["--corpus", "events", "--sources", "3", "2"], 2, "1 <= low <= high"),
        (["--corpus", "events"], 65, "no background recording"),
        (["--corpus", "sms-wsj"], 66, "0 JSON files"),
        (["--corpus", "sms-wsj", "--reference", "late"], 2, "reference"),
        (["--corpus", "yfcc"], 66, "no list *.csv"),
        (["--corpus", "speakers", "--overlap", "1", "0.5"], 2, "low <= high"),
        (["--corpus", "speakers", "--length", "mean"], 2, "length"),
        (["--corpus", "wsj0-mix"], 66, "2speakers/wav8k/min"),
        (["--corpus", "speakers", "--speaker-column", "who", "--csv", "none.csv"], 66, "none.csv"),
    ],
)
def test_faults(speech: Path, tmp_path: Path, arguments: list[str], expected: int, words: str):
    result = usep(speech, "-o", tmp_path / "out", *arguments)
    assert code(result) == expected, result.exception
    assert words in str(result.exception) and not (tmp_path / "out").exists()


def test_out_is_needed_and_the_source_too(speech: Path, tmp_path: Path):
    assert code(usep(speech)) == 2
    assert code(usep(tmp_path / "absent", "-o", tmp_path / "out")) == 66
    assert code(usep(tmp_path / "absent", "--check")) == 66


def test_scenes_of_events(speech: Path, tmp_path: Path):
    out = tmp_path / "scenes"
    few = ["--train", "6", "--valid", "2", "--test", "0", "--seconds", "0.3", "--min-s", "0.1", "--workers", "1"]
    result = usep(speech, "-o", out, "--corpus", "events", *few, "--background", "0", "--sources", "1", "2")
    assert result.exit_code == 0, result.exception
    assert {row.n_src for row in Manifest.read(out).rows} == {1, 2}
    assert usep(out, "--check").exit_code == 0


def test_rooms_without_the_simulator_give_exit_69(speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    result = usep(speech, "-o", tmp_path / "out", "--corpus", "wsj-mix")
    assert code(result) == 69 and "pip install 'usepcli[sim]'" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_clips_without_sound_give_exit_4(speech: Path, tmp_path: Path):
    (tmp_path / "test.csv").write_text("videos/0.mp4,0,0.2,0\nvideos/gone.mp4,0,0.2,0\n")
    result = usep(tmp_path / "test.csv", "-o", tmp_path / "out", "--corpus", "yfcc", "--root", speech / "t0")
    assert code(result) == 4 and "1 recordings" in str(result.exception) and "gone.mp4" in str(result.exception)
    assert [row.frames for row in Manifest.read(tmp_path / "out").rows] == [160000]


def test_real_recordings(shared_data: Path, tmp_path: Path):
    out = tmp_path / "two"
    more = ["--train", "6", "--valid", "2", "--test", "2", "--limit", "60", "--noise", shared_data / "noise"]
    result = usep(shared_data / "speech", "-o", out, "--corpus", "speakers", *more, "--workers", "1")
    assert result.exit_code == 0, result.exception
    manifest = Manifest.read(out)
    assert manifest.splits() == {"train": 6, "valid": 2, "test": 2}
    assert all("CC" in row.licence and row.sample_rate == 8000 and row.frames == 32000 for row in manifest.rows)
    assert usep(out, "--check").exit_code == 0


def test_outputs_of_separate_are_passed_over_and_no_fault(speech: Path, tmp_path: Path):
    """A nightly `separate d -o d/sub && prepare-data d` comes to its end; what cannot be read still gives 4."""
    (speech / "sub").mkdir()
    (speech / "sub" / "outputs.csv").write_text("file,output,source,settings,file_sha256\n0.wav,a_1.wav,1,0,0\n")
    io.write(speech / "sub" / "a_1.wav", np.full(4000, 0.1), 8000)
    result = usep(speech, "-o", tmp_path / "mine")
    assert code(result) == 0, result.output
    assert "1 outputs of usep separate were passed over, e.g. sub/a_1.wav" in result.stderr
    assert len(Manifest.read(tmp_path / "mine")) == 40
    assert (tmp_path / "mine" / "bad_files.csv").read_text().splitlines()[0] == "path,reason"
    (speech / "t0" / "0.wav").write_bytes(b"no sound")
    result = usep(speech, "-o", tmp_path / "again")
    assert code(result) == 4 and "1 recordings could not be used" in str(result.exception)
