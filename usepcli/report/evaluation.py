"""The page of an evaluation: scores with intervals, how they spread, and items to hear with their spectral holes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from usepcli.dsp import holes
from usepcli.report import charts, html, listen
from usepcli.report.html import escape
from usepcli.report.separation import DRAWN

Row = Mapping[str, Any]
COLUMNS, PEAK = 700, 0.99
FOLDED = 8
HOLES, SEPARATED = "Spectral holes", "separated"
_INTERVALS_SAID = "Intervals: 95 %. The line above the bars is the interval of the mean, not a range of single values."
_SPREAD_SAID = (
    "items, each the mean over its sources; a line from the 5th to the 95th percentile, a bar between the quartiles, "
    "the median across it (its value at the right), the mean as a dot"
)
_WITHIN_SAID = (
    " within items: what the items differ by is taken out, so that conditions can be told apart; not comparable "
    "with the interval of the mean above"
)
_HOLES_SAID = (
    f"Marked in an estimate, an oracle's too: where its reference sounds (within {holes.SOUNDING_DB:g} dB of its "
    f"loudest) and the estimate, brought to the reference's level, lies {holes.BELOW_DB:g} dB or more below it; "
    f"spectrograms of {1000 * holes.WINDOW_S:g} ms, means of {holes.SMOOTH} bins by {holes.SMOOTH} frames. Energy: "
    "the share of the sounding cells' energy that lies in holes; area: the share of these cells."
)


@dataclass
class Item:
    """An item to listen to: why it was chosen, its signals at `rate` Hz, and its rows of scores.

    mix (T,), est and ref (K,T), or with two channels (2,T) and (K,2,T).  beside: estimates of other systems, by name;
    those of `played` are heard, too.
    """

    why: str
    id: str
    sources: Sequence[str]
    est: np.ndarray
    ref: np.ndarray
    mix: np.ndarray | None
    rate: int
    rows: Sequence[Row]
    start_s: float = 0.0
    beside: Mapping[str, np.ndarray] = field(default_factory=dict)
    played: Collection[str] = ()


@dataclass
class Score:
    """One score over all items: its values, their unit, mean, interval, and its conditions where it has any.

    `beside`: all systems, this one among them, where there are others: (kind, mean with interval).
    `conditions`: the lines of each chart by (what tells them apart, whether their intervals are those within items).
    """

    name: str
    unit: str
    values: Sequence[float]
    mean: float
    low: float
    high: float
    conditions: Mapping[tuple[str, bool], Sequence[charts.Interval]] = field(default_factory=dict)
    beside: Sequence[tuple[str, charts.Interval]] = ()


class Spread(NamedTuple):
    """How the systems spread over groups of items: what is scored, its unit, and the systems of each group."""

    name: str
    unit: str
    groups: Sequence[tuple[str, Sequence[charts.Box]]]


@dataclass
class Evaluation:
    """Everything of the page but the items: facts, conventions, scores, and tables by heading, as (rows, columns).

    spreads: by the number of sources.  counted: for each number of sources the shares of items with 0, 1, ... outputs
    that sound, and what is said of them.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    scores: Sequence[Score]
    summary: tuple[Sequence[Row], Sequence[str]]
    conventions: Sequence[tuple[str, str]]
    chosen_by: str = ""
    tables: Mapping[str, tuple[Sequence[Row], Sequence[str]]] = field(default_factory=dict)
    spreads: Sequence[Spread] = ()
    counted: tuple[Sequence[tuple[str, Sequence[float]]], str] = ((), "")


class Shown:
    """Items turned into what the page holds, one at a time, so that their signals need not be kept."""

    def __init__(self) -> None:
        self.players: dict[str, Any] = {}
        self.lost: list[dict[str, Any]] = []
        self._sections: list[str] = []

    def add(self, item: Item) -> None:
        """Add an item: its sounds, pictures and holes."""
        key = f"item{len(self.players) + 1}"
        systems = {"": item.est, **item.beside}
        found = {
            name: [holes.find(e, r, item.rate) for e, r in zip(est, item.ref, strict=True)]
            for name, est in systems.items()
        }
        self.players[key] = _player(item, found)
        for name, of in found.items():
            who = {"system": name or SEPARATED} if item.beside else {}
            for source, hole in zip(item.sources, of, strict=True):
                told = {"item": item.id, "source": source, "holes_energy": hole.energy, "holes_area": hole.area}
                self.lost.append(told | who)
        self._sections.append(_section(item, key, found))

    def body(self) -> str:
        """Return the sections of all items."""
        return "\n".join(self._sections)


def evaluation_page(about: Evaluation, items: Shown) -> str:
    """Return the complete page."""
    summary, columns = about.summary
    parts = [
        f"<header><h1>{escape(about.title)}</h1></header>",
        _facts(about.facts),
        "<h2>Scores</h2>",
        table(summary, columns),
        f'<p class="quiet">{_INTERVALS_SAID}</p>',
        *(_distribution(score) for score in about.scores),
    ]
    if pictures := [*(_spread(spread) for spread in about.spreads), _counted(*about.counted)]:
        parts += ["<h2>By number of sources</h2>" if any(pictures) else "", *pictures]
    for by in dict.fromkeys(by for score in about.scores for by, _ in score.conditions):
        parts.append(f"<h2>By {escape(by)}</h2>")
        parts += [_conditions(score, by) for score in about.scores]
    for heading, (rows, names) in about.tables.items():
        # A table per condition can be long; what was listened for comes below it.
        opened = "" if len(rows) > FOLDED else " open"
        parts.append(f"<details{opened}><summary>{escape(heading)}</summary>{table(rows, names)}</details>")
    if items.players:
        chosen = f"Chosen by {about.chosen_by}, the mean over an item's sources."
        parts += [
            "<h2>Best, median and worst items</h2>",
            f'<p class="quiet">{escape(chosen)} Numbers switch between the tracks at the same moment; space plays. '
            f"{DRAWN}</p>",
            f'<p class="quiet">{escape(_HOLES_SAID)}</p>',
            items.body(),
        ]
    parts += ["<h2>What the numbers mean</h2>", _conventions(about.conventions)]
    return html.page(
        about.title, f'<main class="evaluation">{"".join(parts)}</main>', data={"players": items.players},
        styles=("page.css", "player.css", "evaluation.css"),
    )  # fmt: skip


def table(rows: Sequence[Row], columns: Sequence[str], digits: int = 2) -> str:
    """Return rows as a table that a click on a head sorts; numbers with `digits` decimals, - for none."""
    names = list(columns) or list(dict.fromkeys(name for row in rows for name in row))
    right = {
        name for name in names if rows and all(isinstance(row.get(name), (int, float, type(None))) for row in rows)
    }
    head = "".join(f'<th scope="col"{_right(name in right)}>{escape(name)}</th>' for name in names)
    lines = []
    for row in rows:
        cells = "".join(
            f"<td{_right(name in right)}{_value(row.get(name))}>{escape(cell(row.get(name), digits))}</td>"
            for name in names
        )
        lines.append(f"<tr>{cells}</tr>")
    body = "\n".join(lines)
    return (
        f'<div class="table"><table class="sortable"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def cell(value: Any, digits: int = 2) -> str:
    """Return a value as it is shown: - for none and nan, floats with `digits` decimals, small ones to two places."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, float):
        return f"{value:.{digits}f}" if abs(value) >= 10**-digits or value == 0 else f"{value:.2g}"
    return str(value)


def _right(yes: bool) -> str:
    return ' class="number"' if yes else ""


def _value(value: Any) -> str:
    return f' data-value="{value!r}"' if isinstance(value, float) and math.isfinite(value) else ""


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    inside = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return f'<dl class="facts">{inside}</dl>'


def _conventions(lines: Sequence[tuple[str, str]]) -> str:
    inside = "".join(f"<tr><th scope='row'>{escape(name)}</th><td>{escape(said)}</td></tr>" for name, said in lines)
    return f'<div class="table"><table class="plain"><tbody>{inside}</tbody></table></div>'


def _distribution(score: Score) -> str:
    chart = charts.histogram(score.values, score.unit, score.mean, score.low, score.high, score.beside)
    caption = f"{_measured(score)}: how many values lie where"
    if score.beside:
        caption += "; above, the means of all systems with their intervals"
    return _figure(chart, caption) if chart else ""


def _spread(spread: Spread) -> str:
    chart = charts.boxes(spread.groups, spread.unit, f"{spread.name} by number of sources")
    caption = f"{spread.name}, {spread.unit}" if spread.unit else spread.name
    return _figure(chart, f"{caption}: {_SPREAD_SAID}") if chart else ""


def _counted(rows: Sequence[tuple[str, Sequence[float]]], said: str) -> str:
    most = max((len(of) for _, of in rows), default=0)
    label = "outputs that sound, by number of sources"
    chart = charts.shares(rows, [str(n) for n in range(most)], "outputs that sound", label)
    return _figure(chart, said) if chart else ""


def _measured(score: Score) -> str:
    return f"{score.name}, {score.unit}" if score.unit else score.name


def _conditions(score: Score, by: str) -> str:
    drawn = []
    for (name, within), lines in score.conditions.items():
        label = f"{score.name} by {by}: means of items with 95 % intervals"
        chart = charts.intervals(lines, score.unit, label) if name == by else ""
        drawn.append(_figure(chart, label + _WITHIN_SAID if within else label) if chart else "")
    return "".join(drawn)


def _figure(chart: str, caption: str) -> str:
    return f"<figure>{chart}<figcaption>{escape(caption)}</figcaption></figure>"


def _section(item: Item, key: str, found: Mapping[str, Sequence[holes.Holes]]) -> str:
    beside, rows = "", list(item.rows)
    if item.beside:
        each = [
            {"source": source, **{name or SEPARATED: _share(of[k]) for name, of in found.items()}}
            for k, source in enumerate(item.sources)
        ]
        beside = f'<p class="quiet">{HOLES}: per cent of the energy (of the area)</p>{table(each, ())}'
    else:
        rows = [
            {**row, f"{HOLES.lower()}: energy %": round(100 * hole.energy, 2), "area %": round(100 * hole.area, 2)}
            for row, hole in zip(rows, found[""], strict=True)
        ]
    part = f", from {item.start_s:g} s on" if item.start_s else ""
    return (
        f'<section class="item"><h3>{escape(item.why)}: <code>{escape(item.id)}</code>{part}</h3>'
        f'{table(rows, ())}{beside}<div data-player="{key}"></div></section>'
    )


def _share(hole: holes.Holes) -> str:
    return f"{100 * hole.energy:.2f} ({100 * hole.area:.2f})" if math.isfinite(hole.energy) else cell(None)


def _player(item: Item, found: Mapping[str, Sequence[holes.Holes]]) -> dict[str, Any]:
    """Return what the script of the page needs for one item; all tracks share one gain, so that none clips."""
    played = {name: est for name, est in item.beside.items() if name in item.played}
    others = [wave for est in played.values() for wave in est]
    waves = [*([] if item.mix is None else [item.mix]), *item.est, *item.ref, *others]
    peak = max(float(np.abs(np.nan_to_num(wave)).max(initial=0)) for wave in waves)
    gain = min(1.0, PEAK / peak) if peak > 0 else 1.0
    tracks = [] if item.mix is None else [_track("Mixture", "mixture", None, item.mix, item.rate, gain)]
    for k, (wave, hole) in enumerate(zip(item.est, found[""], strict=True)):
        tracks.append(_track(f"Estimate of {item.sources[k]}", "estimate", k, wave, item.rate, gain, hole))
    for k, wave in enumerate(item.ref):
        tracks.append(_track(f"Reference {item.sources[k]}", "reference", k, wave, item.rate, gain))
    for name, est in played.items():
        for k, (wave, hole) in enumerate(zip(est, found[name], strict=True)):
            tracks.append(_track(f"{name.capitalize()}, {item.sources[k]}", "beside", k, wave, item.rate, gain, hole))
    return {
        "label": f"{item.why}: {item.id}", "duration": item.ref.shape[-1] / item.rate, "sound": "inside",
        "rate": listen.page_rate(item.rate), "tracks": tracks, "overlay_label": HOLES,
    }  # fmt: skip


def _track(
    name: str, kind: str, color: int | None, wave: np.ndarray, rate: int, gain: float, hole: holes.Holes | None = None
) -> dict[str, Any]:
    wave = np.nan_to_num(np.asarray(wave, np.float32)) * np.float32(gain)
    picture = listen.picture(wave, rate, COLUMNS)
    if hole is not None:
        times = (np.arange(picture["columns"]) + 0.5) * picture["step_s"]
        marks = holes.on_grid(hole, times, _rows_hz(picture))
        picture["overlay"] = listen.to_base64(marks.astype(np.uint8))
    note = "" if hole is None or not math.isfinite(hole.energy) else f"holes: {100 * hole.energy:.1f} % of the energy"
    return {
        "name": name, "kind": kind, "src": listen.encode(wave, rate), "picture": picture, "note": note,
        **({} if color is None else {"color": color}),
    }  # fmt: skip


def _rows_hz(picture: Mapping[str, Any]) -> np.ndarray:
    """Return the frequencies (rows,) in the middle of a picture's mel bands (report/listen.py)."""
    top = 2595 * np.log10(1 + picture["hz"][1] / 700)
    return np.asarray(700 * (10 ** (np.linspace(0, top, picture["rows"] + 2)[1:-1] / 2595) - 1))
