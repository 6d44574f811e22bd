from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from usepcli.audio import io
from usepcli.engine.separation.jobs import Job
from usepcli.engine.separation.pace import Pace, weights


def jobs(folder: Path, **seconds: float) -> list[Job]:
    for name, length in seconds.items():
        io.write(folder / f"{name}.wav", np.zeros(round(8000 * length)), 8000)
    return [Job(folder / f"{name}.wav", ()) for name in seconds]


def test_files_weigh_what_they_last_and_unknown_ones_what_their_bytes_tell(tmp_path: Path):
    found = jobs(tmp_path, a=1, b=3)
    size = (tmp_path / "a.wav").stat().st_size + (tmp_path / "b.wav").stat().st_size
    (tmp_path / "c.mp3").write_bytes(bytes(size // 2))
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    found += [Job(tmp_path / name, ()) for name in ("c.mp3", "bad.wav", "none.wav")]
    assert weights(found) == pytest.approx([1, 3, 2, 0, 0])


def test_the_time_left_is_that_of_the_sound_left(tmp_path: Path):
    now = [100.0]
    pace = Pace(jobs(tmp_path, a=1, b=3, c=4), lambda: now[0])
    turns = iter(pace)
    next(turns)
    assert pace.title == "[1/3] " and pace.note() == ""  # nothing is known yet
    now[0] += 2
    pace.at(0.5)  # half a second of sound in two seconds
    assert pace.left_s == pytest.approx(7.5 * 4) and pace.note() == "all files: 30 s left"
    pace.at(1.0)
    pace.at(0.2)  # a second pass through the file
    next(turns)
    assert pace.title == "[2/3] " and pace.left_s == pytest.approx(7 * 2)
    next(turns)  # the second one failed: it cost nothing, and is left no more
    assert pace.left_s == pytest.approx(4 * 2)
    pace.at(0.5)
    assert pace.left_s == pytest.approx(2 * 2 / 3)
    assert list(turns) == []


def test_a_single_file_has_its_own_bar_only(tmp_path: Path):
    pace = Pace(jobs(tmp_path, a=1))
    next(iter(pace))
    pace.at(0.5)
    assert pace.title == pace.note() == ""
