from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from usepcli.engine import tables
from usepcli.engine.scoring import fuss_scores, protocols, results, versus
from usepcli.errors import BadInput, InputNotFound

METRICS = {"si-snri": "convention of si-snri"}
DATA = {"manifest": "m.csv", "split": "test", "root": "/r", "sample_rate": 8000, "sha256": "1"}


def rows(values: list[float], name: str = "si-snri") -> list[dict[str, Any]]:
    """Two sources per item."""
    return [{"id": f"i{n // 2}", "source": f"s{n % 2 + 1}", name: v, "reason": ""} for n, v in enumerate(values)]


def saved(folder: Path, values: list[float], facts: dict[str, Any] | None = None, **conventions: Any) -> Path:
    table = rows(values)
    found = results.Results(facts or {"data": DATA}, {"name": "usep", "metrics": METRICS, **conventions})
    found.tables[results.ITEMS] = (table, list(table[0]))
    results.save(folder, found)
    return folder


def test_difference_is_ours_minus_theirs_over_pairs_that_both_have(tmp_path: Path) -> None:
    other = versus.read(saved(tmp_path, [1.0, 2.0, 3.0, math.nan, 9.0, 9.0]))
    ours, scores = versus.columns(rows([2.0, 4.0, 6.0, 7.0]), {"metrics": METRICS})
    (row,) = versus.differences(ours, scores, other)
    assert tuple(row) == versus.COLUMNS and row["versus"] == str(tmp_path / "items.csv")
    assert row["difference"] == pytest.approx((1 + 2 + 3) / 3)
    # i1/s2 is nan in the other, i2 is not in ours.
    assert (row["n"], row["items"], row["unpaired"]) == (3, 2, 3)
    assert 1.5 <= row["ci95_low"] <= row["ci95_high"] <= 3.0 and row["p_wilcoxon"] == pytest.approx(0.5)


def test_a_table_against_itself_differs_by_nothing(tmp_path: Path) -> None:
    folder = saved(tmp_path, [1.0, 2.0, 3.0, 4.0])
    (row,) = versus.differences(*versus.columns(rows([1.0, 2.0, 3.0, 4.0]), {"metrics": METRICS}), versus.read(folder))
    assert (row["difference"], row["ci95_low"], row["ci95_high"], row["p_wilcoxon"]) == (0, 0, 0, 1)


def test_order_of_the_rows_is_of_no_account(tmp_path: Path) -> None:
    other = versus.read(saved(tmp_path, [1.0, 2.0, 3.0, 5.0]))
    ours, scores = versus.columns(rows([2.0, 2.0, 9.0, 1.0]), {"metrics": METRICS})
    turned = other._replace(rows=other.rows[::-1])
    assert versus.differences(ours, scores, other) == versus.differences(ours, scores, turned)


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        ({**DATA, "split": "valid"}, "split 'valid', this on 'test'"),
        ({**DATA, "sample_rate": 16000}, "16000 Hz, this at 8000 Hz"),
        ({**DATA, "sha256": "2"}, "with other items or settings"),
        ({"manifest": "n.csv", "split": "test"}, "scored on n.csv"),
    ],
)
def test_other_data_are_refused(tmp_path: Path, theirs: dict[str, Any], said: str) -> None:
    other = versus.read(saved(tmp_path, [1.0, 2.0], {"data": theirs}))
    with pytest.raises(BadInput, match=said):
        versus.refuse_unlike({"data": DATA}, {"name": "usep", "metrics": METRICS}, other)


def test_the_same_data_elsewhere_and_records_of_old_are_let_through(tmp_path: Path) -> None:
    for name, theirs in {"moved": {**DATA, "manifest": "b.csv"}, "old": {"manifest": "m.csv", "split": "test"}}.items():
        other = versus.read(saved(tmp_path / name, [1.0, 2.0], {"data": theirs}))
        versus.refuse_unlike({"data": DATA}, {"name": "usep", "metrics": METRICS}, other)


def test_protocols_and_conventions_do_not_mix(tmp_path: Path) -> None:
    other = versus.read(saved(tmp_path / "a", [1.0, 2.0], name="saijo2023"))
    with pytest.raises(BadInput, match="by protocol saijo2023, this by usep"):
        versus.refuse_unlike({"data": DATA}, {"name": "usep"}, other)
    other = versus.read(saved(tmp_path / "b", [1.0, 2.0], metrics={"si-snri": "means removed"}))
    with pytest.raises(BadInput, match="si-snri was 'means removed'"):
        versus.refuse_unlike({"data": DATA}, {"metrics": METRICS}, other)
    other = versus.read(saved(tmp_path / "c", [1.0, 2.0]))
    with pytest.raises(BadInput, match="no score in common"):
        versus.differences(rows([1.0], "snr"), ["snr"], other)


def test_a_model_meets_separated_files_where_the_references_are_the_manifests(tmp_path: Path) -> None:
    data = {**DATA, "manifest": str(tmp_path / "set/manifest.csv"), "root": str(tmp_path / "set")}
    inside, outside = (saved(tmp_path / n, [1.0], {"references": str(tmp_path / n)}) for n in ("set/wav", "other"))
    conventions = {"metrics": METRICS}
    versus.refuse_unlike({"data": data}, conventions, versus.read(inside))
    with pytest.raises(BadInput, match="the other on"):
        versus.refuse_unlike({"data": data}, conventions, versus.read(outside))
    with pytest.raises(BadInput, match="its references are"):
        versus.refuse_unlike({"references": "elsewhere"}, conventions, versus.read(inside))


def test_what_is_no_evaluation_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(InputNotFound, match="no such table"):
        versus.read(tmp_path)
    (tmp_path / "items.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadInput, match="expected columns id and source"):
        versus.read(tmp_path)
    (tmp_path / "items.csv").write_text("id,source,snr\ni,s,2\n")
    with pytest.raises(InputNotFound, match=r"evaluate\.json"):
        versus.read(tmp_path / "items.csv")
    (tmp_path / "evaluate.json").write_text("{")
    with pytest.raises(BadInput, match="not JSON"):
        versus.read(tmp_path)


def fuss(values: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Rows of a protocol: item -> its sources' scores."""
    return [
        {
            **fuss_scores.blank_row(item, f"s{n}", ""), "k": len(of), "n_out": 4, "counted": 1,
            "si-snr": value, "imp": value + 1,
        }
        for item, of in values.items()
        for n, value in enumerate(of)
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "difference"), [("fuss-google", (0 + 3 + 0 + 0) / 4), ("saijo2023", (1.5 + 0) / 2)])
def test_a_protocols_difference_is_that_of_its_own_means(tmp_path: Path, name: str, difference: float) -> None:
    before = fuss({"one": [20.0], "two": [5.0, 5.0], "three": [1.0, 1.0]})
    after = fuss({"one": [21.0], "two": [5.0, 8.0], "three": [1.0, 1.0]})
    tables.write_csv(tmp_path / "items.csv", before, fuss_scores.ITEM_COLUMNS)
    conventions = {"name": name}
    (tmp_path / "evaluate.json").write_text(json.dumps({"protocol": conventions}))
    ours, scores = versus.columns(after, conventions)
    found = {row["metric"]: row["difference"] for row in versus.differences(ours, scores, versus.read(tmp_path))}
    protocol = protocols.find(name)
    means = [{row["metric"]: row["mean"] for row in fuss_scores.summary(of, protocol)} for of in (after, before)]
    assert found["MSi"] == pytest.approx(difference) == means[0]["MSi"] - means[1]["MSi"]
    assert found["1S"] == pytest.approx(1) and "3Si" not in found


@pytest.mark.parametrize("cell", ["text", "=1+1", "1" * 9999 + "x"])
def test_a_cell_that_is_no_number_is_named_with_its_table(cell: str) -> None:
    other = versus.Evaluation(
        Path("items.csv"), [{"id": "a", "source": "1", "snr": cell}], {"protocol": {"metrics": ["snr"]}}
    )
    with pytest.raises(BadInput, match=r"^items\.csv: a row that no evaluation wrote \(could not convert"):
        versus.differences([{"id": "a", "source": "1", "snr": 1.0}], ["snr"], other)


def test_a_score_of_nothing_is_a_score() -> None:
    """A perfect estimate has 0 % holes, and the mixture improves by 0 dB: neither is a missing value."""
    rows = [{"id": "a", "source": "s1", "si-snri": 0.0}, {"id": "a", "source": "s2", "si-snri": ""}]
    found, _ = versus.columns(rows, {"metrics": {"si-snri": ""}})
    assert found[0]["si-snri"] == 0.0 and math.isnan(found[1]["si-snri"])
