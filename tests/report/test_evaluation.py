"""The page of an evaluation: tables, hostile names, and in a real browser sounds, switching and marked holes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usepcli.report import charts, evaluation, html

RATE = 8000
EVIL = '</script><img src=x onerror="window.hurt=1">'


def make_page(path: Path) -> evaluation.Shown:
    time_s = np.arange(2 * RATE) / RATE
    low, high = (0.2 * np.sin(2 * np.pi * hz * time_s).astype(np.float32) for hz in (400, 1500))
    ref = np.stack([low + high, high])
    est = np.stack([low, high])  # the first estimate lacks the tone at 1500 Hz: half of its energy
    rows = [{"source": "s1", "si-snri": 3.0}, {"source": "s2", "si-snri": math.nan}]
    shown = evaluation.Shown()
    for k in range(2):
        shown.add(evaluation.Item("Best", f"{EVIL}{k}", ("s1", "s2"), est, ref, ref.sum(0), RATE, rows))
    lines = [charts.Interval(EVIL, 3.0, 2.0, 4.0, 5)]
    by = {("label", False): lines, ("system", True): lines}
    about = evaluation.Evaluation(
        EVIL, [("Model", EVIL)], [evaluation.Score("si-snri", "dB", [1.0, 3.0, 5.0], 3.0, 1.0, 5.0, by)],
        ([{"metric": EVIL, "mean": 3.0, "n": 3}], ["metric", "mean", "n"]), [("mean", EVIL)],
        chosen_by="si-snri", tables={"Against": ([{"versus": EVIL, "p": 1e-7}], ["versus", "p"])},
    )  # fmt: skip
    html.save(path, evaluation.evaluation_page(about, shown))
    return shown


def test_holes_are_counted_and_marked_on_the_picture(tmp_path: Path) -> None:
    shown = make_page(tmp_path / "report.html")
    assert [round(row["holes_energy"], 1) for row in shown.lost] == [0.5, 0.0] * 2
    tracks = shown.players["item1"]["tracks"]
    assert [track["kind"] for track in tracks] == ["mixture", "estimate", "estimate", "reference", "reference"]
    assert "holes: 50" in tracks[1]["note"] and tracks[2]["note"] == "holes: 0.0 % of the energy"
    picture = tracks[1]["picture"]
    import base64

    marks = np.frombuffer(base64.b64decode(picture["overlay"]), np.uint8).reshape(picture["columns"], picture["rows"])
    middle = evaluation._rows_hz(picture)
    at = middle[marks[len(marks) // 2] > 0]
    assert len(at) and abs(at - 1500).max() < 120
    assert set(marks[:, np.argmin(abs(middle - 400))]) == {0}


def test_cells_are_rounded_but_a_small_p_value_is_not_nothing() -> None:
    assert [evaluation.cell(x) for x in (1.234, 0.0, 1e-7, None, math.nan, "a", 3)] == [
        "1.23", "0.00", "1e-07", "-", "-", "a", "3",
    ]  # fmt: skip


def test_a_quiet_page_that_plays_switches_and_hides_its_marks(browser: Any, tmp_path: Path) -> None:
    make_page(tmp_path / "report.html")
    browser.open(tmp_path / "report.html")
    assert browser.js("usep.players.length") == 2
    # How the values lie, and one chart per way to tell conditions apart: two kinds of lines share no axis.
    assert browser.js("document.querySelectorAll('svg.chart').length") == 3
    heads = browser.js("[...document.querySelectorAll('h2')].map(h => h.textContent)")
    assert [head for head in heads if head.startswith("By ")] == ["By label", "By system"]
    assert browser.js("document.body.textContent.match(/within items/g).length") == 1
    assert browser.js("document.title") == EVIL and browser.js("window.hurt === undefined")
    browser.click("[data-player=item2] .play")
    browser.wait("usep.players[1].time > 0.05")
    browser.hold(1, 0.1)
    browser.keys("3")
    assert browser.js("usep.players[1].hearing") == ["Reference s1"]
    assert browser.js("usep.players[1].playing")
    browser.keys("1", " ")
    assert browser.js("usep.players[1].hearing") == ["Estimate of s1"]
    browser.wait("!usep.players[1].playing")
    assert browser.js("document.querySelector('.marks').textContent") == evaluation.HOLES
    browser.click(".marks")
    assert browser.js("document.querySelector('.marks').getAttribute('aria-pressed')") == "false"
    browser.quiet()


@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_is_never_wider_than_the_window(browser: Any, tmp_path: Path, width: int) -> None:
    make_page(tmp_path / "report.html")
    browser.open(tmp_path / "report.html", width=width)
    assert browser.js("document.documentElement.scrollWidth") <= width


def test_an_oracle_is_heard_and_the_mixture_counted_beside(tmp_path: Path) -> None:
    time_s = np.arange(2 * RATE) / RATE
    low, high = (0.2 * np.sin(2 * np.pi * hz * time_s).astype(np.float32) for hz in (400, 1500))
    ref, est = np.stack([low + high, high]), np.stack([low, high])
    beside = {"oracle irm 512/128": ref, "unprocessed": np.stack([ref.sum(0)] * 2)}
    shown = evaluation.Shown()
    item = ("Best", "a", ("s1", "s2"), est, ref, ref.sum(0), RATE, [{"source": "s1"}, {"source": "s2"}], 0.0)
    shown.add(evaluation.Item(*item, beside, ["oracle irm 512/128"]))
    tracks = shown.players["item1"]["tracks"]
    assert [track["name"] for track in tracks[-2:]] == ["Oracle irm 512/128, s1", "Oracle irm 512/128, s2"]
    assert all("overlay" in track["picture"] for track in tracks[-2:]) and len(tracks) == 7
    lost = {(row["system"], row["source"]): round(row["holes_energy"], 1) for row in shown.lost}
    # Half of the energy of s1 is the tone that its estimate lacks; nothing is missing from masks or mixture.
    assert lost == {
        ("separated", "s1"): 0.5, ("separated", "s2"): 0.0, ("oracle irm 512/128", "s1"): 0.0,
        ("oracle irm 512/128", "s2"): 0.0, ("unprocessed", "s1"): 0.0, ("unprocessed", "s2"): 0.0,
    }  # fmt: skip
    first = shown.lost[0]
    cell = f"<td>{100 * first['holes_energy']:.2f} ({100 * first['holes_area']:.2f})</td>"
    assert "per cent of the energy (of the area)" in shown.body() and cell in shown.body()
