"""Small charts as inline SVG: how values spread, means with intervals, shares.  Colours come from the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from usepcli.report.html import escape

WIDTH = 640
_LEFT, _RIGHT, _TOP, _BARS, _ROW, _HIGH = 58, 10, 22, 110, 26, 38
_ALONG, _UP, _BESIDE = 8, 4, 5  # ticks at most: below bars, beside them, below lines
_LETTER = 12  # the width of one where letters are largest, on small screens
_LEAST_BINS, _MOST_BINS = 8, 40
_SAME = 1e-6  # of the largest value: what lies nearer together is one value


class Interval(NamedTuple):
    """One line of a chart of means: its label, the mean, both ends of its interval (nan for none) and how many."""

    label: str
    mean: float
    low: float
    high: float
    n: int


class Box(NamedTuple):
    """One line of a chart of spreads: its label, what kind of system it is (see `KINDS`), and its values."""

    label: str
    kind: str
    values: Sequence[float]


OWN, ORACLE, MIXTURE = KINDS = ("own", "oracle", "mixture")  # what is scored, and what stands beside: classes of CSS


def histogram(
    values: Sequence[float],
    unit: str,
    mean: float,
    low: float,
    high: float,
    beside: Sequence[tuple[str, Interval]] = (),
) -> str:
    """Return how finite values (n,) are distributed, with their mean and its interval; '' for none.

    Bins follow Freedman and Diaconis (1981), 8 to 40 of them; how many values lie in one says the axis at the left.
    beside: (kind, mean with interval) of every system, the one of the values among them, each a line above the bars.
    """
    finite = _finite(values)
    if not len(finite):
        return ""
    beside = [(kind, line) for kind, line in beside if math.isfinite(line.mean)]
    edges = _edges(finite)
    counts, _ = np.histogram(finite, edges)
    ends = _ends([edges[0], edges[-1]], [line for _, line in beside])
    scale = _Scale(*ends, _LEFT, WIDTH - _RIGHT)
    top = _HIGH * len(beside) or _TOP
    base, most = top + _BARS, int(counts.max())
    parts = _counts(most, base)
    for count, start, stop in zip(counts, edges[:-1], edges[1:], strict=True):
        height = _BARS * count / most
        told = f"{count} from {start:.3g} to {stop:.3g} {unit}".strip()
        parts.append(
            f'<rect class="bar" x="{scale(start) + 0.5:.1f}" y="{base - height:.1f}" '
            f'width="{max(1, scale(stop) - scale(start) - 1):.1f}" height="{height:.1f}"><title>{escape(told)}</title>'
            "</rect>"
        )
    if beside:
        parts += [part for row, one in enumerate(beside) for part in _anchor(*one, _HIGH * (row + 1) - 8, base, scale)]
    else:
        parts.append(f'<line class="mean" x1="{scale(mean):.1f}" x2="{scale(mean):.1f}" y1="8" y2="{base}"/>')
        if math.isfinite(low) and math.isfinite(high):
            left, right = scale.inside(low), scale.inside(high)
            parts.append(f'<line class="interval" x1="{left:.1f}" x2="{right:.1f}" y1="8" y2="8"/>')
    label = f"{len(finite)} values from {finite.min():.2f} to {finite.max():.2f} {unit}, mean {mean:.2f}"
    return _svg("bars", base + 24, label, parts + _axis(scale, base, _ALONG))


def _finite(values: Sequence[float]) -> np.ndarray:
    return np.array([value for value in values if math.isfinite(value)], np.float64)


def _ends(edges: Sequence[float], lines: Sequence[Interval]) -> tuple[float, float]:
    """Return both ends of an axis on which bars and the means of all systems have room."""
    found = [float(x) for x in (*edges, *(x for line in lines for x in line[1:4])) if math.isfinite(x)]
    least, most = min(found), max(found)
    room = 0.02 * (most - least) if lines else 0.0
    return least - room * (least < edges[0]), most + room * (most > edges[-1])


def _anchor(kind: str, line: Interval, y: float, base: float, scale: _Scale) -> list[str]:
    """Return one system above the bars: its name, interval and mean, and where it meets the axis."""
    x = scale(line.mean)
    parts = [f'<line class="mean {kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{base}"/>']
    if math.isfinite(line.low) and math.isfinite(line.high):
        ends = scale(line.low), scale(line.high)
        parts.append(f'<line class="whisker {kind}" x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
    parts.append(f'<circle class="dot {kind}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
    # Where letters are largest, a label has half of the width.
    third = int(3 * x / WIDTH)
    side, at = ((" start", x - 5), (" middle", x), (" end", x + 5))[min(max(third, 0), 2)]
    parts.append(f'<text class="anchor {kind}{side}" x="{at:.1f}" y="{y - 11:.1f}">{escape(line.label)}</text>')
    return parts


def boxes(groups: Sequence[tuple[str, Sequence[Box]]], unit: str, label: str) -> str:
    """Return how the values of several systems spread, group by group, on one axis; '' where there are none.

    From the 5th to the 95th percentile a line, between the quartiles a bar, the median across it, the mean a dot.
    """
    drawn = [
        (name, [(box, np.array([v for v in box.values if math.isfinite(v)])) for box in of]) for name, of in groups
    ]
    drawn = [(name, [one for one in of if len(one[1])]) for name, of in drawn]
    found = [np.quantile(values, _SHOWN) for _, of in drawn for _, values in of]
    if not found:
        return ""
    low, high = float(np.min(found)), float(np.max(found))
    span = (high - low) or abs(low) or 1.0
    scale = _Scale(low - 0.04 * span, high + 0.04 * span, 190, WIDTH - 120)
    parts, y = [], 8.0
    for name, of in drawn:
        if name and of:
            parts.append(f'<text class="group" x="8" y="{y + _ROW - 9:.0f}">{escape(name)}</text>')
            y += _ROW
        for box, values in of:
            parts += _box(box, values, unit, y + _ROW / 2, scale)
            y += _ROW
    return _svg("means", y + 24, label, parts + _axis(scale, y, _BESIDE))


_SHOWN = (0.05, 0.25, 0.5, 0.75, 0.95)


def _box(box: Box, values: np.ndarray, unit: str, y: float, scale: _Scale) -> list[str]:
    first, lower, middle, upper, last = (scale(float(q)) for q in np.quantile(values, _SHOWN))
    median, mean = float(np.median(values)), float(values.mean())
    told = f"{box.label}: median {median:.2f}, mean {mean:.2f} {unit}".rstrip() + f", n = {len(values)}"
    value = escape(f"{median:.2f} {unit}".strip())
    name = f"{escape(_short(box.label))}<title>{escape(box.label)}</title>"
    size = f'x="{lower:.1f}" y="{y - 7:.1f}" width="{max(1.0, upper - lower):.1f}" height="14"'
    return [
        f'<text class="label" x="180" y="{y + 4:.0f}">{name}</text>',
        f'<line class="whisker {box.kind}" x1="{first:.1f}" x2="{last:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>',
        f'<rect class="box {box.kind}" {size}><title>{escape(told)}</title></rect>',
        f'<line class="median" x1="{middle:.1f}" x2="{middle:.1f}" y1="{y - 7:.1f}" y2="{y + 7:.1f}"/>',
        f'<circle class="dot {box.kind}" cx="{scale.inside(mean):.1f}" cy="{y:.1f}" r="4"/>',
        f'<text class="value" x="{WIDTH - 112}" y="{y + 4:.0f}">{value}, n={len(values)}</text>',
    ]


def shares(rows: Sequence[tuple[str, Sequence[float]]], columns: Sequence[str], across: str, label: str) -> str:
    """Return shares from 0 to 1 as a table of cells, the darker the more, with per cent in each; '' for none.

    rows: (label, share for each column), nan for none; across: what the columns count.
    """
    rows = [(name, of) for name, of in rows if any(math.isfinite(x) for x in of)]
    if not rows:
        return ""
    left, top = 190, 44
    wide = min(90.0, (WIDTH - left - _RIGHT) / len(columns))
    parts = [f'<text class="tick" x="{left + wide * len(columns) / 2:.0f}" y="14">{escape(across)}</text>']
    for n, name in enumerate(columns):
        parts.append(f'<text class="tick" x="{left + wide * (n + 0.5):.1f}" y="{top - 10}">{escape(name)}</text>')
    for r, (name, of) in enumerate(rows):
        y = top + 30 * r
        parts.append(f'<text class="label" x="{left - 10}" y="{y + 19}">{escape(_short(name))}</text>')
        for n, share in enumerate(of):
            x, dark = left + wide * n, " full" if share > 0.6 else ""
            parts.append(f'<rect class="line" x="{x + 1:.1f}" y="{y + 1}" width="{wide - 2:.1f}" height="28"/>')
            parts.append(
                f'<rect class="bar" style="opacity: {share:.3f}" x="{x + 1:.1f}" y="{y + 1}" width="{wide - 2:.1f}" '
                'height="28"/>'
            )
            parts.append(f'<text class="share{dark}" x="{x + wide / 2:.1f}" y="{y + 19}">{100 * share:.0f} %</text>')
    return _svg("means", top + 30 * len(rows) + 6, label, parts)


def intervals(lines: Sequence[Interval], unit: str, label: str) -> str:
    """Return means as dots with their intervals, one line each, on one axis; '' where no mean is finite."""
    ends = [x for line in lines for x in (line.mean, line.low, line.high) if math.isfinite(x)]
    if not ends:
        return ""
    span = (max(ends) - min(ends)) or abs(ends[0]) or 1.0
    scale = _Scale(min(ends) - 0.05 * span, max(ends) + 0.05 * span, 190, WIDTH - 120)
    parts = []
    for row, line in enumerate(lines):
        y = 8 + _ROW * row + _ROW / 2
        parts.append(
            f'<text class="label" x="180" y="{y + 4:.0f}">{escape(_short(line.label))}'
            f"<title>{escape(line.label)}</title></text>"
        )
        if not math.isfinite(line.mean):
            parts.append(f'<text class="value" x="{WIDTH - 112}" y="{y + 4:.0f}">no value</text>')
            continue
        if math.isfinite(line.low) and math.isfinite(line.high):
            x1, x2 = scale(line.low), scale(line.high)
            parts.append(f'<line class="whisker" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y:.0f}" y2="{y:.0f}"/>')
        told = f"{line.label}: {line.mean:.2f} [{line.low:.2f}, {line.high:.2f}] {unit}, n = {line.n}"
        parts.append(
            f'<circle class="dot" cx="{scale(line.mean):.1f}" cy="{y:.0f}" r="5"><title>{escape(told)}</title></circle>'
        )
        value = escape(f"{line.mean:.2f} {unit}".strip())
        parts.append(f'<text class="value" x="{WIDTH - 112}" y="{y + 4:.0f}">{value}, n={line.n}</text>')
    base = 8 + _ROW * len(lines)
    return _svg("means", base + 24, label, parts + _axis(scale, base, _BESIDE))


class _Scale:
    """Values to positions along the width."""

    def __init__(self, low: float, high: float, left: float, right: float) -> None:
        self.low, self.high, self.left, self.right = low, high, left, right

    def __call__(self, value: float) -> float:
        return self.left + (value - self.low) / (self.high - self.low) * (self.right - self.left)

    def inside(self, value: float) -> float:
        return self(min(max(value, self.low), self.high))


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return at most `most` + 1 multiples of 1, 2 or 5 times a power of ten between low and high."""
    step = 10 ** math.floor(math.log10((high - low) / most))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def _edges(finite: np.ndarray) -> np.ndarray:
    if finite.max() - finite.min() <= _SAME * np.abs(finite).max():
        return np.array([finite[0] - 0.5, finite[0] + 0.5])
    bins = len(np.histogram_bin_edges(finite, "fd")) - 1
    return np.asarray(np.histogram_bin_edges(finite, min(max(_LEAST_BINS, bins), _MOST_BINS)))


def _axis(scale: _Scale, base: float, most: int) -> list[str]:
    parts = [f'<line class="axis" x1="{scale.left}" x2="{scale.right}" y1="{base}" y2="{base}"/>']
    found = ticks(scale.low, scale.high, most)
    for tick, label in zip(found, labels(found), strict=True):
        x = scale(tick)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 4}"/>')
        end = " end" if x + _LETTER / 2 * len(label) > WIDTH else ""  # or it would be cut off at the edge
        parts.append(
            f'<text class="tick{end}" x="{min(x, WIDTH - 2) if end else x:.1f}" y="{base + 17}">{label}</text>'
        )
    return parts


def _counts(most: int, base: float) -> list[str]:
    """Return the axis of counts up to `most`, whole numbers with a line across the bars for each."""
    parts = []
    for count in ticks(0, most, min(_UP, most)):
        y = base - _BARS * count / most
        if count:
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick end" x="{_LEFT - 6}" y="{y + 4:.1f}">{count:.0f}</text>')
    return parts


def labels(found: Sequence[float]) -> list[str]:
    """Return ticks as text, all with as many decimals as tell them apart."""
    if len(found) < 2:
        return [f"{tick:g}" for tick in found]
    step = found[1] - found[0]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{tick + 0.0:.{decimals}f}" if abs(tick) > step / 2 else f"{0:.{decimals}f}" for tick in found]


def _short(text: str, most: int = 23) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _svg(kind: str, height: float, label: str, parts: Sequence[str]) -> str:
    inside = "\n".join(parts)
    head = f'class="chart {kind}" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}"'
    return f"<svg {head}>\n{inside}\n</svg>"
