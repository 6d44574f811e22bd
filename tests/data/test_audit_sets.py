from __future__ import annotations

from pathlib import Path

import pytest

from usepcli.data.audit import Item, Result
from usepcli.data.audit_sets import audit_set


def result(
    name: str, split: str = "train", digest: str = "", path: str = "", rate: int = 8000, **item: object
) -> Result:
    path = path or f"{name}.wav"
    made = Result(Item(name, split, path, item.pop("wanted", 8000), 0, Path(), **item))
    made.digests[path] = digest or path
    made.rates[path] = rate
    return made


def found(results: list[Result], talkers: list[tuple[str, str]] = []) -> list[tuple[str, str, str]]:  # noqa: B006
    return [(f.level, f.kind, f.path or f.id) for f in audit_set(results, talkers)]


def test_nothing_to_find():
    assert (
        found([result("a"), result("b", "test")], [("x", "train"), ("y", "test"), ("x", "train"), ("", "test")]) == []
    )


def test_duplicates_within_and_across_splits():
    assert found([result("a", digest="1"), result("b", digest="1")]) == [("warning", "duplicate", "b.wav")]
    assert found([result("a", digest="1"), result("b", "test", digest="1")]) == [("error", "leak", "b.wav")]


def test_sources_may_serve_twice_in_a_split_but_not_in_two():
    def with_source(name: str, split: str) -> Result:
        made = result(name, split, sources=("s.wav",))
        made.digests["s.wav"] = "s"
        return made

    assert found([with_source("a", "train"), with_source("b", "train")]) == []
    assert found([with_source("a", "train"), with_source("b", "test")]) == [("error", "leak", "s.wav")]


def test_ids_and_talkers():
    assert found([result("a"), result("a", path="other.wav")]) == [("error", "duplicate-id", "a.wav")]
    assert found([], [("x", "train"), ("x", "test")]) == [("error", "talker", "x")]


@pytest.mark.parametrize("name", ["=1+1", "+a", "-5dB", "@x", "\tx", "a\u202eb", "a\x1b[31m", "\udcff"])
def test_names_that_are_none_in_a_spreadsheet_or_on_a_screen(name: str):
    assert found([result("a", path=f"{name}/a.wav")]) == [("warning", "name", f"{name}/a.wav")]
    assert found([result(name, path="a.wav")]) == [("warning", "name", "a.wav")]
    assert found([result("a", sources=("s.wav", f"{name}.wav"))]) == [("warning", "name", "a.wav")]
    assert found([], [(name, "train")] * 2) == [("warning", "name", name)]
    assert found([result(f"a{'' if name[0] in '=+-@' else '='}-=+@")], [("b=c", "train")]) == []


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a/011c0201.wv1.wav", "a/011c0202.wv1.wav"], []),
        (["a/011c0201.wv1.wav", "b/011c0201.wv2.wav"], [("error", "b/011c0201.wv2.wav")]),
        (["a/011c0201.wv1.wav", "a/011c0202_wv2.flac"], [("error", "a/011c0202_wv2.flac")]),
        (["a/011c0201.wv2.wav"], [("warning", "a/011c0201.wv2.wav")]),
        (["a/011c0201.wv2"], [("warning", "a/011c0201.wv2")]),
        (["a/nwv2x.wav", "b/wv2/x.wav"], []),
    ],
)  # fmt: skip
def test_microphones(paths: list[str], expected: list[tuple[str, str]]):
    results = [result(str(i), path=path) for i, path in enumerate(paths)]
    assert found(results) == [(level, "wv1-wv2", path) for level, path in expected]


def test_odd_rates_where_none_was_promised():
    results = [result(str(i), wanted=0, rate=16000 if i == 2 else 8000) for i in range(4)]
    assert found(results) == [("warning", "rate", "2.wav")]
