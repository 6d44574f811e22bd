"""Faults injected into real runs, and what became of them: one campaign a line, a table at the end.

    python benchmarks/faults.py workers --trials 100     a data worker of a training is killed, stopped, crashed
    python benchmarks/faults.py kill9 --trials 50        a whole training is killed and goes on
    python benchmarks/faults.py ranks --trials 30        one of two ranks is killed or stopped
    python benchmarks/faults.py torchrun --trials 30     signals to torchrun, its group and its ranks; it is killed
    python benchmarks/faults.py slurm --trials 30        what Slurm sends a step below torchrun

A campaign is a function that takes the parsed options and yields a `Trial` for each fault; CAMPAIGNS says where it is.
Every trial goes to stderr as it ends, with `-o` to a CSV file too; the table on stdout counts them by case: exit codes,
the longest time from fault to end, processes left, whether the same command went on to the end afterwards, and whether
its losses were those of an undisturbed run to the last bit. The exit code is 1 where a trial was not `good`.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import faults_runs
from faults_runs import Trial

# name -> module:function
CAMPAIGNS = {
    "workers": "faults_workers:workers",
    "kill9": "faults_workers:kill9",
    "ranks": "faults_ranks:ranks",
    "torchrun": "faults_ranks:torchrun",
    "slurm": "faults_ranks:slurm",
}
COLUMNS = ("case", "trials", "exit codes", "longest s", "left", "went on", "same", "not good")


def shown(trials: Iterable[Trial]) -> list[tuple[str, ...]]:
    """Return the rows of the table, one for each case."""
    cases: dict[str, list[Trial]] = {}
    for trial in trials:
        cases.setdefault(trial.case, []).append(trial)
    rows = []
    for case, some in sorted(cases.items()):
        codes = Counter("hang" if t.code is None else str(t.code) for t in some)
        told = ", ".join(f"{code} x{count}" for code, count in codes.most_common())
        on, same = ([getattr(t, what) for t in some if getattr(t, what) is not None] for what in ("went_on", "same"))
        counts = (f"{sum(on)}/{len(on)}", f"{sum(same)}/{len(same)}", str(sum(not t.good for t in some)))
        rows.append((case, str(len(some)), told, f"{max(t.seconds for t in some):.1f}",
                     str(sum(t.left for t in some)), *counts))  # fmt: skip
    return rows


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows below COLUMNS as Markdown."""
    widths = [max(len(row[i]) for row in (COLUMNS, *rows)) for i in range(len(COLUMNS))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (COLUMNS, *rows)]
    lines.insert(1, "-|-".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def main() -> int:
    """Run a campaign and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("campaign", choices=CAMPAIGNS)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="cases whose name holds this word")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds until a run counts as hanging")
    parser.add_argument("--warm", action="store_true", help="fork runs from here, torch is imported once: quicker")
    parser.add_argument("--folder", type=Path, help="scratch, kept; by default a temporary folder")
    parser.add_argument("-o", "--out", type=Path, help="a CSV file with every trial")
    asked = parser.parse_args()
    module, _, name = CAMPAIGNS[asked.campaign].partition(":")
    campaign: Callable[[argparse.Namespace], Iterable[Trial]] = getattr(importlib.import_module(module), name)
    trials: list[Trial] = []
    faults_runs.Run.warm = asked.warm
    with tempfile.TemporaryDirectory() as scratch:
        asked.folder = (asked.folder or Path(scratch)).resolve()
        asked.folder.mkdir(parents=True, exist_ok=True)
        for trial in campaign(asked):
            trials.append(trial)
            print(f"{len(trials)}/{asked.trials} {trial}", file=sys.stderr, flush=True)
    if asked.out:
        with open(asked.out, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Trial)])
            writer.writeheader()
            writer.writerows(asdict(trial) for trial in trials)
    print(table(shown(trials)))
    return int(not all(trial.good for trial in trials))


if __name__ == "__main__":
    sys.exit(main())
