"""A table that was cut short is refused wherever the cut lies, never read with what is left."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from usepcli.data import rows
from usepcli.data.corpora.csv_list import CsvList
from usepcli.data.manifest import Manifest, Pool, PoolRow, Row
from usepcli.engine.scoring.jobs import SAMPLES
from usepcli.errors import BadInput, UsepError


def last_row(text: str) -> int:
    """Return where the last row begins."""
    return text.rindex("\n", 0, len(text) - 1) + 1


def test_a_cut_anywhere_in_the_last_row_of_a_prepared_set_is_refused(tmp_path: Path) -> None:
    text = (SAMPLES / "manifest.csv").read_text()
    shutil.copy(SAMPLES / "prepare.json", tmp_path)
    place = tmp_path / "manifest.csv"
    for end in [*range(last_row(text) - 1, len(text))]:
        place.write_text(text[:end])
        with pytest.raises(BadInput, match=r"manifest\.csv:\d"):
            Manifest.read(place)
    place.write_text(text[: last_row(text)])  # between two rows
    with pytest.raises(BadInput, match=r"7 rows, .*; usep wrote 8, the last was '7312_374'; the table is cut short"):
        Manifest.read(tmp_path)
    place.write_text(text)
    assert len(Manifest.read(tmp_path)) == 8


def test_a_cut_that_no_record_tells_of_loses_nothing_that_is_heard(tmp_path: Path) -> None:
    text = (SAMPLES / "manifest.csv").read_text()
    whole = Manifest.read(SAMPLES).rows[-1]
    accepted = 0
    for end in range(last_row(text) + 1, len(text)):
        (tmp_path / "manifest.csv").write_text(text[:end])
        try:
            found = Manifest.read(tmp_path).rows[-1]
        except BadInput:
            continue
        accepted += 1
        heard = [(row.mixture, row.sources, row.frames, row.n_src, row.split) for row in (found, whole)]
        assert heard[0] == heard[1], text[:end]
    assert accepted == len(whole.licence) + 1  # the last cell: nothing tells how long it was


def test_rows_may_be_taken_out_by_hand(tmp_path: Path) -> None:
    shutil.copy(SAMPLES / "prepare.json", tmp_path)
    lines = (SAMPLES / "manifest.csv").read_text().splitlines(keepends=True)
    (tmp_path / "manifest.csv").write_text("".join([*lines[:3], *lines[4:]]))
    assert len(Manifest.read(tmp_path)) == 7
    (tmp_path / "mine.csv").write_text("".join(lines[:3]))
    assert len(Manifest.read(tmp_path / "mine.csv")) == 2


@pytest.mark.parametrize(
    ("sources", "found"),
    [
        ("a.wav;", "nothing between or behind ';'"),
        ("a.wav;;b.wav", "nothing between"),
        ("a.wav", "1 sources where n_src"),
    ],
)
def test_lists_of_sources_are_whole(tmp_path: Path, sources: str, found: str) -> None:
    (tmp_path / "m.csv").write_text(f"id,mixture,sample_rate,frames,sources,n_src\nx,m.wav,8000,3,{sources},2\n")
    with pytest.raises(BadInput, match=f"m.csv:2.*{found}"):
        Manifest.read(tmp_path / "m.csv")


def test_a_list_of_somebody_else_that_ends_in_the_middle_of_its_sources(tmp_path: Path) -> None:
    head = "id,mixture,sample_rate,frames,sources\n"
    whole = head + "x,x.wav,8000,3,a.wav;b.wav\n" + "y,y.wav,8000,3,c.wav;d.wav"
    (tmp_path / "m.csv").write_text(whole)
    assert len(Manifest.read(tmp_path / "m.csv")) == 2  # whole, but for the end of the line
    (tmp_path / "m.csv").write_text(whole[: whole.rindex(";")])
    with pytest.raises(
        BadInput, match=r"m.csv:3: lists 1 sources, all rows before it 2 or more, and its line has no end"
    ):
        Manifest.read(tmp_path / "m.csv")
    with pytest.raises(BadInput, match=r"m.csv:3: lists 1 sources"):
        CsvList().scan(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_text(whole[: whole.rindex(";")] + "\n")
    assert len(Manifest.read(tmp_path / "m.csv").rows[-1].sources) == 1  # a mixture of one source


def test_pools_are_cut_short_too(tmp_path: Path) -> None:
    pool = Pool(
        [PoolRow(f"u{k}", "train", "t", f"{k}.wav", 8000, 5, "o", "l") for k in range(3)],
        tmp_path,
        tmp_path / "pool.csv",
    )
    pool.write()
    text = pool.path.read_text()
    pool.path.write_text(text[: text.rindex(",8000")])
    with pytest.raises(BadInput, match=r"pool.csv:4: 4 cells where the header names 8 columns"):
        Pool.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('a,b\n1,"two', ":2: a quotation without an end"),
        ("a,b\n1\n", ":2: 1 cells where the header names 2"),
        ("a,b\n1,2,3\n", ":2: more cells than columns"),
        ("a,b\n1,2", ":2: the last line has no end"),
    ],
)
def test_what_is_no_whole_table(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(BadInput, match=found):
        rows.read(tmp_path / "t.csv", own=True)


def test_a_table_with_quotes_and_breaks_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b'\xef\xbb\xbfa,b\r\n"x\ny","p ""q"", r"\r\n\r\n3,\r\n')
    table = rows.read(tmp_path / "t.csv", own=True)
    assert table.rows == [{"a": "x\ny", "b": 'p "q", r'}, {"a": "3", "b": ""}]
    assert table.lines == [3, 5] and table.ended


def test_an_error_is_usep_s_own(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a,b\n" + bytes(20))
    with pytest.raises(UsepError):
        rows.read(tmp_path / "t.csv")


def test_every_writer_notes_how_far_its_table_goes(tmp_path: Path) -> None:
    made = Manifest([Row("p"), Row("q")], tmp_path, tmp_path / "manifest.csv")
    assert made.extent == {"rows": 2, "last": "q"}


def test_what_a_spreadsheet_makes_of_a_table_is_read_or_refused_by_name(tmp_path: Path) -> None:
    place = tmp_path / "list.csv"

    def read(text: str) -> list[dict[str, str]]:
        place.write_bytes(text.encode())
        return rows.read(place).rows

    assert read("\ufeffid,path\r\na,x\r\n,\r\n") == [{"id": "a", "path": "x"}]  # a row of separators alone
    for text, why in (
        ("id;path\na;x\n", r":1: ';' separates the columns"),
        ("id\tpath\na\tx\n", r":1: a tab separates the columns"),
        ("id,path,id\na,x,b\n", r":1: two columns are called 'id'"),
        ("id,path\na,x\n\0\0\0", r"holds NUL bytes"),
    ):
        with pytest.raises(BadInput, match=why):
            read(text)


def test_a_cut_in_the_name_of_a_split_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "manifest.csv"
    text = "id,mixture,sample_rate,frames,split\na,a.wav,8000,9,test\nb,b.wav,8000,9,te"
    for end in (len(text), len(text) - 2):  # "te" and nothing
        place.write_text(text[:end])
        with pytest.raises(BadInput, match=r"manifest\.csv:3: split '(te)?' is no whole name of a split"):
            Manifest.read(place)
    place.write_text(text + "\n")
    assert [row.split for row in Manifest.read(place).rows] == ["test", "te"]
    place.write_text("id,split,mixture,sample_rate,frames\na,test,a.wav,8000,9\nb,,b.wav,8000,9")
    assert len(Manifest.read(place)) == 2
