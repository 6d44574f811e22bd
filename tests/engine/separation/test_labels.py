"""Who sounds when: turns from activity, in the forms that other programs read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from usepcli.audio import io
from usepcli.cli.app import app
from usepcli.engine.separation import labels
from usepcli.errors import OutputError, UsageError

RATE = 11025  # of which 100 ms are no whole number of samples


def test_turns_have_no_short_pauses_and_no_short_sounds():
    loud, quiet = 1e-2, 1e-6  # 40 dB apart
    row = np.full(60, quiet)
    row[5:20] = row[24:30] = loud  # a pause of 0.4 s between
    row[40:42] = loud  # 0.2 s
    row[50:53] = loud
    other = np.full(60, quiet)
    found = labels.active(np.stack([row, other]))
    assert np.flatnonzero(found[0]).tolist() == [*range(5, 30), *range(50, 53)] and not found[1].any()
    assert not labels.active(np.zeros((2, 7))).any() and labels.active(np.full((1, 4), 1e-3)).all()


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(4 * RATE) / RATE)
    wave[: RATE // 2] = wave[2 * RATE : 3 * RATE] = 0
    io.write(tmp_path / "a talk.wav", wave, RATE)
    return tmp_path / "a talk.wav"


def run(*line: str) -> str:
    done = CliRunner().invoke(app, ["separate", *line, "--threads", "1"])
    assert done.exit_code == 0, done.output
    return done.stderr


def test_the_three_forms_and_what_is_done_already(tmp_path: Path, talk: Path):
    out = tmp_path / "o"
    assert "a talk.rttm" in run(str(talk), "-o", str(out), "--labels", "rttm", "--sources", "auto")
    lines = (out / "a talk.rttm").read_text().splitlines()
    fields = [line.split() for line in lines]
    assert all(row[0] == "SPEAKER" and row[1] == "a_talk" and len(row) == 10 for row in fields) and fields
    loudest = max({row[7] for row in fields}, key=lambda name: sum(float(r[4]) for r in fields if r[7] == name))
    times = [(float(row[3]), float(row[3]) + float(row[4])) for row in fields if row[7] == loudest]
    assert times[0][0] == pytest.approx(0.5, abs=0.15) and times[-1][1] == pytest.approx(4.0, abs=0.01)
    assert not any(start < 2.8 and end > 2.2 for start, end in times)
    before = (out / "outputs.csv").read_bytes()
    said = run(str(talk), "-o", str(out), "--labels", "audacity", "--sources", "auto")  # takes no model
    assert "1 of 1 files are done" in said and (out / "outputs.csv").read_bytes() == before
    tabbed = [line.split("\t") for line in (out / "a talk_labels.txt").read_text().splitlines()]
    assert [(row[0], row[2]) for row in tabbed] == [(row[3], row[7]) for row in fields]
    run(str(talk), "-o", str(out), "--labels", "csv", "--sources", "auto", "--shard", "1/1")
    rows = (out / "a talk_labels.csv").read_text().splitlines()
    assert rows[0] == "file,source,start_s,end_s" and len(rows) == 1 + len(fields)


def test_what_stands_there_is_not_replaced(tmp_path: Path, talk: Path):
    out = tmp_path / "o"
    out.mkdir()
    (out / "a talk.rttm").write_text("mine\n")
    done = CliRunner().invoke(app, ["separate", str(talk), "-o", str(out), "--labels", "rttm"])
    assert isinstance(done.exception, OutputError) and "a talk.rttm: exists already" in str(done.exception)
    assert (out / "a talk.rttm").read_text() == "mine\n"
    wrong = CliRunner().invoke(app, ["separate", str(talk), "-o", str(out), "--labels", "srt"])
    assert isinstance(wrong.exception, UsageError) and "rttm" in str(wrong.exception)
