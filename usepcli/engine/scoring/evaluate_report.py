"""`report.html` of an evaluation: which items are to be heard, their signals made again, and what the page says."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usepcli.engine import tables
from usepcli.engine.scoring import anchors, listening, results
from usepcli.engine.scoring.conditions import item_means
from usepcli.engine.scoring.evaluate import UNPROCESSED
from usepcli.engine.scoring.results import Results
from usepcli.engine.scoring.systems import System
from usepcli.engine.tables import Scores
from usepcli.errors import UsageError, choices
from usepcli.report import charts, evaluation, html
from usepcli.weights.cards import outputs

if TYPE_CHECKING:
    import numpy as np

    from usepcli.engine.scoring.scoring import Signals

EACH = 2  # items of each kind to listen to
PLAYED = 1  # oracles that are heard
EXCERPT_S = 30.0  # of an item: a page of minutes would be too large to send
RANKS = ("Best", "Median", "Worst")


def write(
    out: Path,
    found: Results,
    record: Mapping[str, Any],
    scored: Sequence[Scores],
    scores: Sequence[str],
    system: System,
    score: str = "",
    beside: Callable[[Signals], Mapping[str, np.ndarray]] = lambda signals: {},
) -> tuple[Path, list[Scores]]:
    """Write report.html into `out` and return its path and the shares lost to spectral holes, per item and source.

    scored: rows with id, source and one number per score; score: what the items are chosen by, '' for the first that
    most items have; beside: the estimates of other systems of an item.  UsageError for a score that is none of these.
    """
    if score and score not in scores:
        raise UsageError(choices("score for --report-by", score, scores))
    ranked = score or _commonest(scored, scores)
    shown = evaluation.Shown()
    for why, item in chosen(scored, ranked, higher_is_better(ranked)):
        shown.add(_item(system, beside, why, item, found.tables[results.ITEMS][0]))
    systems = anchors.systems(found, scored)
    about = evaluation.Evaluation(
        title=_title(found), facts=_facts(found, record),
        scores=[_score(name, scored, found, systems) for name in scores],
        summary=(found.summary, found.columns()), conventions=_lines(found.conventions), chosen_by=ranked,
        tables={heading: found.tables[name] for name, heading in _TABLES.items() if _has(found, name)},
        spreads=anchors.spreads(found, systems, scores), counted=anchors.counted(found),
    )  # fmt: skip
    return html.save(out / results.REPORT, evaluation.evaluation_page(about, shown), overwrite=True), shown.lost


_TABLES = {
    results.VERSUS: "Against earlier evaluations", results.COMPARED: "Beside published numbers",
    results.STATS: "How the scores spread", results.CONFUSION: "Counted sources", results.WORDS: "Word errors",
}  # fmt: skip


def _has(found: Results, name: str) -> bool:
    return bool(name in found.tables and found.tables[name][0])


def chosen(rows: Sequence[Scores], score: str, higher: bool = True, each: int = EACH) -> list[tuple[str, str]]:
    """Return (rank, item) of the best, the median and the worst items by the mean of a score over their sources.

    No item comes twice: of few items each is best or worst first, and the median are what is left in the middle.
    """
    means = item_means(rows, score)
    order = sorted(means, key=lambda item: (-means[item] if higher else means[item], item))
    ends = min(each, len(order) // 2) if len(order) > 1 else len(order)
    best, rest = order[:ends], order[ends:]
    worst = rest[max(0, len(rest) - ends) :][::-1] if len(order) > 1 else []
    middle = rest[: len(rest) - len(worst)]
    first = max(0, (len(middle) - each + 1) // 2)
    median = middle[first : first + each]
    return [(rank, item) for rank, items in zip(RANKS, (best, median, worst), strict=True) for item in items]


def higher_is_better(score: str) -> bool:
    """Return whether more of a score is better; the scores of protocols are improvements in dB."""
    from usepcli import registry
    from usepcli.engine.scoring import scoring

    return bool(scoring.metric(score).higher_is_better) if score in registry.METRICS else True


def _commonest(rows: Sequence[Scores], scores: Sequence[str]) -> str:
    # Protocols begin with 1S, which only mixtures of one source have.
    return max(scores, key=lambda name: len(item_means(rows, name)))


def _item(
    system: System,
    beside: Callable[[Signals], Mapping[str, np.ndarray]],
    why: str,
    item: str,
    rows: Sequence[Mapping[str, Any]],
) -> evaluation.Item:
    signals, others = system.beside(item, beside)
    rate, masks = signals.rate or 1, [name for name in others if name != UNPROCESSED]
    start, stop = listening.excerpt(signals.ref, rate, EXCERPT_S)
    own = {str(row["source"]): row for row in rows if row["id"] == item}
    columns = [
        key
        for key in dict.fromkeys(key for row in own.values() for key in row)
        if key not in _PASSED_OVER and any(row.get(key) not in ("", None) for row in own.values())
    ]
    told = [{"source": name, **{key: own.get(name, {}).get(key) for key in columns}} for name in signals.sources]
    return evaluation.Item(
        why, item, signals.sources, signals.est[..., start:stop], signals.ref[..., start:stop],
        None if signals.mix is None else signals.mix[..., start:stop], rate, told, start / rate,
        {name: others[name].est[..., start:stop] for name in [*masks, *(others.keys() - masks)]}, masks[:PLAYED],
    )  # fmt: skip


_PASSED_OVER = ("id", "source", "n_src")


def _score(name: str, rows: Sequence[Scores], found: Results, systems: Sequence[anchors.Scored]) -> evaluation.Score:
    values = [row[name] for row in rows if math.isfinite(row[name])]
    of = tables.summarise(values, [row["id"] for row in rows if math.isfinite(row[name])])
    unit = anchors.unit_of(name)
    conditions: dict[tuple[str, bool], list[charts.Interval]] = {}
    for row in found.tables.get(results.STATS, ([], ()))[0]:
        if row["metric"] == name:
            line = charts.Interval(str(row["condition"]), row["mean"], row["ci95_low"], row["ci95_high"], row["n"])
            conditions.setdefault((str(row["by"]), row["kind"] == "within"), []).append(line)
    beside = anchors.means(name, unit, systems) if len(systems) > 1 else []
    return evaluation.Score(name, unit, values, of.mean, of.ci95_low, of.ci95_high, conditions, beside)


def _title(found: Results) -> str:
    if "model" in found.facts:
        return f"Evaluation of {found.facts['model']['ref']}"
    if found.facts.get("oracle"):
        of = (found.facts.get("data") or {}).get("manifest") or found.facts.get("references")
        return f"Bounds of {Path(str(of)).parent.name if str(of).endswith('.csv') else Path(str(of)).name}"
    return f"Evaluation of {Path(str(found.facts.get('estimates', 'separated files'))).name}"


def _facts(found: Results, record: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = found.facts
    lines: list[tuple[str, str]] = []
    if model := facts.get("model"):
        lines += [("Model", f"{model['ref']} ({model['architecture']}, {outputs(model['n_src'])})")]
        lines += [("Trained by", str(model["objective"])), ("Weights, sha256", str(model["sha256"])[:16])]
    if facts.get("oracle"):
        lines += [("Scored", f"oracle {facts['oracle']}: masks from the references")]
    if data := facts.get("data"):
        lines += [("Data", str(data["manifest"])), ("Split", str(data["split"] or "unnamed"))]
        lines += [("Rate", f"{data['sample_rate']} Hz")]
    lines += [
        (name.capitalize(), str(facts[name])) for name in ("estimates", "references", "mixtures") if facts.get(name)
    ]
    lines += [("Items", str(record["items"])), ("Sources", str(record["rows"]))]
    lines += [("Protocol", str(found.conventions.get("name", ""))), ("usep", str(record["versions"]["usep"]))]
    return lines


def _lines(conventions: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, said in conventions.items():
        if isinstance(said, Mapping):
            found += _lines(said, f"{name}: ")
        else:
            found.append((before + name, str(said)))
    return found
