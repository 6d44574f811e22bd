"""Small charts as inline SVG: how values are distributed, means with their intervals.  Colours come from the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from usepcli.report.html import escape

WIDTH = 640
_LEFT, _RIGHT, _TOP, _BARS, _ROW = 58, 10, 22, 110, 26
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


def histogram(values: Sequence[float], unit: str, mean: float, low: float, high: float) -> str:
    """Return how finite values (n,) are distributed, with their mean and its interval; '' for none.

    Bins follow Freedman and Diaconis (1981), 8 to 40 of them; how many values lie in one says the axis at the left.
    """
    finite = np.array([value for value in values if math.isfinite(value)], np.float64)
    if not len(finite):
        return ""
    edges = _edges(finite)
    counts, _ = np.histogram(finite, edges)
    scale = _Scale(float(edges[0]), float(edges[-1]), _LEFT, WIDTH - _RIGHT)
    base, most = _TOP + _BARS, int(counts.max())
    parts = _counts(most, base)
    for count, start, stop in zip(counts, edges[:-1], edges[1:], strict=True):
        height = _BARS * count / most
        told = f"{count} from {start:.3g} to {stop:.3g} {unit}".strip()
        parts.append(
            f'<rect class="bar" x="{scale(start) + 0.5:.1f}" y="{base - height:.1f}" '
            f'width="{max(1, scale(stop) - scale(start) - 1):.1f}" height="{height:.1f}"><title>{escape(told)}</title>'
            "</rect>"
        )
    parts.append(f'<line class="mean" x1="{scale(mean):.1f}" x2="{scale(mean):.1f}" y1="8" y2="{base}"/>')
    if math.isfinite(low) and math.isfinite(high):
        left, right = scale.inside(low), scale.inside(high)
        parts.append(f'<line class="interval" x1="{left:.1f}" x2="{right:.1f}" y1="8" y2="8"/>')
    label = f"{len(finite)} values from {finite.min():.2f} to {finite.max():.2f} {unit}, mean {mean:.2f}"
    return _svg("bars", base + 24, label, parts + _axis(scale, base, _ALONG))


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
