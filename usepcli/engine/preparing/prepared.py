"""What a preparation made: counts by split, what could not be used, and what to say about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from usepcli.data.corpora.base import SPLITS, Bad
from usepcli.data.manifest import Manifest
from usepcli.files import show


@dataclass
class Prepared:
    """What was made, by split; `kept` counts files of an earlier run, `bad` names unusable ones."""

    out: Path
    corpus: str
    mixtures: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    utterances: dict[str, int] = field(default_factory=dict)
    talkers: dict[str, int] = field(default_factory=dict)
    bad: list[Bad] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    kept: int = 0
    dry_run: bool = False
    mebibytes: float = 0.0
    share: str = ""  # what came of a share, for a person

    def table(self) -> list[dict[str, Any]]:
        """Return one row per split: split, mixtures, hours, utterances, talkers."""
        order = [*SPLITS, *sorted((self.mixtures.keys() | self.utterances.keys()) - set(SPLITS))]
        return [
            {
                "split": split,
                "mixtures": self.mixtures.get(split, 0),
                "hours": round(self.seconds.get(split, 0.0) / 3600, 3),
                "utterances": self.utterances.get(split, 0),
                "talkers": self.talkers.get(split, 0),
            }
            for split in order
            if split in self.mixtures or split in self.utterances
        ]

    def notes(self) -> list[str]:
        """Return the lines that tell a person what happened and what comes next."""
        if self.dry_run:
            return [*self.remarks, f"nothing was written; about {self.mebibytes:g} MiB would be in {show(self.out)}"]
        kept = [f"{self.kept} files were there already and stayed"] if self.kept else []
        if self.share:
            return [*self.remarks, self.share]
        return [
            *kept,
            *self.remarks,
            f"{show(self.out / Manifest.FILE)} is ready; check it with: usep prepare-data {show(self.out)} --check",
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        values = {
            **asdict(self),
            "out": str(self.out),
            "bad": [{"path": bad.path, "reason": bad.reason} for bad in self.bad],
        }
        if not self.share:
            del values["share"]
        return {**values, "splits": self.table()}
