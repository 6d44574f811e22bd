from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from usepcli.audio import io
from usepcli.data.corpora.base import Bad, Finder, probe, ratio_splits, some, split_of, split_word, walk
from usepcli.errors import BadInput, InputNotFound


def test_split_words():
    words = {"tr": "train", "CV": "valid", "dev-clean": "valid", "Eval": "test", "tt": "test", "p225": ""}
    assert {name: split_word(name) for name in words} == words
    assert split_of("corpus/dev/p1/test.wav") == "valid" and split_of("test.wav") == ""


def test_ratio_splits_count_and_depend_on_names_alone():
    names = [f"t{i}" for i in range(50)]
    dealt = ratio_splits(names, (0.8, 0.1, 0.1), 0)
    assert Counter(dealt.values()) == {"train": 40, "valid": 5, "test": 5}
    assert ratio_splits(names[::-1] * 2, (8, 1, 1), 0) == dealt != ratio_splits(names, (0.8, 0.1, 0.1), 1)


@pytest.mark.parametrize(
    ("count", "ratios", "expected"),
    [
        (3, (0.8, 0.1, 0.1), {"train": 1, "valid": 1, "test": 1}),
        (2, (0.8, 0.1, 0.1), {"train": 1, "test": 1}),
        (1, (0.8, 0.1, 0.1), {"train": 1}),
        (5, (0, 0, 1), {"test": 5}),
        (7, (1, 1, 0), {"train": 4, "valid": 3}),
    ],
)
def test_small_numbers_still_fill_the_splits(count: int, ratios: tuple[float, ...], expected: dict[str, int]):
    assert Counter(ratio_splits([str(i) for i in range(count)], ratios, 5).values()) == expected


@pytest.mark.parametrize("ratios", [(1, 1), (0, 0, 0), (1, -1, 1), (1, float("inf"), 1), (1, float("nan"), 1)])
def test_impossible_ratios(ratios: tuple[float, ...]):
    with pytest.raises(BadInput, match="three numbers"):
        ratio_splits(["a"], ratios, 0)


def test_walk_is_sorted_and_survives_links(tmp_path: Path):
    for name in ("b/x.WAV", "a/y.flac", "a/notes.txt", ".hidden/z.wav", "a/._y.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert list(walk(tmp_path)) == ["a/y.flac", "b/x.WAV"]
    with pytest.raises(InputNotFound):
        list(walk(tmp_path / "absent"))


def test_probe_sorts_good_from_bad(tmp_path: Path):
    io.write(tmp_path / "a.wav", np.ones(10), 8000)
    (tmp_path / "b.wav").touch()
    bad: list[Bad] = []
    assert probe(tmp_path, ["a.wav", "b.wav", "c.wav", "a.wav"], bad)["a.wav"].frames == 10
    assert [(item.path, item.reason) for item in bad] == [
        ("b.wav", "the file is empty (0 bytes)"),
        ("c.wav", "no such file"),
    ]


def test_finder_follows_lists_from_other_machines(tmp_path: Path):
    for name in ("wav/a.wav", "wav/b.wav", "a.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    finder = Finder(tmp_path)
    assert finder.find("wav/a.wav") == "wav/a.wav"
    assert finder.find("/home/someone/corpus/wav/a.wav") == "wav/a.wav"  # the longest tail, not a.wav
    assert finder.find("D:\\corpus\\wav\\b.wav") == "wav/b.wav"
    assert finder.find("/elsewhere/none.wav") == "/elsewhere/none.wav"
    assert finder.find("") == ""


def test_some_is_spread_evenly():
    assert some([str(i) for i in range(10)], 4) == ["0", "3", "6", "9"]
    assert some(["a", "b"], 0) == some(["a", "b"], 5) == ["a", "b"]


def test_names_that_are_no_utf8_pass_through(tmp_path: Path):
    name = os.fsdecode(b"\xff.wav")
    io.write(os.path.join(tmp_path, name), np.ones(10), 8000)
    assert list(walk(tmp_path)) == [name]
    assert probe(tmp_path, [name], [])[name].frames == 10


def test_a_cut_mp3_is_bad_when_it_is_listed(tmp_path: Path) -> None:
    wave = np.random.default_rng(0).standard_normal(32000).astype(np.float32) * 0.1
    io.write(tmp_path / "whole.mp3", wave, 16000)
    text = (tmp_path / "whole.mp3").read_bytes()
    (tmp_path / "cut.mp3").write_bytes(text[: len(text) // 2])
    bad: list[Bad] = []
    assert list(probe(tmp_path, ["whole.mp3", "cut.mp3"], bad)) == ["whole.mp3"]
    assert [(one.path, one.reason) for one in bad] == [
        ("cut.mp3", "holds less than its header says; the file is cut short")
    ]
