"""Scores of trainings over their epochs, side by side."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from usepcli.errors import BadInput
from usepcli.report import epochs


def table(path: Path, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["epoch,step,sdr,sir,sar,seconds", *rows]) + "\n")
    return path


def test_every_metric_has_a_panel_and_every_training_a_line(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    runs = {
        "url alone": table(tmp_path / "a/valid.csv", "0,10,1.0,2.0,9.0,1", "1,20,2.0,3.0,7.0,1"),
        "all three": table(tmp_path / "b/valid.csv", "0,10,1.0,2.0,nan,1", "1,20,4.0,6.0,nan,1"),
        "nothing yet": table(tmp_path / "c/valid.csv"),
    }
    place = epochs.beside(runs, ["sdr", "sir", "sar", "sdr", "pesq"], tmp_path / "scores.svg", tmp_path / "scores.png")
    text = place.read_text()
    assert re.findall(r">(s..) \(dB\)<", text) == ["sdr", "sir", "sar"] and text.count(">epoch<") == 3
    assert text.count(">url alone<") == 1 and ">all three<" in text and "nothing yet" not in text and "pesq" not in text
    # The line of SAR has no values in the second training: two lines twice, and one.
    assert len(re.findall(r"stroke-width: 1\.3", text)) == 5 + 2  # those of the legend, too
    assert (tmp_path / "scores.png").read_bytes().startswith(b"\x89PNG")


def test_of_many_trainings_the_picture_says_how_many_it_shows(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    one = table(tmp_path / "valid.csv", "0,10,1.0,2.0,9.0,1")
    runs = {f"run {k}": one for k in range(epochs.MOST + 2)}
    text = epochs.beside(runs, ["sdr"], tmp_path / "scores.svg").read_text()
    assert f"the first {epochs.MOST} of {epochs.MOST + 2} trainings" in text and f">run {epochs.MOST}<" not in text


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(BadInput, match="no values of sdr to draw"):
        epochs.beside({"a": table(tmp_path / "valid.csv")}, ["sdr"], tmp_path / "scores.svg")
