"""The folder of a shuffled set: whose it is, which settings made it, and which of its batches are finished.

remix.csv grows by one line for each finished pseudo-mixture and names its batch; batches are made in order, so all
before the last one named are finished. remix.json appears when everything is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from usepcli.data.manifest import Manifest
from usepcli.engine import tables
from usepcli.engine.folder import Folder
from usepcli.errors import OutputError
from usepcli.files import show
from usepcli.versions import versions

FORMAT = 1  # raised when the same settings would make other files
ITEMS, WAV = "remix.csv", "wav"


class ShuffledFolder(Folder):
    """`claim` before writing into the folder, `add` after each batch, `finish` when all is there."""

    name, command = "remix", "usep remix"
    made, foreign = (Manifest.FILE, ITEMS, WAV), ("prepare.json",)
    afresh = True

    def __init__(self, out: Path, facts: dict[str, Any]) -> None:
        facts = json.loads(json.dumps(facts))
        key = hashlib.sha256(json.dumps([FORMAT, facts], sort_keys=True).encode()).hexdigest()
        super().__init__(out, key, {"format": FORMAT, "key": key, **facts})
        self.items = out / ITEMS

    def refuse_input(self, manifest: Manifest) -> None:
        """Raise OutputError where the folder is the input's."""
        if self.path.resolve() in (manifest.root.resolve(), manifest.path.parent.resolve()):
            raise OutputError(f"{show(self.path)}: holds the mixtures to shuffle; choose another folder with -o")

    def finished(self) -> list[tables.Cells]:
        """Return the lines of the finished batches, after cutting off those of a batch that a kill interrupted."""
        if self.complete:
            return tables.read_csv(self.items)
        rows = tables.load(self.items)
        last = max((int(row["batch"]) for row in rows), default=0)
        kept = [row for row in rows if int(row["batch"]) < last]
        tables.save(self.items, kept, list(rows[0]) if rows else ())
        return kept

    def add(self, rows: Sequence[tables.Line]) -> None:
        """Note the pseudo-mixtures of one batch, whose files are all in place."""
        for row in rows:
            tables.append_row(self.items, row)

    def text(self, results: dict[str, Any]) -> str:
        """Return the record with the versions of what made the files."""
        return super().text({"versions": versions("torch"), **results})

    def differences(self, earlier: dict[str, Any]) -> str:
        """Return in words what differs from an earlier record: settings, model or mixtures."""
        if earlier.get("settings") == self.facts["settings"] and earlier.get("model") != self.facts["model"]:
            return "another model"
        return super().differences(earlier)
