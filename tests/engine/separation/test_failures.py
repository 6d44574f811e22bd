from __future__ import annotations

from pathlib import Path

import pytest

from usepcli.engine import tables
from usepcli.engine.separation.failures import Failures
from usepcli.engine.separation.joins import by_file
from usepcli.errors import BadInput


def test_many_failures_that_come_right_write_the_table_few_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = list[int]()
    save = tables.save
    monkeypatch.setattr(
        tables, "save", lambda path, rows, columns: written.append(len(rows)) or save(path, rows, columns)
    )
    found = Failures(tmp_path / "errors.csv")
    found.add((str(k), BadInput("no sound")) for k in range(2000))
    assert written == []
    for k in range(2000):
        found.settle([str(k)])
    # a row goes with one in nine of those that are left: the sum of what is written is less than eight times all
    assert sum(written) <= 8 * 2000 and not found.path.exists()


def test_the_last_word_on_a_file_counts_and_a_kill_loses_none(tmp_path: Path) -> None:
    found = Failures(tmp_path / "errors.csv")
    found.add((str(k), BadInput(f"first {k}")) for k in range(20))
    found.add([("3", BadInput("second"))])
    found.settle(["5"])
    again = Failures(found.path)  # as after a kill: nothing was brought up to date
    again.read()
    assert [again.rows[str(k)]["error"] for k in (2, 3, 4)] == ["first 2", "second", "first 4"]
    again.settle(["5"])  # which the next run finds done
    again.flush()
    assert [row["file"] for row in tables.load(found.path)] == [str(k) for k in range(20) if k != 5]


def test_joins_written_again_count_instead_of_those_before() -> None:
    rows = [{"file": file, "seam": seam} for file, seam in ("a1", "a2", "a3", "b1", "a1", "a2")]
    assert by_file(rows) == {"b": rows[3:4], "a": rows[4:]}
