from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from usepcli.data.manifest import COLUMNS, POOL_COLUMNS, Manifest, Phrase, Pool, PoolRow, Row
from usepcli.errors import BadInput, InputNotFound, IOFault
from usepcli.files import write_text

ROW = Row(
    "a", "train", "mix/a.wav", ("s1/a.wav", "s2/a.wav"), "", 8000, 4000, 2, ("x", "y"), 'say "hi", now', "l", "o", "CC0"
)


def test_what_is_written_is_read(tmp_path: Path):
    rows = [ROW, Row("b", "test", os.fsdecode(b"\xff.wav"), sample_rate=8000, frames=3)]
    Manifest(rows, tmp_path, tmp_path / "manifest.csv").write()
    again = Manifest.read(tmp_path)
    assert again.rows == rows and again.root == tmp_path and len(again) == 2
    assert (tmp_path / "manifest.csv").read_bytes().splitlines()[0].decode() == ",".join(COLUMNS)
    assert Manifest.read(tmp_path / "manifest.csv").split("test").rows == rows[1:]
    assert again.splits() == {"train": 1, "test": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.csv"]


def test_pool(tmp_path: Path):
    rows = [PoolRow("u", "train", "", "pool/u.wav", 8000, 100, "here", "CC0")]
    Pool(rows, tmp_path, tmp_path / "pool.csv").write()
    assert Pool.read(tmp_path).rows == rows
    assert (tmp_path / "pool.csv").read_text().splitlines()[0] == ",".join(POOL_COLUMNS)


@pytest.mark.parametrize("absolute", [True, False])
def test_the_root_is_the_recorded_one(tmp_path: Path, absolute: bool):
    out = tmp_path / "out"
    out.mkdir()
    Manifest([ROW], out, out / "manifest.csv").write()
    root = str(tmp_path / "audio") if absolute else "../audio"
    (out / "prepare.json").write_text(json.dumps({"root": root}))
    assert Manifest.read(out).resolve("mix/a.wav") == tmp_path / "audio" / "mix" / "a.wav"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,mixtur,sample_rate,frames\n", "no column 'mixture'.*did you mean 'mixtur'"),
        ("", "no column 'id'"),
        ("id,mixture,sample_rate,frames\na,m.wav,8000,many\n", ":2: frames is 'many'"),
        ("id,mixture,sample_rate,frames\na,m.wav,8000,3,4\n", ":2: more cells"),
    ],
)
def test_faults_name_file_line_and_column(tmp_path: Path, text: str, words: str):
    (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(BadInput, match=words):
        Manifest.read(tmp_path)


def test_missing_and_broken_neighbours(tmp_path: Path):
    with pytest.raises(InputNotFound, match=r"nowhere: no such file or folder; .*-o \S*/nowhere`"):
        Manifest.read(tmp_path / "nowhere")
    with pytest.raises(InputNotFound, match=r"prepare-data"):
        Manifest.read(tmp_path)
    Manifest([ROW], tmp_path, tmp_path / "manifest.csv").write()
    (tmp_path / "prepare.json").write_text("{")
    with pytest.raises(BadInput, match=r"prepare.json"):
        Manifest.read(tmp_path)


def test_a_separator_in_a_name_is_refused(tmp_path: Path):
    with pytest.raises(BadInput, match=r"';'"):
        Manifest([Row("a", sources=("x;y.wav",))], tmp_path, tmp_path / "m.csv").write()
    assert not list(tmp_path.iterdir())


def test_spreadsheet_exports_with_a_byte_order_mark(tmp_path: Path):
    (tmp_path / "m.csv").write_bytes("\ufeffid,mixture,sample_rate,frames\r\na,b.wav,8000,3\r\n".encode())
    assert Manifest.read(tmp_path / "m.csv").rows == [Row("a", "", "b.wav", (), "", 8000, 3)]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_text(tmp_path / "a.csv", "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(IOFault, match=r"No space left"):
        write_text(tmp_path / "a.csv", "new")
    assert (tmp_path / "a.csv").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_words_are_columns_of_the_files_that_use_them(tmp_path: Path):
    asked = Row(
        "a", "train", "a.wav", ("s1.wav", "s2.wav"), queries=("a dog, barking", "rain"), caption="a dog; it rains",
        phrases=(Phrase("a dog"), Phrase("it rains", 1 / 3)),
    )  # fmt: skip
    rows = [asked, Row("b", "train", "b.wav", ("s1.wav", "s2.wav"), queries=("", "rain")), Row("c", "test", "c.wav")]
    Manifest(rows, tmp_path, tmp_path / "m.csv").write()
    assert Manifest.read(tmp_path / "m.csv").rows == rows
    header = (tmp_path / "m.csv").read_text().splitlines()[0]
    assert header == ",".join((*COLUMNS, "queries", "caption", "phrases"))
    Manifest(rows[2:], tmp_path, tmp_path / "m.csv").write()
    assert (tmp_path / "m.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    pool = [PoolRow("u", "train", "dog", "u.wav", 8000, 5, query="a dog"), PoolRow("v", "train", "", "v.wav", 8000, 5)]
    Pool(pool, tmp_path, tmp_path / "p.csv").write()
    assert Pool.read(tmp_path / "p.csv").rows == pool
    assert (tmp_path / "p.csv").read_text().splitlines()[0] == ",".join((*POOL_COLUMNS, "query"))


def test_rows_without_words_show_themselves_as_before_words_came_in():
    """Digests of prepared folders and of evaluations are taken over this text."""
    assert repr(Row("a", text="hi")) == (
        "Row(id='a', split='', mixture='', sources=(), noise='', sample_rate=0, frames=0, n_src=0, speakers=(), "
        "text='hi', label='', origin='', licence='')"
    )
    assert repr(PoolRow("u")) == (
        "PoolRow(id='u', split='', speaker='', path='', sample_rate=0, frames=0, origin='', licence='')"
    )
    assert repr(Row("a", queries=("x",))).endswith("licence='', queries=('x',))")


@pytest.mark.parametrize("cell", ["a|b", "a|0", "|1", "a;", "a|nan", "a|-1"])
def test_phrases_are_words_with_a_weight_above_zero(tmp_path: Path, cell: str):
    (tmp_path / "m.csv").write_text(f"id,mixture,sample_rate,frames,phrases\na,m.wav,8000,3,{cell}\n")
    with pytest.raises(BadInput, match=r"m\.csv:2: phrase"):
        Manifest.read(tmp_path / "m.csv")


@pytest.mark.parametrize("words", [{"queries": ("a;b",)}, {"phrases": (Phrase("a|b"),)}, {"phrases": (Phrase("a;b"),)}])
def test_words_that_would_not_come_back_are_refused(tmp_path: Path, words: dict[str, tuple[str, ...]]):
    with pytest.raises(BadInput, match="separates"):
        Manifest([Row("a", **words)], tmp_path, tmp_path / "m.csv").write()
