from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usepcli.audio import io
from usepcli.data.audit import Item, Result, audit_item
from usepcli.data.corpora.listing import read_rows
from usepcli.data.manifest import Manifest
from usepcli.engine.preparing.check import Report, check
from usepcli.engine.preparing.prepare import prepare
from usepcli.errors import BadInput, InputNotFound, OutputError


def noise(seed: int, frames: int = 4000) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=frames) * 0.05


def audit(place: Path, out: Path | None = None, **more: Any) -> Report:
    return check(place, out, quiet=True, **{"workers": 1, **more})


def kinds(report: Report) -> dict[tuple[str, str], int]:
    return {(row["level"], row["kind"]): row["count"] for row in report.table()}


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    for talker in range(6):
        for utterance in range(2):
            io.write(tmp_path / "in" / f"t{talker}" / f"{utterance}.wav", noise(10 * talker + utterance), 8000)
    options = {"train": 4, "valid": 2, "test": 2, "seconds": 0.4, "min_s": 0.1, "split_ratios": (1, 1, 1)}
    prepare(tmp_path / "in", tmp_path / "out", "speakers", options, workers=1, quiet=True)
    return tmp_path / "out"


def test_a_prepared_folder_is_sound(prepared: Path):
    report = audit(prepared)
    assert report.findings == [] and report.errors == 0 and kinds(report) == {("ok", "no faults"): 0}
    assert (report.items, report.files) == (8 + 12, 8 * 3 + 12)
    assert report.sum_report() == {"compared": 8, "exact": 8, "median_snr_db": 99.0, "lowest_snr_db": 99.0}
    assert report.path == prepared / "check.csv"
    assert report.path.read_text() == "level,kind,split,id,path,detail\n"
    assert "8 of 8 exact" in "\n".join(report.notes())


def test_faults_made_after_preparing_are_found(prepared: Path):
    manifest = Manifest.read(prepared)
    first, second, third = (prepared / row.mixture for row in manifest.rows[:3])
    first.unlink()
    io.write(second, noise(99, 3200), 8000, overwrite=True)  # another recording of the same length
    io.write(third, noise(98, 3000), 8000, overwrite=True)
    test_row = manifest.split("test").rows[0]
    io.write(prepared / test_row.mixture, io.read(second)[0], 8000, overwrite=True)
    report = audit(prepared)
    found = kinds(report)
    assert found[("error", "missing")] == 1 and found[("error", "length")] == 1 and found[("error", "leak")] == 1
    assert found[("error", "sum")] == 3
    _, rows = read_rows(prepared / "check.csv")
    assert len(rows) == len(report.findings) and report.errors >= 6
    assert rows[0]["path"] == manifest.rows[0].mixture and rows[0]["id"] == manifest.rows[0].id
    assert audit(prepared, workers=2).findings == report.findings


def test_talkers_in_two_splits(prepared: Path):
    text = (prepared / "pool.csv").read_text().splitlines()
    test_line = next(line for line in text if line.startswith("test/"))
    train = next(line for line in text if line.startswith("train/")).split(",")[2]
    cells = test_line.split(",")
    cells[2] = train
    (prepared / "pool.csv").write_text(
        "\n".join(",".join(cells) if line == test_line else line for line in text) + "\n"
    )
    # The pool is at odds with itself, and with the mixtures that are made of it.
    assert kinds(audit(prepared)) == {("error", "talker"): 2}
    assert kinds(audit(prepared / "pool.csv")) == {("error", "talker"): 1}
    assert kinds(audit(prepared / "manifest.csv")) == {("ok", "no faults"): 0}


def test_a_stopped_check_goes_on_where_files_are_the_same(prepared: Path, monkeypatch: pytest.MonkeyPatch):
    names = sorted(prepared.glob("wav/*/*/s1.wav"))
    io.write(names[2], noise(99, 3000), 8000, overwrite=True)
    whole, looked = audit(prepared).as_dict(), list[Item]()
    real = audit_item

    def stop(item: Item) -> Result:
        looked.append(item)
        if len(looked) == 6:
            raise KeyboardInterrupt
        return real(item)

    monkeypatch.setattr("usepcli.engine.preparing.check.audit_item", stop)
    with pytest.raises(KeyboardInterrupt):
        audit(prepared)
    first = looked[0]
    os.utime(first.root / first.whole, (1, 1))
    said: list[str] = []
    assert audit(prepared, say=said.append).as_dict() == whole and whole["findings"]
    assert said == ["4 items were checked before, and their files are as they were"]
    assert looked.count(first) == 2 and len(looked) == 6 + 20 - 4
    assert not list(prepared.glob("check*.jsonl"))


def test_shares_of_a_check_and_a_merge_find_what_one_does(prepared: Path, tmp_path: Path):
    names = sorted(prepared.glob("wav/*/*/s1.wav"))
    names[2].write_bytes(names[1].read_bytes())
    names[5].unlink()
    whole = audit(prepared, tmp_path / "one").as_dict() | {"csv": ""}
    out = tmp_path / "parts"
    shares = [audit(prepared, out, shard=f"{k}/3") for k in (1, 3)]
    assert all(share.path is None and "to come: shard" in share.share for share in shares)
    with pytest.raises(BadInput, match="7 of 20 items are missing: not done: shard 2 of 3"):
        audit(prepared, out, merge=True)
    with pytest.raises(OutputError, match="another --rate or --limit"):
        audit(prepared, out, limit=3, shard="2/3")
    audit(prepared, out, shard="2/3")
    assert not (out / "check.csv").exists()
    assert audit(prepared, out, merge=True).as_dict() | {"csv": ""} == whole and whole["errors"]
    assert [path.name for path in out.iterdir()] == ["check.csv"]
    assert (out / "check.csv").read_bytes() == (tmp_path / "one" / "check.csv").read_bytes()


def test_any_tree(tmp_path: Path):
    tree = tmp_path / "tree"
    io.write(tree / "train" / "a.wav", noise(1), 8000)
    io.write(tree / "train" / "b.wav", noise(2), 8000)
    io.write(tree / "test" / "c.wav", noise(1), 8000)
    io.write(tree / "test" / "d.wav", noise(4), 16000)
    (tree / "train" / "011c0201.wv1").write_bytes(b"NIST_1A")
    (tree / "test" / "011c0201.wv2").write_bytes(b"NIST_1A")
    report = audit(tree)
    assert kinds(report) == {
        ("error", "unreadable"): 2, ("error", "leak"): 1, ("error", "wv1-wv2"): 1, ("warning", "rate"): 1
    }  # fmt: skip
    assert report.path is None and not list(tree.glob("*.csv"))
    assert kinds(audit(tree, rate=16000))[("error", "rate")] == 3
    assert audit(tree, tmp_path / "report").path == tmp_path / "report" / "check.csv"
    assert len((tmp_path / "report" / "check.csv").read_text().splitlines()) == 1 + 5
    assert audit(tree, limit=2).items == 2


def test_a_foreign_list(tmp_path: Path):
    io.write(tmp_path / "a.wav", noise(1), 8000)
    (tmp_path / "manifest.csv").write_text("path,speaker,split\na.wav,x,tr\nb.wav,x,dev\n")
    assert kinds(audit(tmp_path)) == {("error", "missing"): 1, ("error", "talker"): 1}


def test_nothing_to_check(tmp_path: Path):
    with pytest.raises(InputNotFound):
        audit(tmp_path / "absent")
    with pytest.raises(BadInput, match="no recordings"):
        audit(tmp_path)
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadInput, match="no column path"):
        audit(tmp_path / "x.csv")
