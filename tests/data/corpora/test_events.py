from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from usepcli.audio import io
from usepcli.data.corpora.events import Events
from usepcli.errors import BadInput, ConfigError


def touch(root: Path, *names: str, seconds: float = 1.0) -> None:
    for name in names:
        io.write(root / name, np.full(round(1000 * seconds), 0.1), 1000)


def test_a_list_names_classes_roles_and_splits(tmp_path: Path):
    touch(tmp_path, "dog/1.wav", "rain/1.wav", "cat/1.wav", "rain/2.wav")
    (tmp_path / "manifest.csv").write_text(
        "path,label,role,split,licence\ndog/1.wav,dog,foreground,train,CC0\nrain/1.wav,rain,background,train,\n"
        "cat/1.wav,cat,foreground,test,CC0\nrain/2.wav,rain,background,test,\n"
    )
    corpus = Events()
    rows = corpus.scan(tmp_path)
    assert [(row.path, row.speaker, row.split, row.licence) for row in rows] == [
        ("dog/1.wav", "train/dog", "train", "CC0"), ("cat/1.wav", "test/cat", "test", "CC0")
    ]  # fmt: skip
    root, behind = corpus.scan_noise(tmp_path)
    assert root == tmp_path and [row.id for row in behind] == ["train/rain/1", "test/rain/2"]
    assert Events(background=0.0).scan_noise(tmp_path)[1] == []


def test_the_layout_of_fuss_source_files(tmp_path: Path):
    touch(tmp_path, "train/sound/a.wav", "validation/sound/b.wav", "eval/sound/c.wav")
    touch(tmp_path, "train/sound/long.wav", seconds=10.5)
    corpus = Events()
    rows = corpus.scan(tmp_path)
    assert {(row.path, row.speaker, row.split) for row in rows} == {
        ("train/sound/a.wav", "", "train"), ("validation/sound/b.wav", "", "valid"), ("eval/sound/c.wav", "", "test")
    }  # fmt: skip
    assert [row.path for row in corpus.scan_noise(tmp_path)[1]] == ["train/sound/long.wav"]
    shorter = Events(background_s=0.5)
    assert shorter.scan(tmp_path) == [] and len(shorter.scan_noise(tmp_path)[1]) == 4


def test_folders_are_classes_and_recordings_are_dealt_out(tmp_path: Path):
    touch(tmp_path, *(f"{kind}/{i}.wav" for kind in ("dog", "cat") for i in range(10)))
    rows = Events().scan(tmp_path)
    assert sorted({row.split for row in rows}) == ["test", "train", "valid"]
    assert all(row.speaker == f"{row.split}/{Path(row.path).parts[0]}" for row in rows)
    assert Events(seed=1).scan(tmp_path) != rows == Events().scan(tmp_path)


def test_faults(tmp_path: Path):
    touch(tmp_path, "x.wav", seconds=0.1)
    with pytest.raises(BadInput, match=r"0.2 s or more; see --min-s"):
        Events().scan(tmp_path)
    (tmp_path / "manifest.csv").write_text("path,role\nx.wav,middle\n")
    with pytest.raises(BadInput, match=r"role 'middle'.*foreground or background"):
        Events(min_s=0.0).scan(tmp_path)
    (tmp_path / "manifest.csv").write_text("path,split\nx.wav,fold1\n")
    with pytest.raises(BadInput, match=r"'fold1' is no split"):
        Events(min_s=0.0).scan(tmp_path)
    with pytest.raises(ConfigError, match=r"--background-s"):
        Events(background_s=0.0)
