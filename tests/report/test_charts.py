"""Charts: what is drawn where, ticks, and nothing for nothing."""

from __future__ import annotations

import itertools
import math
import re
from xml.etree import ElementTree

import pytest

from usepcli.report import charts


def numbers(svg: str, tag: str, name: str) -> list[float]:
    return [float(node.attrib[name]) for node in ElementTree.fromstring(svg).iter(tag) if name in node.attrib]


def test_the_bars_of_a_histogram_count_every_value() -> None:
    svg = charts.histogram([0.0] * 3 + [10.0] * 5 + [math.nan], "dB", 6.25, 2.0, 9.0)
    told = [node.text or "" for node in ElementTree.fromstring(svg).iter("title")]
    counts = [int(re.match(r"\d+", text).group()) for text in told]  # type: ignore[union-attr]
    assert sum(counts) == 8 and max(counts) == 5
    heights = numbers(svg, "rect", "height")
    assert max(heights) / min(h for h in heights if h) == pytest.approx(5 / 3, abs=0.01)


def test_one_value_many_times_is_one_bar() -> None:
    svg = charts.histogram([4.0, 4.0], "dB", 4.0, math.nan, math.nan)
    assert len(numbers(svg, "rect", "height")) == 1 and 'class="interval"' not in svg


def test_dots_lie_in_the_order_of_their_means_and_inside_their_intervals() -> None:
    lines = [
        charts.Interval("low", 1.0, 0.5, 1.5, 9),
        charts.Interval("high", 5.0, 4.0, 6.0, 9),
        charts.Interval("one", 3.0, math.nan, math.nan, 1),
        charts.Interval("<none>", math.nan, math.nan, math.nan, 0),
    ]
    svg = charts.intervals(lines, "dB", "by kind")
    low, high, one = numbers(svg, "circle", "cx")
    assert low < one < high and one - low == pytest.approx(high - one, abs=0.2)
    whiskers = [n for n in ElementTree.fromstring(svg).iter("line") if n.attrib["class"] == "whisker"]
    assert len(whiskers) == 2
    assert float(whiskers[0].attrib["x1"]) < low < float(whiskers[0].attrib["x2"])
    assert "&lt;none&gt;" in svg and "no value" in svg


def test_nothing_to_draw_is_nothing() -> None:
    assert charts.histogram([math.nan], "dB", math.nan, math.nan, math.nan) == ""
    assert charts.intervals([charts.Interval("a", math.nan, math.nan, math.nan, 0)], "dB", "x") == ""


@pytest.mark.parametrize(
    ("ends", "expected"),
    [((0, 10), [0, 2, 4, 6, 8, 10]), ((-1, 1), [-1, -0.5, 0, 0.5, 1]), ((0.12, 0.29), [0.15, 0.2, 0.25])],
)
def test_ticks_are_round(ends: tuple[float, float], expected: list[float]) -> None:
    assert charts.ticks(*ends) == pytest.approx(expected)


def test_a_single_mean_has_an_axis_all_the_same() -> None:
    assert "<circle" in charts.intervals([charts.Interval("a", 0.0, math.nan, math.nan, 1)], "", "x")


def test_counts_stand_on_an_axis_and_never_on_each_other() -> None:
    """4,000 values in 40 narrow bars: whole numbers at the side, each with room of its own."""
    values = [20 * math.sin(k) for k in range(4000)]
    svg = ElementTree.fromstring(charts.histogram(values, "dB", 0.0, -1.0, 1.0))
    beside = [node for node in svg.iter("text") if float(node.attrib["x"]) < 58]
    counts = [int(node.text or "") for node in beside]
    assert counts[0] == 0 and counts == sorted(set(counts)) and len(counts) >= 2
    heights = sorted(float(node.attrib["y"]) for node in beside)
    assert all(b - a >= 20 for a, b in itertools.pairwise(heights))
    along = [float(node.attrib["x"]) for node in svg.iter("text") if node not in beside]
    assert len(along) >= 4 and all(b - a >= 40 for a, b in itertools.pairwise(along))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([0.65, 0.7, 0.75], ["0.65", "0.70", "0.75"]),
        ([-0.5, 0.0, 0.5], ["-0.5", "0.0", "0.5"]),
        ([12300.0, 12350.0], ["12300", "12350"]),
        ([1.0], ["1"]),
    ],
)
def test_labels_have_as_many_decimals_as_tell_them_apart(found: list[float], expected: list[str]) -> None:
    assert charts.labels(found) == expected


def test_values_that_differ_in_their_rounding_are_one() -> None:
    svg = charts.histogram([1.0, 1.0 + 1e-9], "dB", 1.0, math.nan, math.nan)
    assert len(numbers(svg, "rect", "height")) == 1
    told = [node.text for node in ElementTree.fromstring(svg).iter("text")]
    assert len(told) == len(set(told))


def test_anchors_stand_above_the_bars_and_the_axis_has_room_for_them() -> None:
    beside = [
        ("oracle", charts.Interval("oracle: 20", 20.0, 18.0, 22.0, 3)),
        ("own", charts.Interval("separated: 5", 5.0, 1.0, 9.0, 3)),
        ("mixture", charts.Interval("unprocessed: 0", 0.0, 0.0, 0.0, 3)),
        ("oracle", charts.Interval("none", math.nan, math.nan, math.nan, 0)),
    ]
    svg = charts.histogram([4.0, 5.0, 6.0], "dB", 5.0, 4.0, 6.0, beside)
    nodes = list(ElementTree.fromstring(svg).iter())
    dots = {node.attrib["class"]: node for node in nodes if node.tag.endswith("circle")}
    places = {kind: float(dots[f"dot {kind}"].attrib["cx"]) for kind in ("oracle", "own", "mixture")}
    # On the axis of the bars, in proportion: 0, 5 and 20 dB.
    share = (places["own"] - places["mixture"]) / (places["oracle"] - places["mixture"])
    assert share == pytest.approx(5 / 20, abs=0.01)
    for node in nodes:
        assert all(0 <= float(node.attrib[x]) <= charts.WIDTH for x in ("x1", "x2", "cx") if x in node.attrib)
    lines = [float(dots[f"dot {kind}"].attrib["cy"]) for kind in ("oracle", "own", "mixture")]
    assert lines == sorted(lines) and min(b - a for a, b in itertools.pairwise(lines)) >= 30
    assert "none" not in "".join(node.text or "" for node in nodes)
    ends = [n.attrib for n in nodes if n.attrib.get("class") == "whisker oracle"]
    assert float(ends[0]["x1"]) < places["oracle"] < float(ends[0]["x2"])


def test_boxes_show_quartiles_median_and_mean_of_each_system() -> None:
    ramp = [float(k) for k in range(101)]  # 5th percentile 5, quartiles 25 and 75, median 50
    skew = [0.0] * 3 + [100.0]
    groups = [("2 sources", [charts.Box("a", "own", ramp), charts.Box("none", "oracle", [math.nan])])]
    svg = charts.boxes([*groups, ("4 sources", [charts.Box("b", "oracle", skew)])], "dB", "x")
    nodes = list(ElementTree.fromstring(svg).iter())
    of = {
        kind: [n.attrib for n in nodes if n.attrib.get("class") == kind]
        for kind in ("box own", "median", "whisker own")
    }
    low, wide = (float(of["box own"][0][key]) for key in ("x", "width"))
    per = wide / 50
    assert float(of["median"][0]["x1"]) == pytest.approx(low + 25 * per, abs=0.2)
    ends = [float(of["whisker own"][0][x]) for x in ("x1", "x2")]
    assert ends == pytest.approx([low - 20 * per, low + 70 * per], abs=0.2)
    mean = next(float(n.attrib["cx"]) for n in nodes if n.attrib.get("class") == "dot oracle")
    assert mean == pytest.approx(low, abs=0.2)  # 25, where the lower quartile of the ramp lies
    told = [n.text for n in nodes if n.text]
    assert "2 sources" in told and "0.00 dB, n=4" in told and not any("none" in text for text in told)
    assert charts.boxes([("1 source", [charts.Box("a", "own", [])])], "dB", "x") == ""


def test_shares_are_as_dark_as_they_are_large() -> None:
    svg = charts.shares([("1 source", [0.0, 1.0]), ("2", [math.nan, math.nan])], ["0", "1"], "outputs", "x")
    nodes = list(ElementTree.fromstring(svg).iter())
    assert [n.attrib["style"] for n in nodes if n.attrib.get("class") == "bar"] == ["opacity: 0.000", "opacity: 1.000"]
    assert [n.text for n in nodes if (n.text or "").endswith("%")] == ["0 %", "100 %"]
    assert charts.shares([], [], "outputs", "x") == ""
