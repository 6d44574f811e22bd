"""Public checkpoints that `usep pull` takes: where they lie, what they learned from, licences and published scores.

The table is published/public.csv, one line each. Scores are the makers' own, not measured by usep.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from usepcli import registry
from usepcli.weights.cards import Card, barred

FILE = Path(__file__).resolve().parents[1] / "published" / "public.csv"


@dataclass(frozen=True)
class Row:
    """One checkpoint: the repository, who made its layout, its task, its licences and its score."""

    name: str
    repo: str
    maker: str
    model: str
    task: str
    rate: int
    outputs: int
    mbytes: int
    licence_code: str
    licence_weights: str
    training_data: str
    licence_data: str
    metric: str
    value: float | None
    data: str
    protocol: str

    def command(self) -> str:
        """Return the command that fetches it under its name."""
        words = " --text-encoder FOLDER" if self.model in registry.QUERIED else ""
        return f"usep pull {self.repo}{words}"

    def commercial(self) -> str:
        """Say whether weights or training data are kept from commercial use, as far as their licences are known."""
        if barred(Card(licence=self.licence_data, licences={"weights": self.licence_weights})):
            return "no"
        return "unknown" if "unstated" in (self.licence_data, self.licence_weights) else "not barred"

    def words(self) -> dict[str, str]:
        """Return what a card says of such a checkpoint where its files say nothing."""
        return {
            "training_data": self.training_data, "licence": self.licence_data, "licence_weights": self.licence_weights,
            "licence_code": self.licence_code,
        }  # fmt: skip

    def scores(self) -> list[dict[str, Any]]:
        """Return the published score as a card has it."""
        if self.value is None:
            return []
        protocol = f"{self.protocol}; published by its makers, not measured by usep".removeprefix("; ")
        return [{"metric": self.metric, "value": self.value, "data": self.data, "protocol": protocol}]


@cache
def rows() -> tuple[Row, ...]:
    """Return the table in its own order."""
    with FILE.open(encoding="utf-8", newline="") as file:
        return tuple(_row(line) for line in csv.DictReader(file))


def _row(line: dict[str, str]) -> Row:
    held: dict[str, Any] = {part.name: line[part.name] for part in fields(Row)}
    held |= {key: int(held[key]) for key in ("rate", "outputs", "mbytes")}
    return Row(**held | {"value": float(held["value"]) if held["value"] else None})


def of(repo: str) -> Row | None:
    """Return the line of a repository, None for one that is not in the table."""
    return next((row for row in rows() if row.repo.lower() == repo.lower()), None)


def named(name: str) -> Row | None:
    """Return the line of a name under which `usep pull` would keep a checkpoint, None for any other."""
    return next((row for row in rows() if row.name == name), None)
