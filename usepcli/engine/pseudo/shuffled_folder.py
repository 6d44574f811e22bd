"""The folder of a shuffled set: whose it is, which settings made it, and which of its batches are finished.

remix.csv, or the table of a share beside it, grows by one line for each finished pseudo-mixture and names its batch; a
batch with as many lines as it has mixtures is finished. remix.json appears when everything is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from usepcli.data.manifest import Manifest
from usepcli.engine import tables
from usepcli.engine.folder import Folder
from usepcli.engine.shards import Shard
from usepcli.errors import OutputError
from usepcli.files import show
from usepcli.versions import versions

FORMAT = 1  # raised when the same settings would make other files
ITEMS, WAV = "remix.csv", "wav"
COLUMNS = (
    "batch", "round", "split", "id", "frames", "gain_db", "origin", "outputs", "speakers", "licence", "reason",
)  # fmt: skip


class ShuffledFolder(Folder):
    """`claim` before writing into the folder, `add` after each batch, `finish` when all is there."""

    name, command = "remix", "usep remix"
    made, foreign = (Manifest.FILE, ITEMS, WAV), ("prepare.json",)
    afresh = True
    part = ("remix", ".csv")

    def __init__(self, out: Path, facts: dict[str, Any], share: Shard | None = None) -> None:
        facts = json.loads(json.dumps(facts))
        key = hashlib.sha256(json.dumps([FORMAT, facts], sort_keys=True).encode()).hexdigest()
        super().__init__(out, key, {"format": FORMAT, "key": key, **facts}, share)
        self.items = out / (f"remix{share.suffix}.csv" if share else ITEMS)

    def refuse_input(self, manifest: Manifest) -> None:
        """Raise OutputError where the folder is the input's."""
        if self.path.resolve() in (manifest.root.resolve(), manifest.path.parent.resolve()):
            raise OutputError(f"{show(self.path)}: holds the mixtures to shuffle; choose another folder with -o")

    def finished(self, sizes: Mapping[int, int]) -> dict[int, list[tables.Cells]]:
        """Return the lines of the finished batches by number, after cutting off in our table what a kill interrupted.

        sizes: of every batch, the number of its mixtures.  The tables of all shares count.
        """
        own = _batches(tables.load(self.items), sizes)
        if not self.complete:
            tables.save(self.items, [line for lines in own.values() for line in lines], COLUMNS)
        return self.others(sizes) | own

    def others(self, sizes: Mapping[int, int]) -> dict[int, list[tables.Cells]]:
        """Return the finished batches of all tables but ours; sizes as for `finished`."""
        found: dict[int, list[tables.Cells]] = {}
        for path in (self.path / ITEMS, *self.parts()):
            if path != self.items:
                found |= _batches(tables.load(path), sizes)
        return found

    def add(self, rows: Sequence[tables.Line]) -> None:
        """Note the pseudo-mixtures of one batch, whose files are all in place."""
        for row in rows:
            tables.append_row(self.items, row)

    def gather(self, lines: Sequence[tables.Line]) -> None:
        """Put the lines of all batches into one table, in its order whoever made them."""
        tables.save(self.items, lines, COLUMNS)

    def text(self, results: dict[str, Any]) -> str:
        """Return the record with the versions of what made the files."""
        return super().text({"versions": versions("torch"), **results})

    def differences(self, earlier: dict[str, Any]) -> str:
        """Return in words what differs from an earlier record: settings, model or mixtures."""
        if earlier.get("settings") == self.facts["settings"] and earlier.get("model") != self.facts["model"]:
            return "another model"
        return super().differences(earlier)


def _batches(lines: Iterable[tables.Cells], sizes: Mapping[int, int]) -> dict[int, list[tables.Cells]]:
    found: dict[int, list[tables.Cells]] = {}
    for line in lines:
        found.setdefault(int(line["batch"]), []).append(line)
    return {number: of for number, of in found.items() if len(of) == sizes.get(number)}
