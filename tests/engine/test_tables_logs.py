from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from usepcli.engine import tables
from usepcli.errors import BadInput, IOFault

COLUMNS = ("file", "note")
ODD = ["plain", "two\nlines", "carriage\rreturn", 'quote " and , comma', os.fsdecode(b"\xff\xfe"), " x ", "=1+1", "é"]


def test_names_of_any_kind_come_back(tmp_path: Path):
    rows = [{"file": name, "note": str(k)} for k, name in enumerate(ODD)]
    tables.append(tmp_path / "a.csv", rows[:3], COLUMNS)
    tables.append(tmp_path / "a.csv", rows[3:], COLUMNS)
    tables.save(tmp_path / "b.csv", rows, COLUMNS)
    assert tables.load(tmp_path / "a.csv", COLUMNS) == rows
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert b"\xff\xfe" in (tmp_path / "a.csv").read_bytes()


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_row_that_a_kill_cut_short_is_no_row(tmp_path: Path, cut: int):
    path = tmp_path / "a.csv"
    tables.append(path, [{"file": "one", "note": "1"}, {"file": "two", "note": "123456"}], COLUMNS)
    path.write_bytes(path.read_bytes()[:-cut])
    assert [row["file"] for row in tables.load(path, COLUMNS)] == ["one"]


def test_tables_without_rows_vanish_and_foreign_ones_are_refused(tmp_path: Path):
    path = tmp_path / "a.csv"
    tables.save(path, [{"file": "x"}], COLUMNS)
    tables.save(path, [], COLUMNS)
    assert not path.exists() and tables.load(path, COLUMNS) == []
    path.write_text("name,size\nx,1\n")
    with pytest.raises(BadInput, match="no column 'file'"):
        tables.load(path, COLUMNS)


def test_a_full_disk_leaves_the_table_as_it_was(tmp_path: Path):
    path = tmp_path / "a.csv"
    tables.append(path, [{"file": "x"}], COLUMNS)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(IOFault, match="cannot add rows"):
            tables.append(path, [{"file": "y" * 2000}], COLUMNS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
