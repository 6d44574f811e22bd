"""Scores of mixtures with one to four sources, of which some may be silent: 1S, kSi, MSi, TRF, and counts of sources.

One row per item and source with everything that the means are made of; which rows a mean takes, and how, is the
protocol's word (engine/scoring/protocols.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from usepcli.engine import tables
from usepcli.engine.scoring.channels import SILENT_RMS, joined
from usepcli.engine.scoring.protocols import QUIET, Protocol
from usepcli.engine.scoring.scoring import Signals
from usepcli.engine.tables import Scores
from usepcli.errors import BadInput

ITEM_COLUMNS = (
    "id", "source", "k", "n_est", "n_out", "si-snr", "mix", "imp", "power", "ref_power", "counted", "reason",
)  # fmt: skip
MOST = 4  # kSi and the confusion table go at least this far, as in the papers
CAPPED_DB = 79.0
RATES = ("under", "equal", "over")


def score_item(signals: Signals, protocol: Protocol) -> list[Scores]:
    """Return one row per reference of one item; the mixture is the sum of the references, whatever signals.mix holds.

    k: sounding references.  n_est: outputs that are not quiet, of n_out.  si-snr, mix, imp in dB; power, ref_power:
    mean squares of the output and of the reference.  counted: 1 where the row goes into the means, else reason.
    Several channels are one after the other, one long signal, and the rows say how many there are (channels).
    BadInput for references that are not finite; samples of an output that are not count as zero, and its row says so.
    """
    from scipy.optimize import linear_sum_assignment

    several = len(signals.ref[0]) if np.ndim(signals.ref) > 2 else 1
    est, ref = (joined(x, protocol.zero_mean) for x in (signals.est, signals.ref))  # (N, T), (K, T)
    if not np.isfinite(ref).all():
        raise BadInput(f"{signals.id}: a reference is not finite; mend or remove the item")
    broken = np.asarray(~np.isfinite(est).all(-1))
    est = np.nan_to_num(est, nan=0.0, posinf=0.0, neginf=0.0)
    ref_power, power = np.mean(ref**2, -1), np.mean(est**2, -1)
    active = np.flatnonzero(np.sqrt(ref_power) > SILENT_RMS)
    floor = QUIET * float(ref_power[active].min()) if len(active) else math.inf
    shared = {"k": len(active), "n_est": int((power > floor).sum()), "n_out": len(est)}
    shared |= {"channels": several} if several > 1 else {}
    rows = [blank_row(signals.id, name, "silent reference") | shared for name in signals.sources]
    for row, value in zip(rows, ref_power, strict=True):
        row["ref_power"] = float(value)
    if not len(active):
        return rows
    pairs = np.stack([protocol.si_snr(est, ref[j]) for j in active])  # (K, N)
    mixed = protocol.si_snr(ref.sum(0), ref[active])  # (K,)
    if signals.ordered:
        chosen = {place: int(j) for place, j in enumerate(active) if j < len(est)}
    else:
        chosen = dict(zip(*linear_sum_assignment(pairs, maximize=True), strict=True))
    for place, j in enumerate(active):
        n = chosen.get(place)
        if n is None:
            rows[j]["reason"] = _joined(signals.note, "no output left")
            continue
        value, quiet = float(pairs[place, n]), power[n] <= floor
        rows[j] |= {
            "si-snr": round(value, 6), "mix": round(float(mixed[place]), 6),
            "imp": round(value - float(mixed[place]), 6), "power": float(power[n]),
            "counted": int(not (quiet and protocol.drop_quiet)),
            "reason": _joined(signals.note, "estimate not finite" * bool(broken[n]), "quiet estimate" * bool(quiet)),
        }  # fmt: skip
    return rows


def blank_row(item: str, source: str, reason: str) -> Scores:
    """Return a row without scores."""
    row: Scores = dict.fromkeys(ITEM_COLUMNS, math.nan)
    return row | {"id": item, "source": source, "k": 0, "n_est": 0, "n_out": 0, "counted": 0, "reason": reason}


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the scores that rows have: 1S, 2Si to 4Si or as far as the rows go, MSi, TRF."""
    most = max([MOST, *(int(row["k"]) for row in rows)])
    return ["1S", *(f"{k}Si" for k in range(2, most + 1)), "MSi", "TRF"]


def columns(rows: Sequence[Mapping[str, Any]], protocol: Protocol) -> list[Scores]:
    """Return id, source and one column per score for what the means run over, nan where a score does not apply.

    That is one row per counted pair, or one per mixture (source ''), as the protocol averages.
    """
    counted = [row for row in rows if int(row["counted"])]
    found = names(rows)
    if protocol.average == "pairs":
        return [
            {"id": row["id"], "source": row["source"], **_scores(int(row["k"]), _value(row), found)} for row in counted
        ]
    per_item: dict[str, list[Mapping[str, Any]]] = {}
    for row in counted:
        per_item.setdefault(row["id"], []).append(row)
    return [
        {"id": item, "source": "", **_scores(int(of[0]["k"]), math.fsum(map(_value, of)) / len(of), found)}
        for item, of in per_item.items()
    ]


def _value(row: Mapping[str, Any]) -> float:
    return float(row["si-snr"] if int(row["k"]) == 1 else row["imp"])


def _scores(k: int, value: float, found: Sequence[str]) -> dict[str, float]:
    own = {"1S", "TRF"} if k == 1 else {f"{k}Si", "MSi", "TRF"}
    return {name: value if name in own else math.nan for name in found}


def summary(rows: Sequence[Mapping[str, Any]], protocol: Protocol, rates: bool = True) -> list[Scores]:
    """Return per score: mean, median, 95 % interval, n, and how many sounding references are missing from it.

    rates: also the shares of items with fewer, as many and more outputs than sources, from 0 to 1.
    """
    table = columns(rows, protocol)
    ids = [row["id"] for row in table]
    left_out = [row for row in rows if not int(row["counted"]) and row["reason"] != "silent reference"]
    result = []
    for name in names(rows):
        lost = sum(not math.isnan(_scores(int(row["k"]), 0.0, [name])[name]) for row in left_out)
        result.append({"metric": name, **tables.summarise([r[name] for r in table], ids)._asdict(), "missing": lost})
    for alias, name in protocol.also_called:
        result.append({**next(row for row in result if row["metric"] == name), "metric": alias})
    if not rates:
        return result
    signs = [int(np.sign(n_est - k)) for k, n_est, _ in _items(rows)]
    for sign, name in zip((-1, 0, 1), RATES, strict=True):
        of = tables.summarise([float(s == sign) for s in signs])
        result.append({"metric": name, **of._asdict(), "missing": 0})
    return result


def confusion(rows: Sequence[Mapping[str, Any]]) -> list[Scores]:
    """Return per number k of sounding references: items, and the share with n outputs that are not quiet, n = 0..N."""
    items = _items(rows)
    most, outputs = max([MOST, *(k for k, _, _ in items)]), max((n_out for _, _, n_out in items), default=0)
    table = []
    for k in range(1, most + 1):
        heard = [n_est for of, n_est, _ in items if of == k]
        shares = {f"est_{n}": heard.count(n) / len(heard) if heard else math.nan for n in range(outputs + 1)}
        table.append({"k": k, "items": len(heard), **shares})
    return table


def skipped(rows: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of items of which no reference sounds: they have no part in any score."""
    return len({row["id"] for row in rows if int(row["k"]) == 0 and row["reason"] == "silent reference"})


def capped(rows: Sequence[Mapping[str, Any]], protocol: Protocol) -> int:
    """Return how many counted SI-SNRs lie so high that the protocol's eps has a hand in them: above 79 dB of 80."""
    if protocol.measure != "cosine":
        return 0
    return sum(int(row["counted"]) and float(row["si-snr"]) > CAPPED_DB for row in rows)


def _items(rows: Iterable[Mapping[str, Any]]) -> list[tuple[int, int, int]]:
    """Return (k, n_est, n_out) of every item that has a sounding reference."""
    found = {row["id"]: (int(row["k"]), int(row["n_est"]), int(row["n_out"])) for row in rows}
    return [of for of in found.values() if of[0]]
