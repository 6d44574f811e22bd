"""This evaluation against earlier ones of the same data, by the same protocol, source by source."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from usepcli.engine import tables
from usepcli.engine.scoring import assigning, fuss_scores, protocols
from usepcli.engine.scoring.results import ITEMS, RECORD, well_formed
from usepcli.engine.tables import Scores
from usepcli.errors import BadInput, InputNotFound
from usepcli.files import read_json
from usepcli.report import stats

COLUMNS = ("versus", "metric", "difference", "ci95_low", "ci95_high", "p_wilcoxon", "n", "items", "unpaired")
NOTES = {
    "difference": "this evaluation minus the other, mean over the pairs that have both values",
    "interval": f"95 %, percentiles of {stats.RESAMPLES} bootstrap draws of whole items",
    "p_wilcoxon": "two-sided signed-rank test of the items' mean differences",
    "unpaired": "values that only one of the two has; left out",
}


class Evaluation(NamedTuple):
    """An earlier evaluation: its table, its rows as text, and what its evaluate.json says."""

    place: Path
    rows: list[dict[str, str]]
    record: dict[str, Any]


def table(place: Path) -> Path:
    """Return the table of an earlier evaluation: the file named, or items.csv in the folder named."""
    return place / ITEMS if place.is_dir() else place


def read(place: Path) -> Evaluation:
    """Read items.csv, or the folder that holds it, and the evaluate.json beside it; InputNotFound, BadInput."""
    path = table(place)
    rows = tables.read_csv(path, own=True)
    if not rows or not {"id", "source"} <= set(rows[0]):
        raise BadInput(f"{path}: expected columns id and source with at least one row; give an items.csv of usep")
    beside = path.parent / RECORD
    try:
        record = read_json(beside)
    except FileNotFoundError as fault:
        raise InputNotFound(f"{beside}: no such file; it says what {path.name} was scored on: score again") from fault
    except ValueError as fault:
        raise BadInput(f"{beside}: not JSON ({fault}); score again") from fault
    if not isinstance(record, dict) or not well_formed(record):
        raise BadInput(f"{beside}: no record of an evaluation, or damaged; score again")
    if path.name == ITEMS and len(rows) < int(record.get("rows") or 0):
        raise BadInput(
            f"{path}: {len(rows)} rows, {beside.name} says {record['rows']} were written; the table is cut short: "
            "score again, or give a table of your own another name"
        )
    return Evaluation(path, rows, record)


def refuse_unlike(facts: Mapping[str, Any], conventions: Mapping[str, Any], other: Evaluation) -> None:
    """BadInput unless the other evaluation scored the same data and split by the same protocol and conventions."""
    ours, theirs = (_protocol_name(of) for of in (conventions, other.record.get("protocol") or {}))
    if ours != theirs:
        raise BadInput(
            f"{other.place}: scored by protocol {theirs}, this by {ours}: no comparison means anything; "
            "score one of them again by the other's"
        )
    assigning.refuse_unlike(conventions, other.record.get("protocol") or {}, other.place)
    why = _unlike_data(facts, other.record)
    if why:
        raise BadInput(f"{other.place}: {why}; score both on the same data and split")
    how = (facts.get("settings") or {}).get("channels", "each")
    heard = other.record.get("channels") or {}
    if heard.get("most", 1) > 1 and heard.get("how") != how:
        raise BadInput(f"{other.place}: scored with --channels {heard.get('how')}, this with {how}; score both alike")
    here, there = conventions.get("metrics") or {}, (other.record.get("protocol") or {}).get("metrics") or {}
    for name in set(here) & set(there):
        if here[name] != there[name]:
            raise BadInput(f"{other.place}: {name} was '{there[name]}', now it is '{here[name]}'; score it again")


def _protocol_name(conventions: Mapping[str, Any]) -> str:
    return str(conventions.get("name") or protocols.OWN)


def _unlike_data(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """Return why two records are not of the same data, '' if they are."""
    a, b = ours.get("data"), theirs.get("data")
    if a and b:
        if a["split"] != b.get("split"):
            return f"scored on split '{b.get('split')}', this on '{a['split']}'"
        if b.get("sample_rate", a["sample_rate"]) != a["sample_rate"]:
            return f"scored at {b['sample_rate']} Hz, this at {a['sample_rate']} Hz"
        same = b["sha256"] == a["sha256"] if "sha256" in b else b.get("manifest") == a["manifest"]
        return "" if same else f"scored on {b.get('manifest')}, this on {a['manifest']}, with other items or settings"
    if not a and not b:
        here, there = ours.get("references"), theirs.get("references")
        return "" if here == there else f"its references are {there}, here {here}"
    # A model against anybody's files: the references have to lie where the manifest's sources do.
    table, folder = (a or b), Path(str((theirs if a else ours).get("references")))
    roots = [Path(str(table.get("root"))), Path(str(table.get("manifest"))).resolve().parent] if table else []
    inside = any(folder.resolve().is_relative_to(root) for root in roots)
    return "" if inside else f"one was scored on {table and table.get('manifest')}, the other on {folder}"


def columns(rows: Sequence[Mapping[str, Any]], conventions: Mapping[str, Any]) -> tuple[list[Scores], list[str]]:
    """Return what the means of an evaluation run over, rows with id, source and one number per score, and its scores.

    rows: items.csv, as numbers or as text.
    """
    name = _protocol_name(conventions)
    if name != protocols.OWN:
        return fuss_scores.columns(rows, protocols.find(name)), fuss_scores.names(rows)
    scores = [score for score in conventions.get("metrics") or {} if score in rows[0]]
    return [
        {"id": row["id"], "source": row["source"], **{score: tables.number(row[score]) for score in scores}}
        for row in rows
    ], scores


def differences(ours: Sequence[Scores], scores: Sequence[str], other: Evaluation, seed: int = 0) -> list[Scores]:
    """Return per score that both have one row of COLUMNS; BadInput where no pair has both values."""
    try:
        rows, known = columns(other.rows, other.record.get("protocol") or {})
    except (ValueError, KeyError, TypeError) as fault:
        raise BadInput(f"{other.place}: a row that no evaluation wrote ({str(fault)[:100]}); score again") from fault
    result = []
    for score in (name for name in scores if name in known):
        here, there = _by_key(ours, score), _by_key(rows, score)
        pairs = [key for key in here if key in there]
        if not pairs:
            continue
        found = stats.paired([here[key] - there[key] for key in pairs], [item for item, _ in pairs], seed)
        result.append(
            {
                "versus": str(other.place), "metric": score, "difference": found.mean, "ci95_low": found.ci95_low,
                "ci95_high": found.ci95_high, "p_wilcoxon": found.p_wilcoxon, "n": found.n, "items": found.groups,
                "unpaired": len(here.keys() ^ there.keys()),
            }
        )  # fmt: skip
    if not result:
        raise BadInput(
            f"{other.place}: no score in common ({', '.join(known) or 'none'} there, {', '.join(scores)} here)"
        )
    return result


def _by_key(rows: Sequence[Scores], score: str) -> dict[tuple[str, str], float]:
    return {(row["id"], row["source"]): row[score] for row in rows if math.isfinite(row[score])}
