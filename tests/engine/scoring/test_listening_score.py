"""What answers come to: the table of outcomes, intervals in closed form, foreign and broken answers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from usepcli.engine import tables
from usepcli.engine.scoring import listening_score as scores
from usepcli.errors import BadInput, InputNotFound, OutputError

TEST = "feed"


def make_key(folder: Path, rows: list[dict[str, str]]) -> Path:
    full = [
        {"test": TEST, "trial": f"t{k}", "item": f"i{k}", "start_s": 0.0, "seconds": 1.0, **row}
        for k, row in enumerate(rows)
    ]
    tables.write_csv(folder / "key.csv", full, scores.KEY_COLUMNS)
    return folder / "key.csv"


def make_answers(path: Path, given: list[str], **other: str) -> Path:
    rows = [
        {"test": TEST, "listener": path.stem, "trial": f"t{k}", "answer": answer, **other}
        for k, answer in enumerate(given)
    ]
    tables.write_csv(path, rows)
    return path


def which(system: str = "net", own: str = "a") -> dict[str, str]:
    return {
        "kind": "which", "system": system, "source": "s1", "a": "s1" if own == "a" else "s2",
        "b": "s2" if own == "a" else "s1",
    }  # fmt: skip


def preference(a: str, b: str) -> dict[str, str]:
    return {"kind": "preference", "system": "", "source": "s1", "a": a, "b": b}


def wilson(k: int, n: int) -> tuple[float, float]:
    z = 1.959963984540054
    middle, half = k / n + z * z / (2 * n), z * math.sqrt(k / n * (1 - k / n) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def table(place: Path, *answers: Path) -> list[dict]:  # type: ignore[type-arg]
    return scores.score(scores.read_answers(answers, scores.read_key(place)))


def test_the_four_outcomes_with_wilsons_interval(tmp_path: Path) -> None:
    key = make_key(tmp_path, [which(), which(own="b"), which(), which(), which()])
    # t0 A: its own reference; t1 B: its own, too; t2 B: the other; t3 both; t4 neither.
    rows = table(key, make_answers(tmp_path / "ann.csv", ["A", "B", "B", "both", "neither"]))
    assert {row["outcome"]: row["count"] for row in rows} == {"correct": 2, "wrong": 1, "both": 1, "none": 1}
    correct = rows[0]
    assert correct["percent"] == pytest.approx(40) and correct["listener"] == "ann"
    assert [correct["ci95_low"] / 100, correct["ci95_high"] / 100] == pytest.approx(wilson(2, 5), abs=1e-9)


def test_answers_in_words_are_counted_alike_and_apart(tmp_path: Path) -> None:
    key = make_key(tmp_path, [{**which(), "kind": "words"}, {**which(own="b"), "kind": "words"}, which()])
    rows = table(key, make_answers(tmp_path / "ann.csv", ["A", "A", "neither"]))
    assert [(row["kind"], row["outcome"], row["count"], row["n"]) for row in rows if row["count"]] == [
        ("which", "none", 1, 1), ("words", "correct", 1, 2), ("words", "wrong", 1, 2),
    ]  # fmt: skip
    assert [line["system"] for lines in scores.shown(rows) for line in lines] == ["net", "net"]


def test_systems_are_told_apart_and_listeners_too(tmp_path: Path) -> None:
    key = make_key(tmp_path, [which("old"), which("new"), which("old"), which("new")])
    ann = make_answers(tmp_path / "answers_ann.csv", ["B", "A", "B", "A"])
    make_answers(tmp_path / "answers_bob.csv", ["A", "A", "B", ""])
    rows = table(key, tmp_path)  # a folder stands for the answers in it
    correct = {(r["listener"], r["system"]): (r["count"], r["n"]) for r in rows if r["outcome"] == "correct"}
    assert correct == {
        ("all", "old"): (1, 4), ("all", "new"): (3, 3),
        ("answers_ann", "old"): (0, 2), ("answers_ann", "new"): (2, 2),
        ("answers_bob", "old"): (1, 2), ("answers_bob", "new"): (1, 1),
    }  # fmt: skip
    assert table(key, tmp_path, ann) == rows  # the same file named twice counts once
    copy = tmp_path / "copy.csv"
    copy.write_text(ann.read_text())
    with pytest.raises(BadInput, match=r"copy.csv:2: answers_ann answered trial t0 before, in .*answers_ann.csv:2"):
        table(key, tmp_path, copy)


def test_preferences_leave_ties_out_and_are_tested_against_chance(tmp_path: Path) -> None:
    key = make_key(tmp_path, [preference("x", "y"), preference("y", "x"), *[preference("x", "y")] * 8])
    rows = table(key, make_answers(tmp_path / "ann.csv", ["A", "B", *["A"] * 5, "B", "same", "same"]))
    x, y = rows
    assert (x["system"], x["count"], x["n"], x["ties"]) == ("x", 7, 8, 2)
    assert y["count"] == 1 and y["percent"] == pytest.approx(12.5)
    # Two-sided: twice the chance of 7 or 8 heads in 8 throws, 2 * 9 / 256.
    assert x["p_binomial"] == y["p_binomial"] == pytest.approx(18 / 256)
    nobody = table(key, make_answers(tmp_path / "bob.csv", ["same"] * 10))
    assert nobody[0]["n"] == 0 and math.isnan(nobody[0]["p_binomial"]) and nobody[0]["ties"] == 10
    (shown,) = scores.shown(nobody)
    assert shown[0]["p"] == "-" and shown[0]["preferred %"] == "-"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": "other"}, "answers to test other"),
        ({"trial": "t99"}, "trial 't99' is not in the key"),
        ({"answer": "bothh"}, "unknown answer 'bothh' .did you mean 'both'"),
        ({"answer": "same"}, "choose from: A, B, both, neither"),
    ],
)
def test_foreign_and_unknown_answers_are_refused_with_their_line(
    tmp_path: Path, change: dict[str, str], message: str
) -> None:
    key = make_key(tmp_path, [which()])
    path = make_answers(tmp_path / "ann.csv", ["A"], **change)
    with pytest.raises(BadInput, match=rf"ann.csv:2: .*{message}"):
        table(key, path)


def test_files_that_are_no_answers_are_refused(tmp_path: Path) -> None:
    key = make_key(tmp_path, [which()])
    (tmp_path / "odd.csv").write_text("test,listner,trial,answer\nfeed,a,t0,A\n")
    with pytest.raises(BadInput, match=r"no column 'listener' .did you mean 'listner'"):
        table(key, tmp_path / "odd.csv")
    (tmp_path / "torn.csv").write_text("test,listener,trial,answer\nfeed,a\n")
    with pytest.raises(BadInput, match=r"torn.csv:2: 2 cells where the header names 4"):
        table(key, tmp_path / "torn.csv")
    (tmp_path / "none.csv").write_text("test,listener,trial,answer\n")
    with pytest.raises(BadInput, match="no answers"):
        table(key, tmp_path / "none.csv")
    with pytest.raises(BadInput, match="no key of a listening test"):
        scores.read_key(tmp_path / "odd.csv")


def test_the_key_is_looked_for_beside_the_answers(tmp_path: Path) -> None:
    key = make_key(tmp_path, [which()])
    assert scores.find_key([tmp_path / "answers_a.csv"]) == key
    assert scores.find_key([tmp_path]) == key
    assert scores.find_key([tmp_path / "far" / "a.csv"], tmp_path) == key
    with pytest.raises(InputNotFound, match="--key"):
        scores.find_key([tmp_path / "far" / "a.csv"])
    with pytest.raises(InputNotFound, match="no answers"):
        scores.read_answers([tmp_path], scores.read_key(key))


def test_the_table_is_written_once(tmp_path: Path) -> None:
    key = make_key(tmp_path, [which()])
    rows = table(key, make_answers(tmp_path / "ann.csv", ["A"]))
    out = scores.write(tmp_path, rows)
    assert [row["outcome"] for row in tables.read_csv(out)] == list(scores.OUTCOMES)
    with pytest.raises(OutputError, match="exists already"):
        scores.write(tmp_path, rows)
