"""What is scored between its anchors, for pictures: oracles as upper bounds, and the mixture as every estimate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from usepcli import registry
from usepcli.engine import tables
from usepcli.engine.scoring import results, scoring, versus
from usepcli.engine.scoring.conditions import item_means
from usepcli.engine.scoring.evaluate import ORACLE, UNPROCESSED
from usepcli.engine.scoring.fuss_scores import RATES
from usepcli.engine.scoring.results import Results
from usepcli.engine.tables import Scores
from usepcli.report import charts
from usepcli.report.evaluation import Spread


class Scored(NamedTuple):
    """A system: its name, its kind (charts.KINDS), what its means run over, and the number of sources of each item."""

    name: str
    kind: str
    rows: Sequence[Scores]
    sources: Mapping[str, int]


def systems(found: Results, own: Sequence[Scores]) -> list[Scored]:
    """Return oracles, what is scored and the mixture in the summary's order; own: as versus.columns gives it."""
    tables_of = (results.ORACLES, results.ASSIGNED, results.PROJECTED, results.UNTOUCHED)
    beside = [row for name in tables_of for row in found.tables.get(name, ([], ()))[0]]
    scored = f"{ORACLE}{found.facts['oracle']}" if found.facts.get("oracle") else results.SEPARATED
    named = [str(row.get("system", results.SEPARATED)) for row in found.summary]
    made = []
    for name in dict.fromkeys(named):
        raw = [row for row in beside if row["system"] == name]
        if not raw and name != scored:  # has means, but no items
            continue
        rows = versus.columns(raw, found.conventions)[0] if raw else own
        whose = raw or found.tables[results.ITEMS][0]
        kind = charts.MIXTURE if name == UNPROCESSED else charts.ORACLE if name.startswith(ORACLE) else charts.OWN
        kind = kind if raw else charts.OWN
        made.append(Scored(name, kind, rows, _counts(whose)))
    return made


def _counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many sources each item has; under a protocol, how many that sound."""
    return {str(row["id"]): int(row["k"] if "k" in row else row["n_src"]) for row in rows}


def unit_of(score: str) -> str:
    """Return the unit of a score; the scores of protocols are in dB."""
    return str(scoring.metric(score).unit) if score in registry.METRICS else "dB"


def means(score: str, unit: str, found: Sequence[Scored]) -> list[tuple[str, charts.Interval]]:
    """Return (kind, mean with its interval) of every system."""
    made = []
    for one in found:
        pairs = [(row[score], row["id"]) for row in one.rows if math.isfinite(row[score])]
        of = tables.summarise([value for value, _ in pairs], [item for _, item in pairs])
        label = f"{one.name}: {of.mean:.2f} {unit}".strip()
        made.append((one.kind, charts.Interval(label, of.mean, of.ci95_low, of.ci95_high, of.n)))
    return made


def spreads(found: Results, every: Sequence[Scored], scores: Sequence[str]) -> list[Spread]:
    """Return how the systems spread by number of sources; none where one system has items of one number.

    Protocols score one source absolutely and more of them as improvements: these have axes of their own.
    """
    counts = sorted({count for one in every for count in one.sources.values() if count})
    if len(every) < 2 and len(counts) < 2:
        return []
    if not found.conventions.get("paper"):
        return [_spread(name, unit_of(name), [(_sources(k), name, k) for k in counts], every) for name in scores]
    several = [(_sources(k), f"{k}Si", k) for k in counts if k > 1]
    return [
        _spread("1S: SI-SNR of one source", "dB", [("", "1S", k) for k in counts if k == 1], every),
        _spread("Improvement of SI-SNR", "dB", several, every),
    ]


def _spread(name: str, unit: str, groups: Sequence[tuple[str, str, int]], every: Sequence[Scored]) -> Spread:
    """Return the spread of groups: heading, score, number of sources."""
    return Spread(
        name, unit,
        [(heading, [charts.Box(s.name, s.kind, _values(s, score, k)) for s in every]) for heading, score, k in groups],
    )  # fmt: skip


def _sources(count: int) -> str:
    return f"{count} source{'s' * (count > 1)}"


def _values(of: Scored, score: str, count: int) -> list[float]:
    """Return the means of the items with so many sources."""
    return [value for item, value in item_means(of.rows, score).items() if of.sources.get(item) == count]


def counted(found: Results) -> tuple[list[tuple[str, list[float]]], str]:
    """Return for each number of sources the shares of items with 0, 1, ... sounding outputs, and the rates in words."""
    rows = found.tables.get(results.CONFUSION, ([], ()))[0]
    made = [
        (f"{_sources(int(row['k']))}, {row['items']} items", [v for name, v in row.items() if name.startswith("est_")])
        for row in rows
    ]
    # Of oracles and the mixture there are none.
    rate = {row["metric"]: row["mean"] for row in found.summary if row["metric"] in RATES}
    said = ", ".join(f"{name} {100 * rate[name]:.0f} %" for name in RATES if name in rate)
    return made, f"Outputs that sound, by number of sources. Items with fewer, as many and more outputs: {said}."
