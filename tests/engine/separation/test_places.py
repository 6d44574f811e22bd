from __future__ import annotations

import os
from pathlib import Path

import pytest

from usepcli.engine.separation import inputs
from usepcli.engine.separation.places import Places
from usepcli.engine.separation.source import Source


def tree(tmp_path: Path) -> list[str]:
    for name in ("a/b", "a/c", "z"):
        (tmp_path / name).mkdir(parents=True)
    for k in range(40):
        (tmp_path / f"a/{k}.wav").touch()
        (tmp_path / f"z/{k}.wav").symlink_to(f"../a/{k}.wav")
    (tmp_path / "a/far").symlink_to(tmp_path / "z")
    (tmp_path / "a/loop").symlink_to("loop")
    (tmp_path / "near").symlink_to("a")
    names = [f"{k}.wav" for k in range(40)] + [
        "b",
        "c",
        "far",
        "loop",
        "none",
        "far/3.wav",
        "b/..",
        "b/../7.wav",
        ".",
        "",
    ]
    return [f"{tmp_path}/{folder}/{name}" for name in names for folder in ("a", "z", "near", "a//", "./a")]


def test_listings_tell_what_the_disk_tells_of_each_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, places = tree(tmp_path), Places()
    monkeypatch.chdir(tmp_path / "a")
    paths += [f"{k}.wav" for k in range(40)] + ["far", "b", "", ".", "/", "/tmp", "//tmp"]
    for _ in range(2):
        assert [places.real(path) for path in paths] == [os.path.realpath(path) for path in paths]
        assert [places.is_folder(path) for path in paths] == [os.path.isdir(path) for path in paths]


def test_few_questions_for_many_files_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path)
    asked, places = list[str](), Places()
    real = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path: asked.append(os.fspath(path)) or real(path))
    for _ in range(50):
        for k in range(40):
            places.real(f"{tmp_path}/a/{k}.wav")
    assert len(asked) <= 33


@pytest.mark.parametrize("name", ["x.wav", "a.b.wav", ".wav", "x.", "x", "..wav", "a/b.c/x", "/x.y", "-", "x .FLAC"])
def test_sources_know_what_paths_know(name: str) -> None:
    assert Source(name, "y").suffix == Path(name).suffix and Source(Path(name), Path("y")) == Source(name, "y")


@pytest.mark.parametrize("folder", [".", "./in", "in", "in/", "deep/../in"])
def test_folders_come_in_the_order_and_under_the_names_of_paths(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    for name in ("a/x.wav", "a.wav", "a-b/x.wav", "a b.wav", "B/c/d.e.wav", "a/.hidden.wav", "a/x.txt"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    found = inputs.find_sources([folder], tmp_path / "out")
    expected = sorted(path for path in Path(folder).rglob("*.wav") if path.name[0] != ".")
    assert [source.path for source in found] == expected and [source.text for source in found] == list(
        map(str, expected)
    )
    assert [source.relative for source in found] == [path.relative_to(folder).with_suffix("") for path in expected]
