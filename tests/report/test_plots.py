from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from usepcli.errors import BadInput, InputNotFound, IOFault, MissingDependency
from usepcli.report import plots


def logs(folder: Path, losses: list[float]) -> tuple[Path, Path]:
    train, valid = folder / "train.csv", folder / "valid.csv"
    rows = "".join(f"{20 * i},0,{loss},0.001\n" for i, loss in enumerate(losses))
    train.write_text("step,epoch,loss,lr\n" + rows)
    valid.write_text("epoch,step,si-snri,best,seconds\n0,20,1.5,1.5,1\n1,40,3.5,3.5,1\n2,60,2.0,3.5,1\n")
    return train, valid


def test_curve_is_a_png_with_and_without_validation(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    train, valid = logs(tmp_path, [3.0, math.nan, 2.0, 1.0])
    both = plots.learning_curve(train, valid, tmp_path / "new" / "both.png")
    alone = plots.learning_curve(train, tmp_path / "none.csv", tmp_path / "alone.png")
    for picture in (both, alone):
        assert picture.read_bytes().startswith(b"\x89PNG")
    height = [int.from_bytes(picture.read_bytes()[20:24]) for picture in (both, alone)]
    assert height[0] == 2 * height[1]


def test_both_forms_at_once_say_who_made_them_and_leave_nothing_beside(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    places = [tmp_path / "new" / f"c.{form}" for form in plots.FORMS]
    assert plots.learning_curve(*logs(tmp_path, [2.0, 1.0]), *places) == places[0]
    png, svg = (place.read_bytes() for place in places)
    assert png.startswith(b"\x89PNG") and b"Software\0usep" in png[:4096]
    assert svg.startswith(b"<?xml") and b"<dc:title>usep</dc:title>" in svg[:4096] and b"training loss" in svg
    assert sorted(tmp_path.glob("new/*")) == sorted(places) and not list(tmp_path.glob("new/.*"))


def test_a_failed_picture_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "c.png").write_bytes(b"earlier")

    def full(figure: object, path: Path, form: str) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plots, "_write", full)
    with pytest.raises(IOFault, match=r"c\.png: writing failed: No space"):
        plots.learning_curve(*logs(tmp_path, [2.0, 1.0]), tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes() == b"earlier" and not list(tmp_path.glob(".*"))


def test_the_running_median_of_a_long_run_is_taken_at_few_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    taken: list[int] = []
    smooth = plots._smooth

    def counted(values: list[float], half: int, at: Iterable[int]) -> list[float]:
        taken.extend(at)
        return smooth(values, half, taken)

    monkeypatch.setattr(plots, "_smooth", counted)
    plots.learning_curve(*logs(tmp_path, [float(k) for k in range(3000)]), tmp_path / "c.png")
    assert plots.SMOOTHED <= len(taken) < 2 * plots.SMOOTHED and taken[-1] > 2990


def test_drawing_leaves_no_figure_open(tmp_path: Path) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    plots.learning_curve(*logs(tmp_path, [1.0, 2.0]), tmp_path / "c.png")
    assert pyplot.get_fignums() == []


def test_one_exploding_step_does_not_flatten_the_picture() -> None:
    class Axis:
        limits: tuple[float, float] | None = None

        def set_ylim(self, low: float, high: float) -> None:
            self.limits = (low, high)

    calm, burst = Axis(), Axis()
    losses = [float(i % 10) for i in range(300)]
    plots._limit(calm, losses)
    plots._limit(burst, [*losses, 1e6])
    assert calm.limits is None
    assert burst.limits is not None and burst.limits[1] < 20


def test_running_median_passes_over_nan_and_outliers() -> None:
    assert plots._smooth([1.0, math.nan, 1.0, 99.0, 1.0], 2, range(5)) == [1.0, 1.0, 1.0, 1.0, 1.0]


def test_best_mark_is_the_last_improvement() -> None:
    assert plots._last_best([1.5, 3.5, 2.0], [1.5, 3.5, 3.5]) == 1
    assert plots._last_best([math.nan], [math.nan]) is None
    assert plots._last_best([1.0], []) is None


def test_faults_name_the_table(tmp_path: Path) -> None:
    with pytest.raises(InputNotFound, match=r"none\.csv"):
        plots.learning_curve(tmp_path / "none.csv", tmp_path / "v.csv", tmp_path / "c.png")
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadInput, match="step and loss"):
        plots.learning_curve(tmp_path / "odd.csv", tmp_path / "v.csv", tmp_path / "c.png")


def test_missing_matplotlib_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependency, match=r"usepcli\[plot\]") as fault:
        plots.learning_curve(*logs(tmp_path, [1.0, 2.0]), tmp_path / "c.png")
    assert fault.value.code == 69


def test_health_columns_get_panels_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    train, valid = logs(tmp_path, [3.0, 2.0, 1.0])
    valid.write_text(
        "epoch,step,momi,best,seconds,si-snri,loudest_share,silent_share,teacher_agreement,skipped,"
        "teacher_input_si_sdr\n0,20,1.5,1.5,1,0.5,0.9,0.1,12.5,0,18.0\n1,40,2.5,2.5,1,1.5,0.8,0.2,11,0,\n"
    )
    columns = plots.columns(valid)
    assert plots._panels(columns) == ("momi", ["si-snri", "teacher_agreement"], ["loudest_share", "silent_share"])
    columns["momi"] = [math.nan, math.nan]
    assert plots._panels(columns)[0] == ""
    del columns["best"]
    assert plots._panels(columns)[0] == ""
    picture = plots.learning_curve(train, valid, tmp_path / "c.png").read_bytes()
    # Two tall panels and three low ones, at 120 dots per inch.
    assert int.from_bytes(picture[20:24]) == round(120 * (2 * 2.9 + 3 * 1.6))
