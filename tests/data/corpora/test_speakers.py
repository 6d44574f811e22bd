from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from usepcli.audio import io
from usepcli.data.corpora.speakers import Speakers
from usepcli.data.manifest import PoolRow
from usepcli.errors import BadInput, ConfigError, InputNotFound


def touch(root: Path, *names: str, frames: int = 8000) -> None:
    for name in names:
        io.write(root / name, np.full(frames, 0.1), 8000)


def talkers(rows: list[PoolRow]) -> dict[str, set[str]]:
    splits: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        splits[row.split].add(row.speaker)
    return splits


def test_talkers_are_folders_and_split_by_seed(tmp_path: Path):
    touch(tmp_path, *(f"p{t}/session{u}/u{u}.wav" for t in range(10) for u in range(3)))
    rows = Speakers().scan(tmp_path)
    splits = talkers(rows)
    assert [len(splits[split]) for split in ("train", "valid", "test")] == [8, 1, 1]
    assert set.union(*splits.values()) == {f"p{t}" for t in range(10)} and len(rows) == 30
    assert Speakers().scan(tmp_path) == rows != Speakers(seed=1).scan(tmp_path)
    assert {row.speaker for row in Speakers(speaker_depth=-1).scan(tmp_path)} == {"session0", "session1", "session2"}


def test_split_folders_above_talkers(tmp_path: Path):
    touch(tmp_path, "train/a/1.wav", "train/b/1.wav", "dev/c/1.wav", "test/d/1.wav")
    assert talkers(Speakers().scan(tmp_path)) == {"train": {"a", "b"}, "valid": {"c"}, "test": {"d"}}


def test_a_list_names_talkers_and_splits(tmp_path: Path):
    touch(tmp_path, "x/1.wav", "x/2.wav", "x/3.wav")
    (tmp_path / "manifest.csv").write_text(
        "path,label,reader,split,licence,source_repo\nx/1.wav,A,r1,tr,CC0,o\nx/2.wav,,r2,tr,,o\nx/3.wav,B,r3,cv,,o\n"
    )
    rows = {row.path: row for row in Speakers().scan(tmp_path)}
    assert [(row.speaker, row.split, row.licence, row.origin) for row in rows.values()] == [
        ("A", "train", "CC0", "o"), ("", "train", "", "o"), ("B", "valid", "", "o")
    ]  # fmt: skip
    assert rows["x/1.wav"].id == "train/x/1"
    assert {row.speaker for row in Speakers(speaker_column="reader").scan(tmp_path)} == {"r1", "r2", "r3"}
    assert Speakers(speaker_column="reader").scan(tmp_path / "manifest.csv")[0].speaker == "r1"
    with pytest.raises(BadInput, match=r"no column 'redaer'.*did you mean 'reader'"):
        Speakers(speaker_column="redaer").scan(tmp_path)


def test_a_talker_in_two_splits_is_refused_and_how_to_go_on_is_said(tmp_path: Path):
    touch(tmp_path, "1.wav", "2.wav")
    (tmp_path / "manifest.csv").write_text("path,speaker,split\n1.wav,A,train\n2.wav,A,test\n")
    with pytest.raises(BadInput, match=r"'A' in test and train.*--split-column none"):
        Speakers().scan(tmp_path)
    assert len(talkers(Speakers(split_column="none").scan(tmp_path))) == 1


def test_short_and_broken_recordings_are_left_out(tmp_path: Path):
    touch(tmp_path, "a/long.wav")
    touch(tmp_path, "a/short.wav", frames=3999)
    (tmp_path / "a" / "broken.wav").write_bytes(b"RIFF")
    corpus = Speakers(min_s=0.5)
    assert [row.path for row in corpus.scan(tmp_path)] == ["a/long.wav"]
    assert [bad.path for bad in corpus.bad] == ["a/broken.wav"]


def test_ids_stay_different(tmp_path: Path):
    touch(tmp_path, "a/x.wav", "a/x.flac", "a/X.ogg", "a/y.wav")
    rows = Speakers(split_ratios=(1, 0, 0)).scan(tmp_path)
    assert sorted(row.id for row in rows) == ["train/a/X.ogg", "train/a/x.flac", "train/a/x.wav", "train/a/y"]


def test_paths_cannot_leave_the_pool(tmp_path: Path):
    touch(tmp_path, "in/1.wav", "out.wav")
    (tmp_path / "in" / "manifest.csv").write_text("path,speaker,split\n../out.wav,A,train\n1.wav,B,train\n")
    assert {row.id for row in Speakers().scan(tmp_path / "in")} == {"train/_/out", "train/1"}
    (tmp_path / "in" / "manifest.csv").write_text("path,speaker,split\n1.wav,B,../../etc\n")
    with pytest.raises(BadInput, match=r"no name for a split"):
        Speakers().scan(tmp_path / "in")


def test_noise_keeps_its_splits_or_gets_some(tmp_path: Path):
    touch(tmp_path, *(f"{i}.wav" for i in range(10)))
    rows = Speakers(noise=str(tmp_path)).scan_noise(tmp_path)[1]
    assert sorted(row.split for row in rows) == ["test"] + 8 * ["train"] + ["valid"]
    assert {row.speaker for row in rows} == {""}
    (tmp_path / "manifest.csv").write_text("path,label,split\n0.wav,street,train\n1.wav,street,test\n")
    assert [(row.id, row.split) for row in Speakers(noise=str(tmp_path)).scan_noise(tmp_path)[1]] == [
        ("train/0", "train"),
        ("test/1", "test"),
    ]


def test_faults(tmp_path: Path):
    with pytest.raises(InputNotFound):
        Speakers().scan(tmp_path / "absent")
    with pytest.raises(BadInput, match=r"no recordings"):
        Speakers().scan(tmp_path)
    with pytest.raises(ConfigError, match=r"0 or more"):
        Speakers(train=-1)
    with pytest.raises(ConfigError, match=r"--overlap"):
        Speakers(overlap=(1.0, 0.0))
