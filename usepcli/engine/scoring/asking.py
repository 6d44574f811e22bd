"""What a model that separates by query is asked for in an item, and how well it tells what is not there.

Every item is asked for its own queries, and for as many of other items that are none of its own: the answers to the
former should say that the sound is there, to the latter that it is not (separator/presence.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from usepcli import guard
from usepcli.data.manifest import Manifest, Row
from usepcli.data.sampling import rng
from usepcli.data.words import fault_of
from usepcli.engine import tables
from usepcli.engine.journal import Part
from usepcli.errors import BadInput, ConfigError, MissingDependency, UsageError
from usepcli.files import show
from usepcli.weights.cards import MEASURES, Card, calibration

if TYPE_CHECKING:
    from usepcli.models.queried import Model
    from usepcli.separator.separator import Separator

LONGEST_S = 10.0  # of a window in which a sound is looked for
COLUMNS = ("id", "query", "there", *MEASURES, "presence", "reason")
NOTES = {
    "misses": "share of the queries of a mixture's own sources with a presence below 0.5",
    "false-alarms": "share of as many queries of other mixtures, none of its own, with a presence of 0.5 or more",
    "presence": "odds that the sound is there, by the model's calibration; one decision over the whole of a mixture",
}
FEWEST = 20  # queries of either kind by which odds can be told
_SEED = 0xAB5E
_RIDGE = 1e-3  # keeps weights finite where the measures tell all queries apart
_ENDS = (UsageError, ConfigError, MissingDependency)  # what no other item would do better


def check(metrics: Sequence[str], card: Card, ref: str) -> None:
    """UsageError where presence is to be scored, and the model does not tell whether a sound is there."""
    if "presence" not in metrics:
        return
    if card.n_src:
        raise UsageError(f"--metric presence: {show(ref)} takes no queries; it needs a model by query")
    if calibration(card) is None:
        raise UsageError(f"--metric presence: {show(ref)} is not calibrated; see usep calibrate")


def queries_of(model: Model, row: Row) -> tuple[str, ...]:
    """Return the queries of a row for a model that is asked, () for any other; BadInput where they do not fit."""
    from usepcli.models.queried import QueriedModel

    if not isinstance(model, QueriedModel):
        return ()
    fault = fault_of(row.queries, len(row.sources)) if row.queries else "no queries, and the model separates by query"
    if fault:
        raise BadInput(f"item {row.id}: {fault}; fill in the manifest's column 'queries'")
    return row.queries


def asked(separator: Separator, queries: tuple[str, ...]) -> Separator:
    """Return the separator of these queries, or the same one where there are none."""
    return separator.bound(queries) if queries else separator


def strangers(rows: Sequence[Row], number: int, seed: int) -> tuple[str, ...]:
    """Return queries of other items for item `number`, as many as it has, none of which names what it holds."""
    own = {_plain(query) for query in rows[number].queries}
    known = {_plain(query): query for row in rows for query in row.queries}
    others = [query for plain, query in known.items() if plain not in own]
    count = min(len(own), len(others))
    return tuple(others[k] for k in rng(seed, _SEED, number).permutation(len(others))[:count])


def _plain(query: str) -> str:
    return " ".join(query.casefold().split())


def ask_all(
    separator: Separator,
    manifest: Manifest,
    *,
    seed: int = 0,
    channels: str = "mix",
    window_s: float = 0.0,
    part: Part | None = None,
    track: Callable[[Iterable[Any], int], Iterable[Any]] = lambda items, total: items,
) -> list[dict[str, Any]]:
    """Return a row per query and item, the queries of others too: what it measures, and its presence (nan: unknown).

    channels: of every file, one of items.CHANNELS.  window_s: of what is measured, by default `usual_window`.  part:
    where rows go as they come, and what of them is there.  An item that cannot be read has a row with a reason.
    BadInput where no item has a query.
    """
    from usepcli.data.items import Reader

    rows = manifest.rows
    if not any(row.queries for row in rows):
        raise BadInput(f"{manifest.path}: no item has queries; fill in the column 'queries'")
    reader, part = Reader(manifest, separator.rate, 0, channels=channels), part or Part()
    window_s = window_s or usual_window(manifest)
    left = part.left(len(rows))
    for n in track(left, len(left)):
        try:
            part.add(n, _asked(separator, reader, rows, n, seed, window_s))
        except Exception as error:
            part.add(n, [{"id": rows[n].id, "query": "", "reason": guard.reason(error, rows[n].id, _ENDS)}])
    found = [row for rows in part.values() for row in rows]
    if part.complete and all(row["reason"] for row in found):
        raise BadInput(f"{manifest.path}: no item can be asked; the first, {found[0]['id']}: {found[0]['reason']}")
    return found


def usual_window(manifest: Manifest) -> float:
    """Return the seconds of a window in which a sound is looked for: the usual length of the items, at most ten."""
    known = [row.frames / row.sample_rate for row in manifest.rows if row.frames and row.sample_rate]
    return min(LONGEST_S, float(np.median(known))) if known else LONGEST_S


def _asked(
    separator: Separator, reader: Any, rows: Sequence[Row], number: int, seed: int, window_s: float
) -> list[dict[str, Any]]:
    from usepcli.separator.how import How, Trace

    row, trace = rows[number], Trace()
    if not row.queries:
        raise BadInput(f"item {row.id}: no queries")
    own = tuple({_plain(query): query for query in row.queries}.values())
    queries = (*own, *strangers(rows, number, seed))
    bound = separator.bound(queries)
    bound(reader.whole(row).mix, separator.rate, How(rest="leave"), trace)
    assert trace.evidence is not None
    odds = bound.presence(trace) or (math.nan,) * len(queries)
    measures = trace.evidence.loudest(window_s).tolist()
    return [
        {
            "id": row.id, "query": query, "there": k < len(own), **dict(zip(MEASURES, values, strict=True)),
            "presence": one, "reason": "",
        }
        for k, (query, values, one) in enumerate(zip(queries, measures, odds, strict=True))
    ]  # fmt: skip


def told(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the summary's rows: the shares of queries whose presence is on the wrong side of even odds."""
    from usepcli.separator.presence import EVEN

    lost = len({row["id"] for row in rows if row["reason"]})
    summary = []
    for name, there in (("misses", True), ("false-alarms", False)):
        some = [row for row in rows if not row["reason"] and row["there"] is there]
        wrong = [float((row["presence"] < EVEN) is there) for row in some]
        spread = tables.summarise(wrong, [row["id"] for row in some])
        summary.append({"metric": name, **spread._asdict(), "missing": lost})
    return summary


def calibrated(rows: Sequence[dict[str, Any]], data: str, window_s: float) -> dict[str, Any]:
    """Return what a card holds of presence, fitted to rows of `ask_all`; BadInput where there are too few.

    Logistic regression with both kinds of queries weighing the same, so that 0.5 is reached where they are as frequent.
    """
    some = [row for row in rows if not row["reason"]]
    there = np.array([row["there"] for row in some], bool)
    counts = int(there.sum()), int((~there).sum())
    if min(counts, default=0) < FEWEST:
        raise BadInput(
            f"{data}: {counts[0]} queries of its items and {counts[1]} of others; expected {FEWEST} of either to tell "
            "odds by"
        )
    z = np.array([[row[name] for name in MEASURES] for row in some])
    weights, bias = fitted(z, there)
    wrong = ((z @ weights + bias) < 0) == there
    return {
        "weights": {name: round(float(w), 6) for name, w in zip(MEASURES, weights, strict=True)},
        "bias": round(float(bias), 6),
        "window_s": round(window_s, 3),
        "present": counts[0],
        "absent": counts[1],
        "misses": round(float(np.mean(wrong[there])), 4),
        "false_alarms": round(float(np.mean(wrong[~there])), 4),
        "data": data,
    }


def fitted(z: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, float]:
    """Return weights (K,) and bias of the logistic regression of `there` (M,) on measures (M, K), by Newton's method.

    Either kind weighs one half in all, whatever their numbers, and a small ridge holds the weights of the measures
    divided by their spread.
    """
    mean, spread = z.mean(0), np.maximum(z.std(0), 1e-9)
    x = np.concatenate([(z - mean) / spread, np.ones((len(z), 1))], axis=1)  # (M, K+1)
    share = np.where(there, 0.5 / there.sum(), 0.5 / (~there).sum())
    ridge = np.diag([_RIDGE] * z.shape[1] + [0.0])
    found = np.zeros(x.shape[1])
    for _ in range(100):
        odds = 1 / (1 + np.exp(-np.clip(x @ found, -50, 50)))
        slope = x.T @ (share * (there - odds)) - ridge @ found
        bend = (x * (share * odds * (1 - odds))[:, None]).T @ x + ridge + 1e-12 * np.eye(len(found))
        step = np.linalg.solve(bend, slope)
        found = found + step
        if np.abs(step).max() < 1e-10:
            break
    weights = found[:-1] / spread
    return weights, float(found[-1] - weights @ mean)
