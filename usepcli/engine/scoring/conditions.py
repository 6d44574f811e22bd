"""How scores spread within and between conditions: kinds of mixtures, or several systems on the same mixtures.

The example is the mixture: its score is the mean over its sources.  Where the conditions share their mixtures (several
systems), the spread is the one within a mixture (report/stats.py); elsewhere it is the plain one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from usepcli.engine.tables import Scores
from usepcli.errors import UsageError, choices
from usepcli.report import stats

if TYPE_CHECKING:
    from usepcli.data.manifest import Manifest
    from usepcli.engine.scoring.jobs import Measures

COLUMNS = (
    "metric", "by", "condition", "kind", "n", "mean", "sd", "band95", "ci95_low", "ci95_high", "dropped",
)  # fmt: skip
BY = ("label", "origin", "speakers", "split", "condition", "n_src", "source", "query", "k")
NOTES = {
    "n": "items; the score of an item is the mean over its sources",
    "sd": "kind within: what is left when each item's mean over conditions is made equal (Cousineau 2005, with the "
    "factor J/(J-1) of Morey 2008); kind between: plain; pooled: about each condition's mean",
    "band95": "1.96 sd, a band for single items, no confidence interval",
    "interval": "95 %, mean -+ t sd / sqrt(n), Student's t with n-1 degrees of freedom as in summary.csv; pooled: with "
    "those of its sd, n-J between and (n-1)(J-1) within J conditions",
    "dropped": "items that lack a score in some condition; left out, kind within only",
}


def check(wanted: Measures, spread: bool, by: str, versus: Sequence[Path], compare: str) -> None:
    """UsageError for comparisons that the scores do not allow."""
    asked = wanted.unprocessed or wanted.consistency or spread or by or versus
    if asked and not wanted.metrics and not wanted.protocol:
        options = "--unprocessed, --oracle, --consistency, --stats, --by and --versus"
        raise UsageError(f"{options} need a --metric per source, or a --protocol")
    protocol = wanted.protocol is not None
    fitting = [name for name in BY if (name != "k" or protocol) and (name != "n_src" or not protocol)]
    if wanted.folders.named:
        fitting = [name for name in fitting if name in ("n_src", "source", "k")]
    if by and by not in fitting:
        raise UsageError(choices("column for --by", by, fitting))
    if compare:
        from usepcli.engine.scoring.compare import profiles

        if compare not in profiles():
            raise UsageError(choices("profile with published numbers", compare, profiles()))


def check_queries(by: str, manifest: Manifest | None) -> None:
    """UsageError for `--by query` of a manifest that says of no source what it is asked by."""
    if by == "query" and manifest is not None and not any(any(row.queries) for row in manifest.rows):
        raise UsageError("--by query: the manifest has no queries; those of the corpora labelled and music have")


def split_by(rows: Sequence[Scores], labels: Mapping[tuple[str, str], str]) -> dict[str, list[Scores]]:
    """Return the rows of each condition, given one label per (id, source); ('id', '') labels a whole item."""
    found: dict[str, list[Scores]] = {}
    for row in rows:
        label = labels.get((row["id"], row["source"]), labels.get((row["id"], ""), ""))
        found.setdefault(label or "unnamed", []).append(row)
    return dict(sorted(found.items()))


def spreads(by: str, conditions: Mapping[str, Sequence[Scores]], scores: Sequence[str]) -> list[Scores]:
    """Return one row of COLUMNS per score and condition, and one of all together, called pooled."""
    result: list[Scores] = []
    for score in scores:
        means = {name: found for name, rows in conditions.items() if (found := item_means(rows, score))}
        if not means:
            continue
        every = set().union(*means.values())
        shared = sorted(set.intersection(*map(set, means.values())))
        crossed = len(means) > 1 and len(shared) >= max(2, len(every) / 2)
        if crossed:
            table = np.array([[means[name][item] for name in means] for item in shared])  # (I, J)
            each, whole = stats.within(table)
        else:
            each = [stats.spread(list(values.values())) for values in means.values()]
            whole = stats.pooled([list(values.values()) for values in means.values()])
        shape = {"kind": "within" if crossed else "between", "dropped": len(every) - len(shared) if crossed else 0}
        names = [*means, *(["pooled"] if len(means) > 1 else [])]
        for name, spread in zip(names, [*each, whole], strict=False):
            result.append({"metric": score, "by": by, "condition": name, **shape, **spread._asdict()})
    return result


def item_means(rows: Sequence[Scores], score: str) -> dict[str, float]:
    """Return the mean over the sources of every item that has a finite score."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if math.isfinite(row[score]):
            values.setdefault(row["id"], []).append(row[score])
    return {item: math.fsum(of) / len(of) for item, of in values.items()}
