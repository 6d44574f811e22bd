"""prepare.json: which settings made a folder, so that a second run goes on with it or refuses to touch it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from usepcli.audio import remote, tars
from usepcli.data.corpora.base import Bad
from usepcli.data.corpora.cutter import Job
from usepcli.data.heard_scenes import DRY
from usepcli.data.manifest import Manifest, Pool, PoolRow, Row, write_rows
from usepcli.data.pairs import ANECHOIC
from usepcli.engine.folder import Folder
from usepcli.engine.shards import Shard, State
from usepcli.errors import BadInput, IOFault
from usepcli.files import MOST_LIST, read_json, show, write_text
from usepcli.versions import versions

FORMAT = 1  # raised when the same settings would make other files
BAD_FILES = "bad_files.csv"
TWINS = (ANECHOIC, DRY)  # tables of the same ids that some corpora have beside the manifest


class PreparedFolder(Folder):
    """The settings of one prepared folder; `claim` before writing into it, `finish` when all is there.

    A share leaves prepare-2-of-8.json when all its files are there: what could not be used among them.
    """

    name, command = "prepare", "usep prepare-data"
    made = (Manifest.FILE, Pool.FILE, "wav", "pool", "noise", "rooms", *TWINS, BAD_FILES, tars.FOLDER, "shards")
    over_others = True
    part = ("prepare", ".json")

    def __init__(
        self,
        out: Path,
        source: Path,
        corpus: str,
        settings: dict[str, Any],
        rows: Sequence[Row | PoolRow | Job],
        share: Shard | None = None,
        merge: bool = False,
    ) -> None:
        where = remote.address(source)
        self.source, self.corpus = Path(where) if where else source.resolve(), corpus
        made_here = bool(rows) and isinstance(rows[0], PoolRow | Job)
        tree = self.source if self.source.is_dir() else self.source.parent
        self.root = out.resolve() if made_here or where else tree
        # relative where the folder and the recordings move together, absolute otherwise
        inside = out.resolve().is_relative_to(self.root)
        root = os.path.relpath(self.root, out.resolve()) if inside else str(self.root)
        packed = "shards" in settings  # then the tables name tars in the folder itself
        self.loose = ("wav", "pool") if made_here and packed else ()
        root = "." if packed else root
        settings = json.loads(json.dumps(settings))
        self.sources = _digest("\n".join(map(repr, rows)))
        key = _digest(json.dumps([FORMAT, corpus, settings, self.sources], sort_keys=True))
        facts = {"corpus": corpus, "source": where or str(self.source), "root": root, "settings": settings, "key": key}
        super().__init__(out, key, facts, share)
        self.merge = merge
        self.tools: dict[str, str] = {}  # versions of libraries that only some corpora use

    def state(self, total: int, what: str) -> State:
        """Return how many of `total` items are there, as the shares that came to their end say."""
        shares = set(self.parts().values())
        done = range(total) if self.complete else {n for n in range(total) for share in shares if share.has(n)}
        return State(what, {n: n for n in range(total)}, done, self.shared_out())

    def unusable(self) -> set[str]:
        """Return what the shares that came to their end could not use."""
        return {name for path in self.parts() for name in _bad(path)}

    def end_share(self, bad: Sequence[Bad]) -> None:
        """Say that all files of this share are there."""
        if self.share and not self.complete:
            told = {"key": self.key, "bad": [(one.path, one.reason) for one in bad]}
            write_text(self.path / f"prepare{self.share.suffix}.json", json.dumps(told) + "\n")

    def seal(self, tables: Sequence[Manifest | Pool], splits: list[dict[str, Any]], n_bad: int) -> None:
        """Write the tables, then prepare.json with their checksums and extents."""
        sums = {}
        for table in tables:
            table.write()
            sums[table.path.name] = hashlib.sha256(table.path.read_bytes()).hexdigest()
        extents = {table.path.name: table.extent for table in tables}
        sums |= {"sources": self.sources}
        self.finish({"splits": splits, "bad_files": n_bad, "sha256": sums, "tables": extents})

    def drop_loose(self) -> None:
        """Remove the files that were made to be packed into tars; IOFault where they cannot be removed."""
        for name in self.loose:
            try:
                shutil.rmtree(self.path / name)
            except FileNotFoundError:
                continue
            except OSError as fault:
                raise IOFault(f"{self.path / name}: cannot be removed: {fault.strerror}; it is not needed") from fault

    def text(self, results: dict[str, Any]) -> str:
        """Return the record with the versions of what made the files."""
        return super().text({"versions": {**_versions(), **self.tools}, **results})

    def differences(self, earlier: dict[str, Any]) -> str:
        """Return in words what differs from an earlier record: corpus, settings or recordings."""
        if earlier and earlier.get("corpus") != self.corpus:
            return f"corpus {earlier.get('corpus')}, now {self.corpus}"
        return super().differences(earlier)


def write_bad(out: Path, bad: Sequence[Bad]) -> None:
    """Write bad_files.csv (path, reason), or remove an old one when there is nothing to tell."""
    path = out / BAD_FILES
    if bad:
        write_rows(path, ("path", "reason"), [(one.path, one.reason) for one in bad])
    else:
        path.unlink(missing_ok=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _versions() -> dict[str, str]:
    import soundfile

    known = versions("numpy", "soundfile", "soxr")
    return known | {"libsndfile": soundfile.__libsndfile_version__}


def _bad(path: Path) -> list[str]:
    """Return the files that a share could not use; BadInput where its record is none of ours."""
    try:
        return [str(name) for name, _ in read_json(path, "surrogateescape", most=MOST_LIST)["bad"]]
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise BadInput(f"{show(path)}: cannot be read ({fault}); remove it and run that share again") from fault
