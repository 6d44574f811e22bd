"""prepare.json: which settings made a folder, so that a second run goes on with it or refuses to touch it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from usepcli.audio.io import show
from usepcli.data.corpora.base import Bad
from usepcli.data.corpora.cutter import Job
from usepcli.data.manifest import Manifest, Pool, PoolRow, Row, write_rows
from usepcli.errors import IOFault, OutputError
from usepcli.files import write_text
from usepcli.versions import versions

FORMAT = 1  # raised when the same settings would make other files
_OWN = ("wav", "pool", "noise", "rooms")
BAD_FILES = "bad_files.csv"
ANECHOIC = "anechoic.csv"  # the manifest once more, with the talkers as they sound without the room


class Record:
    """The settings of one prepared folder; `claim` before writing into it, `finish` when all is there."""

    def __init__(
        self,
        out: Path,
        source: Path,
        corpus: str,
        settings: dict[str, Any],
        rows: Sequence[Row | PoolRow | Job],
    ) -> None:
        self.out, self.source, self.corpus = out, source.resolve(), corpus
        self.settings = json.loads(json.dumps(settings))
        made_here = bool(rows) and isinstance(rows[0], PoolRow | Job)
        tree = self.source if self.source.is_dir() else self.source.parent
        self.root = out.resolve() if made_here else tree
        self.sources = _digest("\n".join(map(repr, rows)))
        self.key = _digest(json.dumps([FORMAT, corpus, self.settings, self.sources], sort_keys=True))
        self.tools: dict[str, str] = {}  # versions of libraries that only some corpora use

    @property
    def done(self) -> Path:
        """The record of a finished folder."""
        return self.out / "prepare.json"

    @property
    def partial(self) -> Path:
        """The record of a folder that is being filled."""
        return self.out / "prepare.partial.json"

    def claim(self, overwrite: bool) -> None:
        """Make the folder ours: go on if it has these settings, empty it if told to, else OutputError."""
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise OutputError(f"{show(self.out)}: cannot be made: {err.strerror}; choose another --out") from err
        earlier = self._earlier()
        if earlier is None:
            taken = [name for name in (Manifest.FILE, Pool.FILE, *_OWN) if (self.out / name).exists()]
            if taken and not overwrite:
                raise OutputError(
                    f"{show(self.out)}: holds '{taken[0]}', which `usep prepare-data` did not make; choose "
                    f"another --out "
                    "or pass --overwrite"
                )
        elif earlier.get("key") != self.key:
            if not overwrite:
                raise OutputError(
                    f"{show(self.out)}: was made with other settings ({self._differences(earlier)}); choose "
                    f"another --out "
                    "or pass --overwrite"
                )
            self._empty()
        if self.partial.exists():  # a run that was killed may have left files half-written
            for path in self.out.rglob(".*.tmp"):
                path.unlink(missing_ok=True)
        if not self.done.exists():
            write_text(self.partial, self._text({}))

    def finish(self, tables: Sequence[Manifest | Pool], splits: list[dict[str, Any]], n_bad: int) -> None:
        """Write the tables, then prepare.json with their checksums."""
        sums = {}
        for table in tables:
            table.write()
            sums[table.path.name] = hashlib.sha256(table.path.read_bytes()).hexdigest()
        write_text(
            self.done,
            self._text({"splits": splits, "bad_files": n_bad, "sha256": {**sums, "sources": self.sources}}),
        )
        self.partial.unlink(missing_ok=True)

    def _text(self, results: dict[str, Any]) -> str:
        try:
            # relative where the folder and the recordings move together, absolute otherwise
            inside = self.out.resolve().is_relative_to(self.root)
            root = os.path.relpath(self.root, self.out.resolve()) if inside else str(self.root)
        except ValueError:
            root = str(self.root)
        record = {
            "corpus": self.corpus,
            "source": str(self.source),
            "root": root,
            "settings": self.settings,
            "key": self.key,
            "versions": {**_versions(), **self.tools},
            **results,
        }
        return json.dumps(record, indent=2, ensure_ascii=True) + "\n"

    def _earlier(self) -> dict[str, Any] | None:
        for path in (self.done, self.partial):
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
            except FileNotFoundError:
                continue
            except (OSError, ValueError):
                return {}
            return found if isinstance(found, dict) else {}
        return None

    def _differences(self, earlier: dict[str, Any]) -> str:
        before = earlier.get("settings") or {}
        names = [name for name, value in self.settings.items() if before.get(name, value) != value]
        if earlier.get("corpus") != self.corpus:
            return f"corpus {earlier.get('corpus')}, now {self.corpus}"
        if not names:
            return "the recordings have changed" if earlier.get("settings") else "its prepare.json cannot be read"
        return ", ".join(
            f"{name} was {json.dumps(before[name])}, now {json.dumps(self.settings[name])}" for name in names[:3]
        )

    def _empty(self) -> None:
        try:
            for path in (self.done, self.partial):
                path.unlink(missing_ok=True)
            for name in _OWN:
                shutil.rmtree(self.out / name, ignore_errors=False) if (self.out / name).is_dir() else None
            for name in (Manifest.FILE, Pool.FILE, ANECHOIC, BAD_FILES):
                (self.out / name).unlink(missing_ok=True)
        except OSError as err:
            raise IOFault(f"{show(self.out)}: cannot be emptied: {err.strerror}") from err


def write_bad(out: Path, bad: Sequence[Bad]) -> None:
    """Write bad_files.csv (path, reason), or remove an old one when there is nothing to tell."""
    path = out / BAD_FILES
    if bad:
        write_rows(path, Bad._fields, bad)
    else:
        path.unlink(missing_ok=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _versions() -> dict[str, str]:
    import soundfile

    known = versions("numpy", "soundfile", "soxr")
    return known | {"libsndfile": soundfile.__libsndfile_version__}
