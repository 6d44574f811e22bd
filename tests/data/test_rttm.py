"""RTTM files: turns, frames that follow the crop, stretches, and files that are none."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import soundfile as sf
from typer.testing import CliRunner

from usepcli.cli.app import app
from usepcli.data import rttm
from usepcli.data.batch import collate
from usepcli.data.examples import FixedMixtures
from usepcli.data.manifest import Manifest, Row
from usepcli.errors import BadInput, ConfigError, InputNotFound, PartialFailure

RATE = 8000
LINE = "SPEAKER {} 1 {} {} <NA> <NA> {} <NA> <NA>\n"


def written(path, *turns):
    path.write_text(";; a comment\n" + "".join(LINE.format(*turn) for turn in turns))
    return path


def test_a_frame_is_active_where_a_turn_covers_its_middle(tmp_path):
    turns = rttm.read(written(tmp_path / "a.rttm", ("x", 0.03, 0.04, "ann"), ("x", 0.0, 0.01, "bob"), ("x", 9, 1, "c")))
    found = rttm.frames(turns, 0.0, 5)
    assert found.talkers == ("ann",)  # bob's turn ends at the middle of the first frame
    assert found.frames.tolist() == [[0, 1, 1, 0, 0]]
    assert rttm.frames(turns, 0.02, 3).frames.tolist() == [[1, 1, 0]]
    assert rttm.frames(turns, 0.0, 5, end=0.04).frames.tolist() == [[0, 1, 0, 0, 0]]
    assert rttm.frames(turns, 20.0, 3).frames.shape == (0, 3)


def test_of_several_recordings_those_of_the_name_are_read(tmp_path):
    path = written(tmp_path / "all.rttm", ("x", 0, 1, "ann"), ("y", 1, 1, "bob"))
    assert [turn.talker for turn in rttm.of_recording(path, "y")] == ["bob"]
    with pytest.raises(BadInput, match="none of 'z'"):
        rttm.of_recording(path, "z")


@pytest.mark.parametrize("times", ["0 -1 <NA> <NA> ann", "zero 1 <NA> <NA> ann", "0 1", "nan 1 <NA> <NA> ann"])
def test_a_line_that_is_no_turn_is_named(tmp_path, times):
    path = tmp_path / "a.rttm"
    path.write_text(f"SPKR-INFO x 1\nSPEAKER x 1 {times}\n")
    with pytest.raises(BadInput, match=r"a\.rttm:2: .*expected SPEAKER"):
        rttm.read(path)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputNotFound, match="column 'activity'"):
        rttm.read(tmp_path / "a.rttm")


def meeting(folder, seconds=4.0):
    """A recording that sounds exactly where its only talker speaks."""
    folder.mkdir(parents=True, exist_ok=True)
    wave = np.zeros(round(seconds * RATE), np.float32)
    for begin, end in ((0.4, 1.3), (2.2, 3.6)):
        wave[round(begin * RATE) : round(end * RATE)] = 0.1
    sf.write(folder / "m.wav", wave, RATE, subtype="FLOAT")
    written(folder / "m.rttm", ("m", 0.4, 0.9, "ann"), ("m", 2.2, 1.4, "ann"))


@pytest.mark.parametrize("start", [None, RATE // 2])
def test_activity_follows_the_crop(tmp_path, start):
    meeting(tmp_path)
    frames = 4 * RATE if start is None else 3 * RATE
    row = Row("m", "train", "m.wav", (), "", RATE, frames, start=start, activity="m.rttm")
    data = FixedMixtures(Manifest([row], tmp_path, tmp_path / "manifest.csv"), RATE, 1.0, 0, False,
                         needs={"mix", "activity"}, n_items=20)  # fmt: skip
    batch = collate([data[0, k] for k in range(20)])
    assert batch.activity is not None
    heard = batch.mix.unflatten(-1, (-1, RATE // rttm.FRAME_RATE))[:, :, RATE // rttm.FRAME_RATE // 2] > 0
    assert (batch.activity.sum(1) > 0).eq(heard).float().mean() == 1
    assert 0 < heard.float().mean() < 1
    assert batch.some([3]).activity.shape == (1, *batch.activity.shape[1:])


def test_prepare_data_finds_turns_and_check_tells_of_wrong_ones(tmp_path):
    meeting(tmp_path / "in")
    run = CliRunner().invoke(app, ["prepare-data", str(tmp_path / "in"), "-o", str(tmp_path / "out")])
    assert run.exit_code == 0, run.output
    manifest = Manifest.read(tmp_path / "out")
    assert {row.activity for row in manifest.rows} == {"m.rttm"}
    (tmp_path / "in" / "m.rttm").write_text("SPEAKER m 1 0\n")
    run = CliRunner().invoke(app, ["prepare-data", str(tmp_path / "out"), "--check"])
    assert "turns" in run.output


def test_packed_recordings_keep_their_turns(tmp_path):
    pytest.importorskip("webdataset")
    meeting(tmp_path / "in")
    written(tmp_path / "in" / "m.rttm", ("m", 0.4, 0.9, "ann"), ("other", 0.0, 4.0, "bob"), ("m", 2.2, 1.4, "ann"))
    run = CliRunner().invoke(
        app, ["prepare-data", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--shards", "1MB"]
    )
    assert run.exit_code == 0, run.output
    shutil.rmtree(tmp_path / "in")
    manifest = Manifest.read(tmp_path / "out").split("train")
    data = FixedMixtures(manifest, RATE, 0.0, 0, False, needs={"activity"})
    example = data[0, 0]
    assert example.talkers == ("ann",)
    assert example.activity is not None
    heard = example.mix[RATE // rttm.FRAME_RATE // 2 :: RATE // rttm.FRAME_RATE] > 0
    assert (example.activity[0, : len(heard)] > 0).tolist() == heard.tolist()


def test_a_recording_whose_turns_cannot_be_read_is_left_out_of_the_tars_and_told(tmp_path):
    pytest.importorskip("webdataset")
    for name in ("a", "b"):
        meeting(tmp_path / "in" / name)
    (tmp_path / "in" / "a" / "m.rttm").write_text("SPEAKER m 1 0\n")
    run = CliRunner().invoke(
        app, ["prepare-data", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--shards", "1MB"]
    )
    assert isinstance(run.exception, PartialFailure)
    assert "1 recordings" in str(run.exception)
    assert {row.id.split("/")[0] for row in Manifest.read(tmp_path / "out").rows} == {"b"}


def test_recordings_without_turns_are_refused_before_training(tmp_path):
    meeting(tmp_path)
    row = Row("m", "train", "m.wav", (), "", RATE, 4 * RATE)
    with pytest.raises(ConfigError, match="item m has none"):
        FixedMixtures(Manifest([row], tmp_path, tmp_path / "manifest.csv"), RATE, 1.0, 0, False, needs={"activity"})
