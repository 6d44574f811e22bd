from __future__ import annotations

from pathlib import Path

import pytest

from usepcli.engine.scoring import layouts
from usepcli.errors import BadInput, InputNotFound


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


@pytest.mark.parametrize(
    ("names", "layout", "found"),
    [
        (["s1/a.wav", "s2/a.wav", "mix/a.wav", "noise/a.wav"], "per source", {"a": ["s1", "s2"]}),
        (["a/s1.wav", "a/s2.wav", "a/mix.wav", "a/noise.wav"], "per item", {"a": ["s1", "s2"]}),
        (["x/y/s1.wav", "x/y/s2.wav", "x/z/s1.wav"], "per item", {"x/y": ["s1", "s2"], "x/z": ["s1"]}),
        (["a_1.wav", "a_2.flac", "b_1.wav", "b_2.wav"], "flat", {"a": ["1", "2"], "b": ["1", "2"]}),
        (["a_s1.wav", "a_s2.wav"], "flat", {"a": ["s1", "s2"]}),
        (["a/mix_1.wav", "a/mix_2.wav"], "flat", {"a": ["1", "2"]}),
        (["a/mix/s1.wav", "a/mix/s2.wav"], "per item", {"a": ["s1", "s2"]}),
        (["1/s1.wav", "1/s2.wav", "2/s1.wav"], "per item", {"1": ["s1", "s2"], "2": ["s1"]}),
        (["s1/1.wav", "s2/1.wav", "s1/2.wav"], "per source", {"1": ["s1", "s2"], "2": ["s1"]}),
        (["s1/u_1.wav", "s2/u_1.wav"], "per source", {"u_1": ["s1", "s2"]}),
        (["s1/0_1.2_0_-1.2.wav", "s2/0_1.2_0_-1.2.wav"], "per source", {"0_1.2_0_-1.2": ["s1", "s2"]}),
    ],
)
def test_layouts(tmp_path: Path, names: list[str], layout: str, found: dict[str, list[str]]) -> None:
    kind, items = layouts.find_sources(tree(tmp_path, *names))
    assert kind == layout
    assert {item: list(sources) for item, sources in items.items()} == found


def test_sources_are_ordered_by_number(tmp_path: Path) -> None:
    _, items = layouts.find_sources(tree(tmp_path, *(f"a/s{k}.wav" for k in (10, 2, 1))))
    assert list(items["a"]) == ["s1", "s2", "s10"]


@pytest.mark.parametrize("names", [["1/1.wav", "1/2.wav"], ["a.wav"], ["s1/a.wav", "b_1.wav"], ["mix/a.wav"]])
def test_unclear_folders_are_refused_with_the_expected_names(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(BadInput, match=r"s1|item/source"):
        layouts.find_sources(tree(tmp_path, *names))


def test_one_source_in_two_formats_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="second file for source s1"):
        layouts.find_sources(tree(tmp_path, "a/s1.wav", "a/s1.flac"))


def test_empty_and_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(InputNotFound, match="no audio files"):
        layouts.find_sources(tmp_path)
    with pytest.raises(InputNotFound, match="no such folder"):
        layouts.find_mixtures(tmp_path / "none")


def test_mixtures_flat_or_beside_their_sources(tmp_path: Path) -> None:
    tree(tmp_path, "flat/a.wav", "flat/deep/b.wav", "beside/a/mix.wav", "beside/a/s1.wav", "beside/a/noise.wav")
    assert set(layouts.find_mixtures(tmp_path / "flat")) == {"a", "deep/b"}
    assert layouts.find_mixtures(tmp_path / "beside") == {"a": tmp_path / "beside/a/mix.wav"}
