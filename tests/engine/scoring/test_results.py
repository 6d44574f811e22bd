from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from usepcli.data.manifest import Manifest, Row
from usepcli.engine.scoring import results
from usepcli.errors import OutputError

ROWS = [
    {"id": "a", "source": "s1", "n_src": 2, "snr": 1.5, "reason": ""},
    {"id": "a", "source": "s2", "n_src": 2, "snr": math.nan, "reason": "silent reference"},
]
TOTAL = {
    "metric": "snr", "mean": 1.5, "median": 1.5, "ci95_low": math.nan, "ci95_high": math.nan, "n": 1, "missing": 1,
}  # fmt: skip


def example() -> results.Results:
    found = results.Results({"model": {"sha256": "0"}}, {"name": "usep"}, [TOTAL])
    found.tables[results.ITEMS] = (ROWS, list(ROWS[0]))
    return found


def test_saved_files_have_the_promised_columns_and_strict_json(tmp_path: Path) -> None:
    results.save(tmp_path, example())
    assert (tmp_path / "items.csv").read_text() == (
        "id,source,n_src,snr,reason\na,s1,2,1.5,\na,s2,2,nan,silent reference\n"
    )
    assert (tmp_path / "summary.csv").read_text() == (
        "metric,mean,median,ci95_low,ci95_high,n,missing\nsnr,1.5,1.5,nan,nan,1,1\n"
    )

    def refuse(name: str) -> None:
        raise AssertionError(name)

    record = json.loads((tmp_path / "evaluate.json").read_text(), parse_constant=refuse)
    assert (record["items"], record["rows"], record["reasons"]) == (1, 2, {"silent reference": 1})
    assert record["protocol"] == {"name": "usep"} and record["model"] == {"sha256": "0"}
    assert record["summary"][0]["ci95_low"] is None


def test_results_are_kept_unless_told_and_leave_nothing_old_behind(tmp_path: Path) -> None:
    def place(**options: object) -> results.Place:
        return results.Place(tmp_path, options, [], {})

    assert place(limit=0).again(False) is None
    found = example()
    found.tables[results.VERSUS] = ([{"metric": "snr"}], ["metric"])
    results.save(tmp_path, found)
    with pytest.raises(OutputError, match=r"by an earlier version.*--overwrite"):
        place(limit=0).again(False)
    assert place(limit=0).again(True) is None
    with place(limit=0) as mine:
        mine.save(example(), mine.record(example()))
    assert (place(limit=0).again(False) or {})["rows"] == 2
    with pytest.raises(OutputError, match="limit was 0, now 3"):
        place(limit=3).again(False)
    assert {path.name for path in tmp_path.iterdir()} == {"items.csv", "summary.csv", "evaluate.json"}


def test_two_systems_get_a_column(tmp_path: Path) -> None:
    found = example()
    found.summary = [{"system": "separated", **TOTAL}, {"system": "unprocessed", **TOTAL}]
    results.save(tmp_path, found)
    assert (tmp_path / "summary.csv").read_text().startswith("system,metric,mean,")


def test_the_mark_of_the_data_moves_with_them_and_changes_with_them(tmp_path: Path) -> None:
    def mark(manifest: Manifest) -> str:
        return str(results.about_data(manifest, "test", 8000)["sha256"])

    row = Row("a", "test", "a/mix.wav", ("a/s1.wav",), sample_rate=8000, frames=80, n_src=1)
    manifest = Manifest([row], tmp_path, tmp_path / "manifest.csv")
    moved = Manifest([row], tmp_path / "b", tmp_path / "b/manifest.csv")
    assert mark(manifest) == mark(moved)
    assert mark(manifest) != mark(replace(manifest, rows=[replace(row, frames=81)]))
    (tmp_path / "prepare.json").write_text('{"corpus": "fuss", "key": "other settings"}')
    assert mark(manifest) != mark(moved)
    assert results.about_data(manifest, "test", 8000)["corpus"] == "fuss"
