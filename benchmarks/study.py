"""What studies of a sweep share: its finished runs, each scored once, and claims as differences with intervals."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

SEEN = 0.01  # of a score, dB or percent: what two decimals show


class Finding(NamedTuple):
    """A claim of a paper: a score of one row minus that of another, which sign it has there, and their figures."""

    text: str
    row: str
    against: str
    score: str
    sign: int  # +1 more, -1 less, 0 the same within the study's margin
    paper: str
    where: str = ""  # the set on which it is claimed; all of them where it is empty


class Study:
    """The finished runs of sweeps, the sets on which they are scored, and the folder of what is found in them."""

    def __init__(self, folders: Sequence[Path], sets: Mapping[str, Path], out: Path, threads: int = 1) -> None:
        self.out, self.threads = out.resolve(), threads
        done = [path for folder in folders for path in sorted(folder.resolve().glob("*/best.safetensors"))]
        self.rows = {name(path.parent): path.parent for path in done if finished(path.parent)}
        if not self.rows:
            raise SystemExit(f"{', '.join(map(str, folders))}: no finished run; train the sweep first")
        self.sets = {key: path.resolve() for key, path in sets.items() if path.exists()}
        (self.out / "scores").mkdir(parents=True, exist_ok=True)

    def evaluate(self, row: str, where: str, kind: str, *words: object) -> Path:
        """Score a row on a set, once, and return the folder."""
        place = self.out / "scores" / f"{row}_{where}_{kind}"
        if not (place / "summary.csv").exists():
            command = [sys.executable, "-m", "usepcli", "evaluate", self.rows[row], "--data", self.sets[where]]
            command += ["--split", "test", "-o", place, "--threads", self.threads, "-q", *words]
            done = subprocess.run([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            if done.returncode:
                raise SystemExit(f"{row}, {where}: exit {done.returncode}: {done.stderr.decode(errors='replace')}")
        return place

    def scored(self, row: str, where: str, score: str) -> Path:
        """Return the folder of a row's scores on a set among which `score` is; a study says how it scores."""
        raise NotImplementedError

    def findings(self, claims: tuple[Finding, ...], margin: float, aliases: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return what became of every claim whose two rows are there, on every set; margin as in `verdict`."""
        from usepcli.engine.scoring import versus

        lines = []
        for claim in (one for one in claims if {one.row, one.against} <= self.rows.keys()):
            for where in (key for key in self.sets if claim.where in ("", key)):
                here, there = (versus.read(self.scored(row, where, claim.score)) for row in (claim.row, claim.against))
                rows, names = versus.columns(here.rows, here.record.get("protocol") or {})
                known = {line["metric"]: line for line in versus.differences(rows, names, there)}
                one = known[claim.score] if claim.score in known else known[aliases[claim.score]]
                low, high = float(one["ci95_low"]), float(one["ci95_high"])
                lines.append(
                    {
                        "finding": claim.text, "row": claim.row, "against": claim.against, "set": where,
                        "score": claim.score, "difference": one["difference"], "ci95_low": low, "ci95_high": high,
                        "items": one["items"], "paper": claim.paper, "here": verdict(claim.sign, low, high, margin),
                    }
                )  # fmt: skip
        return lines


def verdict(sign: int, low: float, high: float, margin: float) -> str:
    """Say whether an interval of a difference bears out a sign: more, less, or the same within a margin.

    Of two rows that do the same thing the interval is a point beside 0: less than SEEN bears out nothing.
    """
    if sign == 0:
        if max(-low, high) <= margin:
            return "came back"
        return "did not: better" if low > 0 else "did not: worse" if high < 0 else "open"
    low, high = (low, high) if sign > 0 else (-high, -low)
    if max(-low, high) < SEEN:
        return "no difference"
    return "came back" if low > 0 else "did not: the other way" if high < 0 else "open"


def name(folder: Path) -> str:
    """Return the row of a run's folder, whose name goes on with the grid's settings."""
    return folder.name.partition(",")[0]


def finished(folder: Path) -> bool:
    """Say whether a training came to its end."""
    from usepcli.engine.training import status

    return bool(status.read(folder).get("state") == status.FINISHED)


def summary(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    """Return the lines of summary.csv by system and metric; a single system has no column of its own."""
    return {(line.get("system", "separated"), line["metric"]): line for line in read(folder / "summary.csv")}


def figures(found: Mapping[tuple[str, str], dict[str, str]], system: str, scores: tuple[str, ...]) -> dict[str, Any]:
    """Return the scores of a system with their intervals, as columns."""
    line: dict[str, Any] = {}
    for score in scores:
        one = found.get((system, score), {})
        line |= {score: one.get("mean", ""), f"{score}_low": one.get("ci95_low", "")}
        line |= {f"{score}_high": one.get("ci95_high", ""), f"{score}_n": one.get("n", "")}
    return line


def cell(line: Mapping[str, Any], score: str) -> str:
    """Return a score of `figures` with its interval for a table, empty where it is not there."""
    value, low, high = (line.get(key) for key in (score, f"{score}_low", f"{score}_high"))
    return f"{float(value):.2f} ({float(low or 'nan'):.2f} to {float(high or 'nan'):.2f})" if value else ""


def told(findings: list[dict[str, Any]]) -> list[str]:
    """Return the table of findings for people."""
    text = ["| finding | set | difference | paper | here |", "|---|---|---|---|---|"]
    for line in findings:
        spread = f"{float(line['difference']):+.2f} ({line['ci95_low']:+.2f} to {line['ci95_high']:+.2f})"
        text.append(f"| {line['finding']} | {line['set']} | {spread} | {line['paper']} | {line['here']} |")
    return [*text, "", f"Means with 95 % intervals; {machine()}.", ""]


def draw(table: Sequence[Mapping[str, Any]], labels: Mapping[str, str], path: Path) -> None:
    """Draw scores, one picture for each of `labels`, of every row and set with their intervals, best row on top."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    first = next(iter(labels))
    sets = [*dict.fromkeys(line["set"] for line in table)]
    ranked = [line for line in table if line["set"] == sets[0] and line[first]]
    order = [line["row"] for line in sorted(ranked, key=lambda line: float(line[first]))]
    wide = 1.5 + 4.5 * len(labels)
    figure, axes = plt.subplots(
        1, len(labels), figsize=(wide, 0.42 * len(order) + 1.4), sharey=True, layout="constrained"
    )
    for axis, (score, label) in zip(axes, labels.items(), strict=True):
        for shift, where in enumerate(sets):
            for line in (line for line in table if line["set"] == where and line["row"] in order and line[score]):
                low, mid, high = (float(line[key]) for key in (f"{score}_low", score, f"{score}_high"))
                at, colour = order.index(line["row"]) + 0.12 - 0.24 * shift, f"C{shift}"
                axis.plot([low, high], [at, at], color=colour, lw=2)
                axis.plot([mid], [at], "o", color=colour, ms=5, label=where if line["row"] == order[0] else None)
        axis.set(xlabel=label, yticks=range(len(order)), yticklabels=order)
        axis.grid(axis="x", color="0.9")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=110)


def mean(log: list[dict[str, str]], key: str) -> float:
    """Return the mean of a column's values that are there."""
    values = [float(line[key]) for line in log if line.get(key)]
    return sum(values) / len(values) if values else float("nan")


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as CSV, with all columns that any of them has."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def machine() -> str:
    """Return what the figures were measured on."""
    import torch

    return f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
