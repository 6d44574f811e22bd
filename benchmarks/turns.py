"""Contenders measured in turns: each once, then each again, so that what else the machine does meets all of them alike.

Told are the least and the median of every contender, and usep's share of them; figures of two machines, or of two runs,
are never compared. Times are of the processor, on one thread, unless a contender tells its own.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

OURS, BOUND = "usep", "bound"
COLUMNS = ["group", "work", "contender", "least_s", "median_s", "usep_over_least", "usep_over_median", "turns", "note"]
# A contender that has had this long in all waits for the others; everyone has one turn to warm up and one that counts.
PATIENCE_S = 20.0


class Work(NamedTuple):
    """Something that every contender can do: what makes its run, which may tell its seconds itself."""

    group: str
    name: str
    makers: Mapping[str, Callable[[], Callable[[], float | None]]]  # OURS first; BOUND is the least that it can take
    turns: int = 7


def absent(fault: BaseException) -> str:
    """Return why a contender cannot take part, in one line."""
    if isinstance(fault, ModuleNotFoundError):
        return f"not installed: {fault.name}"
    return f"cannot run: {type(fault).__name__}: {str(fault).strip().splitlines()[0] if str(fault).strip() else ''}"[
        :120
    ]


def seconds(run: Callable[[], float | None]) -> float:
    """Return the seconds that a run tells, else those of the processor that it took."""
    begin = time.process_time()
    told = run()
    return time.process_time() - begin if told is None else told


def measure(work: Work) -> list[dict[str, Any]]:
    """Return a row of COLUMNS for each contender, without a time for those who cannot take part."""
    runs: dict[str, Callable[[], float | None]] = {}
    notes = dict.fromkeys(work.makers, "")
    took: dict[str, list[float]] = {who: [] for who in work.makers}
    spent = dict.fromkeys(work.makers, 0.0)
    for who, make in work.makers.items():
        try:
            runs[who] = make()
            spent[who] += seconds(runs[who])
        except Exception as fault:  # whatever stops one, the others go on, and its row says so
            notes[who] = absent(fault)
            runs.pop(who, None)
    for turn in range(work.turns):
        # Who follows one that fills the caches pays for it: everyone does in turn.
        order = sorted(runs, key=lambda who: (list(runs).index(who) + turn) % len(runs))
        for who, run in ((who, runs[who]) for who in order):
            if spent[who] < PATIENCE_S or not took[who]:
                took[who].append(seconds(run))
                spent[who] += took[who][-1]
    return [_row(work, who, took[who], took.get(OURS, []), notes[who]) for who in work.makers]


def _row(work: Work, who: str, took: list[float], ours: list[float], note: str) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
    row |= {"group": work.group, "work": work.name, "contender": who, "turns": len(took), "note": note}
    if took:
        least, median = min(took), statistics.median(took)
        row |= {"least_s": f"{least:.6f}", "median_s": f"{median:.6f}"}
        if ours and who != OURS:
            row["usep_over_least"] = f"{min(ours) / least:.3f}"
            row["usep_over_median"] = f"{statistics.median(ours) / median:.3f}"
    return row


def table(works: Iterable[Work]) -> list[dict[str, Any]]:
    """Measure one work after the other, show each as it is done, and return all rows."""
    rows = []
    for work in works:
        found = measure(work)
        rows += found
        for row in found:
            print(line(row), flush=True)
    return rows


def line(row: Mapping[str, Any]) -> str:
    """Return a row for people."""
    shown = f"{row['group']:<11} {row['work']:<44} {row['contender']:<18}"
    if row["note"]:
        return f"{shown} {row['note']}"
    ratio = f"  usep / it {row['usep_over_least']}, {row['usep_over_median']}" if row["usep_over_least"] else ""
    return f"{shown} {1e3 * float(row['least_s']):10.2f} {1e3 * float(row['median_s']):10.2f} ms{ratio}"


def machine() -> str:
    """Return the processor, its cores and the torch on which this was measured."""
    import torch

    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [text.split(":")[1].strip() for text in lines if text.startswith("model name")]
    cpu = names[0] if names else platform.processor() or platform.machine()
    return f"{cpu}, {os.cpu_count()} cores, {platform.system()}, torch {torch.__version__}"
