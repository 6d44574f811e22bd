"""Tables kept as bytes say what the csv module says of them, and their rows are made only when asked for."""

from __future__ import annotations

import gc
import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest

from usepcli.data import lazy, manifest, rows, sheet, text
from usepcli.data.columns import Given, Lists, Names, Numbers, Phrases
from usepcli.data.manifest import Manifest, Pool, PoolRow, Row
from usepcli.data.voices import Voices
from usepcli.errors import BadInput

CELLS = [
    ["a", "b;c", "", "12", "\u00e9", "x;;y", "z; "],
    ["a", '"x,y"', '"q""q;r"', '""', '"l\nm"', '"l\r\nm"', "12", '""""'],
    ["a", '"', 'a"b', "\r", "", " ", '"a"b', '""""', '"",', "\u00a0", "\u3000;k"],
]


def _text(draw: random.Random) -> bytes:
    """Return a table as nobody should write it."""
    width, cells, end = draw.randint(1, 4), draw.choice(CELLS), draw.choice(["\n", "\r\n"])
    lines = [",".join("abcd"[:width])]
    for _ in range(draw.randint(0, 12)):
        count = width if draw.random() < 0.97 else draw.randint(0, 5)
        lines.append(",".join(draw.choice(cells) for _ in range(count)))
        lines += ["," * draw.randint(0, 4)] if draw.random() < 0.05 else []
    text = (end.join(lines) + end * (draw.random() < 0.7)).encode()
    text = b"\xef\xbb\xbf" + text if draw.random() < 0.2 else text
    at = draw.randint(0, len(text))
    return text[:at] + bytes([draw.choice([0xFF, 0x80, 0xE2, 0])]) + text[at:] if draw.random() < 0.2 else text


def _or_fault(read: object, *given: object) -> object:
    try:
        return read(*given)  # type: ignore[operator]
    except BadInput as fault:
        return str(fault)


def test_rows_lines_and_faults_are_those_of_the_csv_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, path, plain = random.Random(7), tmp_path / "t.csv", 0
    for _ in range(300):
        monkeypatch.setattr(sheet, "BLOCK", draw.choice([1, 7, 64, 4096]))
        path.write_bytes(_text(draw))
        wanted = _or_fault(rows.read, path)
        found = _or_fault(sheet.read, path, {"a": Names, "b": Given, "c": Lists, "d": Numbers})
        if isinstance(wanted, str) or isinstance(found, str):
            assert found == wanted, path.read_bytes()
            continue
        assert isinstance(wanted, rows.Table) and isinstance(found, sheet.Sheet)
        assert [found.cells(i) for i in range(len(found))] == [list(row.values()) for row in wanted.rows]
        assert found.lines.tolist() == wanted.lines and found.ended == wanted.ended
        plain += found.text.part(0, found.text.size) == path.read_bytes()
        for (name, kind), column in found.known.items():
            sure = np.setdiff1d(np.arange(len(found)), column.doubtful).tolist()
            _same(kind, column, [(i, wanted.rows[i][name]) for i in sure])
    assert plain > 60  # looked at without the csv module


def _same(kind: type, column: object, cells: list[tuple[int, str]]) -> None:
    values = column.values  # type: ignore[attr-defined]
    for i, cell in cells:
        if kind is Names:
            assert column.names[values[i]] == cell  # type: ignore[attr-defined]
        elif kind is Given:
            assert values[i] == bool(cell)
        elif kind is Numbers:
            assert values[i] == int(cell or 0)
        else:
            assert values[i] == len(manifest.read_list(cell, "sure"))


def test_phrases_with_weights_and_lists_of_spaces_are_left_to_the_parser(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("p,other\na;b,x|y\na|2;b,\n  ,\n,|\n", encoding="utf-8")
    column = sheet.read(path, {"p": Phrases}).known["p", Phrases]
    assert column.values.tolist() == [2, 2, 1, 0] and column.doubtful.tolist() == [1, 2]  # type: ignore[attr-defined]


def _large(path: Path, count: int, wrong: int = -1) -> None:
    """Write a manifest of `count` rows; row `wrong` has no whole number of frames."""
    frames = ("x" if i == wrong else 100 + i for i in range(count))
    lines = (
        f"m{i},{'train' if i % 10 else 'valid'},mix{i % 7}.wav,a{i}.wav;b{i}.wav,8000,{length},2"
        for i, length in enumerate(frames)
    )
    path.write_text("\n".join(["id,split,mixture,sources,sample_rate,frames,n_src", *lines, ""]), encoding="utf-8")


def test_of_many_rows_only_those_that_are_asked_for_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, count, path = list[int](), 50_000, tmp_path / "m.csv"
    parse = manifest._parse
    monkeypatch.setattr(manifest, "_parse", lambda *given: (made.append(given[-1]), parse(*given))[1])
    _large(path, count)
    table = Manifest.read(path)
    train = table.split("train")
    assert table.splits() == {"valid": count // 10, "train": count - count // 10}
    assert train.frames.sum() == sum(100 + i for i in range(count) if i % 10) and (train.rates == 8000).all()
    assert (lazy.counts(train.rows, "sources") == 2).all() and not lazy.given(train.rows, "text").any()
    assert len(made) == 1  # the last, which a record might name
    assert train.rows[40_000] == Row("m44445", "train", "mix2.wav", ("a44445.wav", "b44445.wav"), "", 8000, 44545, 2)
    assert [row.id for row in train.rows[9:12]] == ["m11", "m12", "m13"] and len(made) == 5
    _large(path, count, wrong=40_321)
    with pytest.raises(BadInput, match=r"m\.csv:40323: frames is 'x', a whole number was expected"):
        Manifest.read(path)
    assert len(made) <= 6


def test_a_table_in_use_is_read_once_and_again_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    _large(path, 20)
    first, second = Manifest.read(path), Manifest.read(path)
    assert first.rows.sheet is second.rows.sheet  # type: ignore[attr-defined]
    _large(path, 21)
    assert len(Manifest.read(path)) == 21 and len(first) == 20 and first.rows[19].id == "m19"
    del first, second
    gc.collect()
    assert not manifest._HELD


def test_what_is_asked_of_all_rows_is_the_same_of_rows_in_a_list(tmp_path: Path) -> None:
    some = [
        PoolRow("a", "x", 'an "na"', "a.wav", 8000, 5, query="a dog"),
        PoolRow("b", "y", "", "b\n.wav", 16000, 0),
        PoolRow("c", "x", 'an "na"', "c.wav", 0, 7),
    ]
    Pool(some, tmp_path, tmp_path / "pool.csv").write()
    read = Pool.read(tmp_path)
    for table in (read, Pool(some, tmp_path, tmp_path / "pool.csv")):
        assert table.frames.tolist() == [5, 0, 7] and table.rates.tolist() == [8000, 16000, 0]
        speakers, which = lazy.names(table.split("x").rows, "speaker")
        assert speakers == ['an "na"'] and which.tolist() == [0, 0]
        assert lazy.given(table.rows, "query").tolist() == [True, False, False]
        assert table.some(np.array([2, 0])).rows == [some[2], some[0]]
        assert not len(table.split("none")) and table.splits() == {"x": 2, "y": 1}


def test_numbers_written_in_other_ways_are_known_too(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text(
        'id,mixture,sample_rate,frames,sources\na,a.wav, 8000,1_000," "\nb,b.wav,+8000,,"x ; y"\n', encoding="utf-8"
    )
    table = Manifest.read(path)
    assert table.rates.tolist() == [8000, 8000] and table.frames.tolist() == [1000, 0]
    assert lazy.counts(table.rows, "sources").tolist() == [0, 2] and table.rows[1].sources == ("x", "y")
    path.write_text(f"id,mixture,sample_rate,frames\na,a.wav,8000,{10**30}\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"m\.csv:2: frames is '1000"):
        Manifest.read(path)


def test_a_large_table_stays_on_the_disk_and_is_told_when_it_is_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "m.csv", tmp_path / "other.csv"
    _large(path, 200)
    monkeypatch.setattr(text, "HELD", 1000)
    table = Manifest.read(path)
    assert table.rows[150].id == "m150" and Manifest.read(path).rows.sheet is table.rows.sheet  # type: ignore[attr-defined]
    os.utime(path, (1, 1))  # another time, the same text
    assert table.rows[151].id == "m151"
    moved = pickle.loads(pickle.dumps(table.rows.sheet.text))  # type: ignore[attr-defined]
    assert moved.part(3, 30) == path.read_bytes()[3:30]
    _large(other, 300)
    other.replace(path)
    assert [row.id for row in table.rows[198:]] == ["m198", "m199"] and len(Manifest.read(path)) == 300
    table = Manifest.read(path)
    _large(path, 301)
    with pytest.raises(BadInput, match="written over while it is in use; run the same command again"):
        table.rows[0]


@pytest.mark.parametrize(("speakers", "looks"), [(["a", "b", "c"], 1), (["a", "", "c"], 2)])
def test_voices_look_at_a_pool_no_more_often_than_they_must(
    speakers: list[str], looks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "".join(f"u{k},train,{name},{k}.wav,8000,9,o{k},mine\n" for k, name in enumerate(speakers))
    path = tmp_path / "pool.csv"
    path.write_text(f"id,split,speaker,path,sample_rate,frames,origin,licence\n{rows}")
    pool, looked = Pool.read(path), list[object]()
    gather = sheet.Sheet._gather
    monkeypatch.setattr(sheet.Sheet, "_gather", lambda *given: looked.append(given) or gather(*given))
    assert len(Voices([pool]).talkers) == 3 and len(looked) == looks
