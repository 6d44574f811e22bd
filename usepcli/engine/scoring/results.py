"""What an evaluation leaves behind: tables as CSV, and evaluate.json, which says how they were made."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import usepcli
from usepcli.data.manifest import Manifest
from usepcli.engine import tables
from usepcli.errors import OutputError
from usepcli.files import write_text

ITEMS, SUMMARY, RECORD = "items.csv", "summary.csv", "evaluate.json"
UNTOUCHED, CONFUSION, MOMS, WORDS = "items_unprocessed.csv", "confusion.csv", "momi.csv", "wer.csv"
STATS, VERSUS, COMPARED = "stats.csv", "versus.csv", "compare.csv"
PICTURES = ("momi_msi.png", "momi_msi.svg")
REPORT, HOLES = "report.html", "holes.csv"
EVERY = (
    ITEMS, SUMMARY, RECORD, UNTOUCHED, CONFUSION, MOMS, WORDS, STATS, VERSUS, COMPARED, *PICTURES, REPORT, HOLES,
)  # fmt: skip
SUMMARY_COLUMNS = ("metric", "mean", "median", "ci95_low", "ci95_high", "n", "missing")


@dataclass
class Results:
    """Everything of one evaluation: facts about it, conventions, the summary, and tables by file name."""

    facts: dict[str, Any]
    conventions: dict[str, Any]
    summary: list[dict[str, Any]] = field(default_factory=list)
    tables: dict[str, tuple[Sequence[Mapping[str, Any]], Sequence[str]]] = field(default_factory=dict)

    def columns(self) -> list[str]:
        """Return the summary's columns: system first where there is more than one."""
        several = any("system" in row for row in self.summary)
        return [*(["system"] if several else []), *SUMMARY_COLUMNS]


def refuse_existing(out: Path, overwrite: bool) -> None:
    """OutputError if `out` holds results already and may not lose them."""
    there = [name for name in EVERY if (out / name).exists()]
    if there and not overwrite:
        raise OutputError(f"{out / there[0]}: exists already; choose another folder with -o, or --overwrite")


def save(out: Path, results: Results) -> dict[str, Any]:
    """Write the tables, summary.csv and evaluate.json into `out`, and remove what an earlier evaluation left there.

    Return what evaluate.json holds.
    """
    rows = next((results.tables[name][0] for name in (ITEMS, MOMS, WORDS) if name in results.tables), [])
    record = {
        **results.facts,
        "items": len({row["id"] for row in rows}),
        "rows": len(rows),
        "summary": [strict(row) for row in results.summary],
        "reasons": dict(Counter(row["reason"] for row in rows if row.get("reason")).most_common(10)),
        "protocol": results.conventions,
        "versions": {"usep": usepcli.__version__, "python": platform.python_version(), "numpy": np.__version__},
    }
    written = {*results.tables, SUMMARY, RECORD, *(PICTURES if results.facts.get("momi", {}).get("picture") else [])}
    for name in set(EVERY) - written:
        (out / name).unlink(missing_ok=True)
    for name, (table, columns) in results.tables.items():
        tables.write_csv(out / name, table, columns)
    tables.write_csv(out / SUMMARY, results.summary, results.columns())
    write_text(out / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return record


def strict(value: Any) -> Any:
    """Return a value with None in place of every nan and infinity: strict readers of JSON refuse the whole file."""
    if isinstance(value, Mapping):
        return {key: strict(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def about_data(manifest: Manifest, split: str, sample_rate: int) -> dict[str, Any]:
    """Return which data were scored, at which rate (Hz), such that a later run can tell whether it has the same.

    sha256: of the rows and of the settings that made them, wherever the folder lies.
    """
    record = manifest.path.parent / "prepare.json"
    made: Any = json.loads(record.read_text(encoding="utf-8", errors="replace")) if record.is_file() else {}
    made = made if isinstance(made, dict) else {}
    sums = made.get("sha256")
    text = "\n".join([*map(repr, manifest.rows), made.get("key", ""), json.dumps(sums, sort_keys=True)])
    return {
        "manifest": str(manifest.path),
        "split": split,
        "root": str(manifest.root.resolve()),
        "corpus": made.get("corpus", ""),
        "sample_rate": sample_rate,
        "sha256": hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest(),
    }
