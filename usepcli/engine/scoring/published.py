"""What the ledger tells of a system beside its scores: causality, parameters, stride, condition; filters over these.

Parameters and strides are rows of their own in the same table of the same paper; causality and condition are words of a
row's condition.
"""

from __future__ import annotations

import csv
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from usepcli.errors import UsageError

Line = Mapping[str, str]
COSTS = Path(__file__).resolve().parents[2] / "published" / "costs.csv"
CLOSED, OPEN = "closed", "open"  # those of data.corpora.base
NUMBERS = {"parameters": "millions", "stride": "samples"}
_WORDS = ("causal", "not-causal", CLOSED, OPEN)
_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "=": operator.eq,
}  # fmt: skip
_NUMBER = re.compile(r"([a-z]+)\s*(<=|>=|<|>|=)\s*(\d+(?:\.\d+)?)")


class Facts(NamedTuple):
    """What is told of a row's system, None for what is not: parameters in millions, stride in samples."""

    causal: bool | None = None
    condition: str = ""
    parameters: float | None = None
    stride: float | None = None


class Point(NamedTuple):
    """A published score of a data set with what it takes, for a figure: 10^6 parameters, 10^9 operations a second."""

    name: str
    data: str
    score: float
    parameters: float | None
    gflop: float | None


def facts(row: Line, ledger: Iterable[Line]) -> Facts:
    """Return what a ledger tells of the system of one of its rows."""
    words = [word.strip() for word in row["condition"].split(",")]
    causal = True if "causal" in words else False if "not causal" in words else None
    condition = next((name for name in (CLOSED, OPEN) if f"{name} condition" in words), "")
    keys = ("system", "data", "condition", "paper", "where")
    mine = [other for other in ledger if all(other[key] == row[key] for key in keys)]
    numbers = {other["metric"]: float(other["value"]) for other in mine if other["metric"] in NUMBERS}
    return Facts(causal, condition, numbers.get("parameters"), numbers.get("stride"))


def filters(only: Sequence[str]) -> list[Callable[[Facts], bool]]:
    """Return tests of what a ledger tells, all of which a row has to pass; what is not told passes none.

    UsageError for anything but causal, not-causal, closed, open, parameters<=N (millions), stride<=N (samples), and the
    same with <, >, >= and =.
    """
    return [_filter(text) for text in only]


def _filter(text: str) -> Callable[[Facts], bool]:
    if text in ("causal", "not-causal"):
        return lambda found: found.causal is (text == "causal")
    if text in (CLOSED, OPEN):
        return lambda found: found.condition == text
    parts = _NUMBER.fullmatch(text.strip())
    if not parts or parts[1] not in NUMBERS:
        numbers = ", ".join(f"{name}<=N ({unit})" for name, unit in NUMBERS.items())
        raise UsageError(f"--only: found '{text}'; expected {', '.join(_WORDS)}, {numbers}, or with <, >, >=, =")
    name, compared, limit = parts[1], _SIGNS[parts[2]], float(parts[3])

    def fits(found: Facts) -> bool:
        value: float | None = getattr(found, name)
        return value is not None and compared(value, limit)

    return fits


def kept(rows: Sequence[Line], only: Sequence[str], ledger: Sequence[Line]) -> list[Line]:
    """Return the rows that pass every filter."""
    tests = filters(only)
    return [row for row in rows if all(test(facts(row, ledger)) for test in tests)] if tests else list(rows)


def points(rows: Sequence[Line], ledger: Sequence[Line]) -> list[Point]:
    """Return each different score of a system among rows of one metric."""
    known = costs()
    made = []
    for row in rows:
        gflop = known.get((row["profile"], row["set"]))
        made.append(Point(row["system"], row["data"], float(row["value"]), facts(row, ledger).parameters, gflop))
    return list(dict.fromkeys(made))


@cache
def costs() -> Mapping[tuple[str, str], float]:
    """Return 10^9 operations per second of audio of our models by profile and set: benchmarks/costs.py counts them."""
    with open(COSTS, encoding="utf-8", newline="") as file:
        return {(row["profile"], row["set"]): float(row["gflop_per_second"]) for row in csv.DictReader(file)}
