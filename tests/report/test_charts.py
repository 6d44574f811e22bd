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
