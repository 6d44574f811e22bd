from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from usepcli.engine import tables
from usepcli.errors import BadInput, InputNotFound, IOFault, UsepError


def test_append_writes_the_header_once(tmp_path: Path) -> None:
    log = tmp_path / "train.csv"
    tables.append_row(log, {"step": 1, "loss": 0.1 + 0.2, "skipped": False})
    tables.append_row(log, {"skipped": True, "loss": math.nan, "step": 2})
    assert log.read_text() == "step,loss,skipped\n1,0.30000000000000004,0\n2,nan,1\n"


def test_nothing_is_no_number_and_zero_is_one() -> None:
    assert [tables.number(cell) for cell in (0, 0.0, "0.0", "-1.5")] == [0.0, 0.0, 0.0, -1.5]
    assert all(math.isnan(tables.number(cell)) for cell in ("", None, "nan"))


def test_append_repairs_a_line_torn_by_a_kill(tmp_path: Path) -> None:
    log = tmp_path / "train.csv"
    log.write_text("step,loss\n1,0.5\n2,0.")
    tables.append_row(log, {"step": 2, "loss": 0.25})
    assert log.read_text() == "step,loss\n1,0.5\n2,0.25\n"
    log.write_text("step,lo")
    tables.append_row(log, {"step": 1, "loss": 0.5})
    assert log.read_text() == "step,loss\n1,0.5\n"


def test_append_takes_new_columns_and_missing_ones(tmp_path: Path) -> None:
    log = tmp_path / "train.csv"
    tables.append_row(log, {"step": 1, "loss": 0.5})
    tables.append_row(log, {"step": 2, "loss": 0.4, "snr_db": 3.0})
    tables.append_row(log, {"step": 3})
    assert log.read_text() == "step,loss,snr_db\n1,0.5,\n2,0.4,3.0\n3,,\n"


def test_append_says_which_file_cannot_grow(tmp_path: Path) -> None:
    (tmp_path / "train.csv").mkdir()
    with pytest.raises(IOFault, match=r"train\.csv"):
        tables.append_row(tmp_path / "train.csv", {"step": 1})


@given(
    st.lists(
        st.fixed_dictionaries({
            "name": st.text(st.characters(exclude_categories=["Cs", "Cc"])),
            "value": st.floats(),
            "count": st.integers(),
        }),
        min_size=1,
    )
)  # fmt: skip
def test_written_cells_read_back_to_the_same_bits(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    tables.write_csv(path, rows)
    for row, back in zip(rows, tables.read_csv(path), strict=True):
        assert back["name"] == row["name"] and int(back["count"]) == row["count"]
        assert float(back["value"]) == row["value"] or math.isnan(row["value"])


def test_write_replaces_at_once_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "items.csv"
    tables.write_csv(path, [{"a": 1}])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UsepError, match="No space left"):
        tables.write_csv(path, [{"a": 2}])
    assert path.read_text() == "a\n1\n"
    assert [file.name for file in tmp_path.iterdir()] == ["items.csv"]


def test_columns_can_be_ordered_and_an_empty_table_keeps_its_header(tmp_path: Path) -> None:
    tables.write_csv(tmp_path / "t.csv", [{"b": 1, "a": None}], ["a", "b"])
    assert (tmp_path / "t.csv").read_text() == "a,b\n,1\n"
    tables.write_csv(tmp_path / "e.csv", [], ["a", "b"])
    assert (tmp_path / "e.csv").read_text() == "a,b\n"


def test_reading_faults_carry_their_codes(tmp_path: Path) -> None:
    with pytest.raises(InputNotFound):
        tables.read_csv(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"a\n\xff\xfe\n")
    with pytest.raises(BadInput, match="UTF-8"):
        tables.read_csv(tmp_path / "bytes.csv")


def test_numpy_and_torch_scalars_become_plain_numbers() -> None:
    assert tables.cell(np.float64(0.5)) == tables.cell(torch.tensor(0.5)) == "0.5"
    assert tables.cell(np.bool_(True)) == "1"


def test_render_aligns_and_marks_what_is_missing() -> None:
    rows = [{"metric": "si-snri", "mean": 9.876, "n": 12}, {"metric": "sdr", "mean": math.nan, "n": 0}]
    assert tables.render(rows) == ("metric   mean   n\nsi-snri  9.88  12\nsdr         -   0")
    assert tables.render([], ["metric", "mean"]) == "metric  mean"


def test_summary_of_four_values_is_the_textbook_one() -> None:
    found = tables.summarise([1.0, 2.0, 3.0, 4.0])
    half = 3.182446305284263 * math.sqrt(5 / 3) / 2  # t(0.975, 3) * sd / sqrt(n)
    assert found == pytest.approx((2.5, 2.5, 2.5 - half, 2.5 + half, 4), rel=1e-9)


def test_summary_agrees_with_scipy() -> None:
    values = [0.3, -1.2, 8.4, 2.2, 5.0, 5.1, -0.7]
    low, high = stats.t.interval(0.95, len(values) - 1, loc=sum(values) / 7, scale=stats.sem(values))
    found = tables.summarise(values)
    assert (found.ci95_low, found.ci95_high, found.median) == pytest.approx((low, high, 2.2))


def test_summary_passes_over_what_is_not_finite_and_counts_the_rest() -> None:
    found = tables.summarise([1.0, math.nan, 3.0, math.inf])
    assert (found.mean, found.median, found.n) == (2.0, 2.0, 2)
    one = tables.summarise([5.0])
    assert one.mean == 5.0 and math.isnan(one.ci95_low) and one.n == 1
    assert tables.summarise([math.nan]).n == 0 and math.isnan(tables.summarise([]).mean)


def test_sources_of_one_mixture_count_as_one_cluster() -> None:
    """Equal clusters: the interval is that of the cluster means; a copied row adds no certainty."""
    pairs = [(1.0, 3.0), (4.0, 8.0), (2.0, 2.0)]
    values = [v for pair in pairs for v in pair]
    groups = [f"mix{i}" for i in range(3) for _ in range(2)]
    means = tables.summarise([sum(pair) / 2 for pair in pairs])
    clustered = tables.summarise(values, groups)
    assert clustered[0] == pytest.approx(means.mean)
    assert clustered[2:4] == pytest.approx(means[2:4])
    assert clustered.n == 6
    twice = tables.summarise([1.0, 1.0, 4.0, 4.0, 2.0, 2.0], groups)
    assert twice[2:4] == pytest.approx(tables.summarise([1.0, 4.0, 2.0])[2:4])


def test_csv_lines_end_in_a_newline_alone(tmp_path: Path) -> None:
    tables.write_csv(tmp_path / "t.csv", [{"text": 'a "quoted", line'}])
    raw = (tmp_path / "t.csv").read_bytes()
    assert b"\r" not in raw
    assert next(csv.DictReader(raw.decode().splitlines()))["text"] == 'a "quoted", line'
