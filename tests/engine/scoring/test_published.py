"""What the ledger tells beside scores: facts, filters, costs, and the figure of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from usepcli.engine.scoring import compare, compared_figure, published
from usepcli.errors import OutputError, UsageError
from usepcli.report import scatter
from usepcli.weights import build


def rows(metric: str = "si-snri", data: str = "WSJ0-2mix 8 kHz test") -> list[published.Line]:
    found = compare.ledger()
    return [row for row in found if row["metric"] == metric and row["data"] == data and row["paper"] == "An (lecture)"]


def names(*only: str) -> list[str]:
    return sorted({row["system"] for row in published.kept(rows(), only, compare.ledger())})


def test_causality_size_and_stride_stand_beside_a_score() -> None:
    found = {row["system"]: published.facts(row, compare.ledger()) for row in rows()}
    assert found["Conv-TasNet-cLN"] == (True, "", 5.1, None)
    assert found["SepFormer"] == (None, "", 26, 8)
    upit = [published.facts(row, compare.ledger()) for row in rows("sdri") if "uPIT-BLSTM, AM" in row["system"]]
    assert {one.condition for one in upit} == {"open"}


def test_filters_keep_what_is_told_to_be_so() -> None:
    assert names("causal") == ["Conv-TasNet-cLN", "LSTM-TasNet", "TasNet-LSTM"]
    assert names("causal", "parameters<10") == ["Conv-TasNet-cLN"]
    assert names("stride=1", "parameters <= 3") == ["DPTNet", "DualPathRNN"]
    assert "Chimera++" not in names("stride>=1") and names("parameters>50") == ["SignPredictionNet"]
    assert names("not-causal", "stride<2") == [] and names() == sorted({row["system"] for row in rows()})
    closed = published.kept(rows("sdri", "WSJ0-2mix 8 kHz validation"), ["closed"], compare.ledger())
    assert closed and not published.kept(rows("sdri", "WSJ0-2mix 8 kHz validation"), ["open"], compare.ledger())


@pytest.mark.parametrize("text", ["casual", "parameters", "params<3", "stride<x", "parameters<=-1", ""])
def test_other_filters_are_told_what_there_is(text: str) -> None:
    with pytest.raises(UsageError, match="expected causal, not-causal, closed, open, parameters<=N"):
        published.filters([text])


def test_costs_are_those_of_the_profiles_of_the_ledger() -> None:
    from usepcli.profile.load import load_profile

    known = {(row["profile"], row["set"]) for row in compare.ledger()}
    assert published.costs().keys() <= known
    built = build.model(load_profile("wsj0_2mix_convtasnet").model)
    found = published.costs()["wsj0_2mix_convtasnet", ""]
    assert built.flops_per_second() / 1e9 == pytest.approx(found, rel=1e-3)
    assert {one.name: one.gflop for one in published.points(rows(), compare.ledger())}["Conv-TasNet-gLN"] == found


def test_the_figure_marks_ours_and_names_all(tmp_path: Path) -> None:
    panels = [("size", [("A", 1.0, 10.0, False), ("B", 1.0, 10.0, False), ("mine", 3.0, 5.0, True)]), ("cost", [])]
    place = scatter.over_cost(panels, tmp_path / "f.svg", y_label="dB", title="a set")
    drawn = place.read_text()
    assert all(text in drawn for text in ("A, B", "mine", "not known of any", "a set"))
    assert drawn.count(f"fill: {scatter.OURS}") >= 2  # the star and its name


def test_a_figure_that_cannot_be_is_refused_before_anything_is_scored(tmp_path: Path) -> None:
    for figure, profile, only, said in (
        (Path("f.png"), "", (), "--figure is of published numbers"),
        (None, "", ("causal",), "--only is of published numbers"),
        (Path("f.gif"), "p", (), "ends in .png or .svg"),
    ):
        with pytest.raises(UsageError, match=said):
            compared_figure.check(figure, profile, only, False)
    there = tmp_path / "f.png"
    there.touch()
    with pytest.raises(OutputError, match="--overwrite"):
        compared_figure.check(there, "p", (), False)
    compared_figure.check(there, "p", (), True)
