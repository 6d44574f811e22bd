"""The folder of a shuffled set: whose it is, which settings made it, and which of its batches are finished.

remix.csv grows by one line for each finished pseudo-mixture and names its batch; batches are made in order, so all
before the last one named are finished. remix.json appears when everything is there.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from usepcli.audio.io import show
from usepcli.data.manifest import Manifest
from usepcli.engine import tables
from usepcli.engine.training.runfolder import RunFolder
from usepcli.errors import IOFault, OutputError
from usepcli.files import write_text
from usepcli.versions import versions

FORMAT = 1  # raised when the same settings would make other files
ITEMS, WAV = "remix.csv", "wav"


class Record:
    """`claim` before writing into the folder, `add` after each pseudo-mixture, `finish` when all is there."""

    def __init__(self, out: Path, facts: dict[str, Any]) -> None:
        self.out, self.facts = out, json.loads(json.dumps(facts))
        self.key = hashlib.sha256(json.dumps([FORMAT, self.facts], sort_keys=True).encode()).hexdigest()
        self.items = out / ITEMS
        self.done, self.partial = out / "remix.json", out / "remix.partial.json"
        self._lock: RunFolder | None = None

    def check(self, manifest: Manifest, overwrite: bool) -> None:
        """Raise OutputError where the folder is the input's, somebody else's, or holds a set of other settings."""
        if self.out.exists() and not self.out.is_dir():
            raise OutputError(f"{show(self.out)}: is a file where a folder is to be made; choose another -o")
        if self.out.resolve() in (manifest.root.resolve(), manifest.path.parent.resolve()):
            raise OutputError(f"{show(self.out)}: holds the mixtures to shuffle; choose another folder with -o")
        earlier = self._earlier()
        if earlier is None:
            taken = [name for name in (Manifest.FILE, "prepare.json", ITEMS, WAV) if (self.out / name).exists()]
            if taken:
                raise OutputError(
                    f"{show(self.out)}: holds '{taken[0]}', which was not made by `usep remix`; choose another -o"
                )
        elif earlier.get("key") != self.key and not overwrite:
            raise OutputError(
                f"{show(self.out)}: was made with other settings ({self._differences(earlier)}); choose another -o "
                "or pass --overwrite"
            )

    def claim(self, overwrite: bool) -> list[dict[str, str]]:
        """Lock the folder, empty it if told to, and return the lines of the batches that are finished in it."""
        self._lock = RunFolder(self.out)
        if overwrite and self._earlier() is not None:
            self._empty()
        if self.done.exists():
            return tables.read_csv(self.items)
        for debris in (self.out / WAV).rglob(".*.tmp"):
            debris.unlink(missing_ok=True)
        write_text(self.partial, self._text({}))
        return self._finished()

    def _finished(self) -> list[dict[str, str]]:
        """Return the lines of the finished batches after cutting the others off."""
        if not self.items.exists():
            return []
        text = self.items.read_bytes()
        if not text.endswith(b"\n"):  # torn by a kill
            self.items.write_bytes(text[: text.rfind(b"\n") + 1])
        rows = tables.read_csv(self.items)
        # A kill may have left the last batch without some of its lines.
        last = max((int(row["batch"]) for row in rows), default=0)
        kept = [row for row in rows if int(row["batch"]) < last]
        tables.write_csv(self.items, kept, list(rows[0])) if kept else self.items.unlink()
        return kept

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.done.exists()

    def add(self, rows: Sequence[tables.Row]) -> None:
        """Note the pseudo-mixtures of one batch, whose files are all in place."""
        for row in rows:
            tables.append_row(self.items, row)

    def finish(self, manifest: Manifest, results: dict[str, Any]) -> None:
        """Write manifest.csv, then remix.json."""
        manifest.write()
        write_text(self.done, self._text(results))
        self.partial.unlink(missing_ok=True)

    def release(self) -> None:
        """Give the folder's lock back."""
        if self._lock is not None:
            self._lock.release()

    def _text(self, results: dict[str, Any]) -> str:
        record = {"format": FORMAT, "key": self.key, **self.facts, "versions": versions("torch"), **results}
        return json.dumps(record, indent=2) + "\n"

    def _earlier(self) -> dict[str, Any] | None:
        for path in (self.done, self.partial):
            if path.is_file():
                try:
                    found = json.loads(path.read_text(encoding="utf-8"))
                except (OSError, ValueError):
                    return {}
                return found if isinstance(found, dict) else {}
        return None

    def _differences(self, earlier: dict[str, Any]) -> str:
        before, now = earlier.get("settings"), self.facts["settings"]
        if not isinstance(before, dict):
            return "its record cannot be read"
        changed = [f"{k} was {json.dumps(before[k])}, now {json.dumps(now[k])}" for k in now if before.get(k) != now[k]]
        if changed:
            return ", ".join(changed[:3])
        return "another model" if earlier.get("model") != self.facts["model"] else "the mixtures have changed"

    def _empty(self) -> None:
        # First a record that fits no settings: a kill from here on leaves a folder that has to be overwritten again.
        write_text(self.partial, "{}\n")
        try:
            for path in (self.done, self.out / Manifest.FILE, self.items):
                path.unlink(missing_ok=True)
            if (self.out / WAV).is_dir():
                shutil.rmtree(self.out / WAV)
        except OSError as err:
            raise IOFault(f"{show(self.out)}: cannot be emptied: {err.strerror}") from err
