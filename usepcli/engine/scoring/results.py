"""What an evaluation leaves behind: tables as CSV, and evaluate.json, which says how they were made."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import usepcli
from usepcli.data.manifest import Manifest
from usepcli.engine import tables
from usepcli.engine.folder import Folder
from usepcli.engine.journal import Journal
from usepcli.engine.scoring import assigning
from usepcli.engine.shards import Shard
from usepcli.errors import BadInput, OutputError
from usepcli.files import read_json, show, write_text

ITEMS, SUMMARY, RECORD = "items.csv", "summary.csv", "evaluate.json"
UNTOUCHED, CONFUSION, MOMS, WORDS = "items_unprocessed.csv", "confusion.csv", "momi.csv", "wer.csv"
PRESENCE = "presence.csv"
STATS, VERSUS, COMPARED = "stats.csv", "versus.csv", "compare.csv"
PICTURES = ("momi_msi.png", "momi_msi.svg")
REPORT, HOLES = "report.html", "holes.csv"
ORACLES, PROJECTED, ASSIGNED = "items_oracle.csv", "items_consistency.csv", "items_assign.csv"
SEPARATED = "separated"  # the system that is scored, where others stand beside it
EVERY = (
    ITEMS, SUMMARY, RECORD, UNTOUCHED, ORACLES, PROJECTED, ASSIGNED, CONFUSION, MOMS, WORDS, PRESENCE, STATS, VERSUS,
    COMPARED, *PICTURES, REPORT, HOLES,
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
        """Return the summary's columns: system first where there is more than one, assign where that was asked for."""
        more = [name for name in ("system", assigning.COLUMN) if any(name in row for row in self.summary)]
        return [*more, *SUMMARY_COLUMNS]


def described(results: Results) -> dict[str, Any]:
    """Return what is said of an evaluation in evaluate.json."""
    rows = next((results.tables[name][0] for name in (ITEMS, MOMS, WORDS, PRESENCE) if name in results.tables), [])
    return {
        **results.facts,
        "items": len({row["id"] for row in rows}),
        "rows": len(rows),
        "summary": [strict(row) for row in results.summary],
        "reasons": dict(Counter(row["reason"] for row in rows if row.get("reason")).most_common(10)),
        "protocol": results.conventions,
        "versions": {"usep": usepcli.__version__, "python": platform.python_version(), "numpy": np.__version__},
    }


def save(out: Path, results: Results) -> dict[str, Any]:
    """Write the tables, summary.csv and evaluate.json into `out`, and remove what an earlier evaluation left there.

    Return what evaluate.json holds.
    """
    record = described(results)
    write_tables(out, results)
    write_text(out / RECORD, _json(record))
    return record


def write_tables(out: Path, results: Results) -> None:
    """Write the tables and summary.csv into `out`, and remove what an earlier evaluation left there."""
    pictures = PICTURES if results.facts.get("momi", {}).get("picture") else ()
    for name in set(EVERY) - {*results.tables, SUMMARY, *pictures}:
        (out / name).unlink(missing_ok=True)
    for name, (table, columns) in results.tables.items():
        tables.write_csv(out / name, table, columns)
    tables.write_csv(out / SUMMARY, results.summary, results.columns())


def _json(record: Mapping[str, Any]) -> str:
    return json.dumps(record, indent=1, ensure_ascii=False) + "\n"


class Place(Folder):
    """The folder of the results: bound to what was asked for and to the files that were read, one run at a time.

    A `with` block locks it and opens the journal of what is scored (engine/journal.py), which an end before the end
    leaves there; evaluate.json, written last, says that all is there.  Earlier results stay until then.
    options: as `strict_options` gives them.  facts: those of the job; what was scored decides, too.
    share, merge: only a share of the items is scored, or none.
    """

    name, command = "evaluate", "usep evaluate"
    made = tuple(name for name in EVERY if name != RECORD)
    over_others = True

    def __init__(
        self,
        path: Path,
        options: dict[str, Any],
        files: Iterable[Path],
        facts: Mapping[str, Any],
        share: Shard | None = None,
        merge: bool = False,
    ) -> None:
        scored = {key: facts.get(key) for key in ("model", "data", "estimates", "references", "mixtures")}
        stamps = _digest("\n".join(map(_stamp, files)))
        of = {"usep": usepcli.__version__, "options": options, "scored": strict(scored), "files": stamps}
        super().__init__(path, _digest(json.dumps(of, sort_keys=True)), {"settings": options}, share)
        self.journal = Journal(path, "items", self.key, {"asked": options}, share, merge)
        self._new = not path.exists()

    def again(self, overwrite: bool) -> dict[str, Any] | None:
        """Return the record of these very results where they are there; OutputError where others are, or begun."""
        self.check(overwrite)
        if not overwrite and (other := self.journal.foreign()):
            raise OutputError(
                f"{show(other[0])}: holds items that were scored with other settings ({self.differences(other[1])}); "
                "choose another -o, or pass --overwrite to have these scored anew"
            )
        earlier = self.earlier() or {}
        whole = not earlier.get("unmade") and all(name in earlier for name in _ALWAYS)
        same = self.complete and earlier.get("key") == self.key and whole
        return earlier if same and not overwrite else None

    def __enter__(self) -> Place:
        self.lock.take()
        try:
            if not self.share:
                self.clean()
                if self.journal.foreign():  # to be overwritten
                    self.journal.discard()
            self.journal.open()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        self.journal.close()
        if kind is not None and not any((self.path / name).exists() for name in self.made):
            self.partial.unlink(missing_ok=True)
        self.release()
        if self._new:
            with suppress(OSError):  # nothing came of it
                self.path.rmdir()

    def exporting(self) -> bool:
        """Whether a run of this work, which was stopped, had begun to write for Kaldi."""
        return self.journal.has("kaldi")

    def record(self, results: Results) -> dict[str, Any]:
        """Return what evaluate.json is to hold."""
        return described(results) | {"key": self.key, "asked": self.facts["settings"]}

    def save(self, results: Results, record: Mapping[str, Any], whole: bool = True) -> None:
        """Write the tables, summary.csv and evaluate.json, and remove what an earlier evaluation left there."""
        write_text(self.partial, self.text({}))
        self.done.unlink(missing_ok=True)
        write_tables(self.path, results)
        self.note(record, whole)
        self.partial.unlink(missing_ok=True)

    def note(self, record: Mapping[str, Any], whole: bool = True) -> None:
        """Write evaluate.json; not whole: the same command again makes what is missing, and scores nothing again."""
        write_text(self.done, _json({**record, **({} if whole else {"unmade": True})}))
        if whole:
            self.journal.discard()

    def text(self, results: dict[str, Any]) -> str:
        """Return the record of an evaluation that is being made."""
        return _json({"key": self.key, "asked": self.facts["settings"], **results})

    def earlier(self) -> dict[str, Any] | None:
        """Return the record of an earlier evaluation, {} for a damaged one, None without one."""
        found = super().earlier()
        return found if found is None or well_formed(found) else {}

    def differences(self, earlier: dict[str, Any]) -> str:
        """Return in words what differs from an earlier evaluation: what was asked for, else the data or the model."""
        before, now = earlier.get("asked"), self.facts["settings"]
        if not isinstance(before, dict):
            return "by an earlier version of usep" if earlier else f"its {RECORD} cannot be read"
        changed = [name for name in now if before.get(name) != now[name]]
        told = [f"{name} was {json.dumps(before.get(name))}, now {json.dumps(now[name])}" for name in changed[:3]]
        return ", ".join(told) or "the model, its data or their files have changed"


def _stamp(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return f"{path}: none"
    return f"{path.resolve()} {found.st_size} {found.st_mtime_ns}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def strict_options(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as JSON knows them."""

    def plain(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [plain(inner) for inner in value]
        return show(value) if isinstance(value, Path) else value

    return {name: plain(value) for name, value in asked.items()}


def recalled(record: Mapping[str, Any]) -> Results:
    """Return what is shown of an evaluation from its evaluate.json: the summary, and the tables that it holds."""
    found = Results(dict(record), dict(record.get("protocol") or {}), list(record.get("summary") or []))
    held = {
        CONFUSION: record.get("confusion"), STATS: (record.get("stats") or {}).get("rows"),
        VERSUS: (record.get("versus") or {}).get("rows"), COMPARED: record.get("compare"),
    }  # fmt: skip
    for name, rows in held.items():
        if rows:
            found.tables[name] = (rows, list(rows[0]))
    return found


_MAPPINGS = ("data", "protocol", "channels", "settings", "stats", "versus", "reasons", "versions", "momi")
_ALWAYS = ("items", "rows", "summary", "reasons", "protocol")  # in every finished record (`described`)


def well_formed(record: Mapping[str, Any]) -> bool:
    """Return whether each part of a record of an evaluation is of its kind, so that it can be gone through."""
    parts = [record.get(name) or {} for name in _MAPPINGS]
    rows = [record.get("summary") or [], record.get("compare") or [], record.get("confusion") or []]
    rows += [part.get("rows") or [] for part in (record.get("stats"), record.get("versus")) if isinstance(part, dict)]
    counts = [record.get(name) or 0 for name in ("items", "rows")]
    return (
        all(isinstance(part, dict) for part in parts)
        and all(isinstance(table, list) and all(isinstance(row, dict) for row in table) for table in rows)
        and all(isinstance(count, int) for count in counts)
    )


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
    try:
        made: Any = read_json(record, errors="replace") if record.is_file() else {}
    except ValueError as fault:
        raise BadInput(f"{show(record)}: not JSON ({fault}); run usep prepare-data again") from fault
    made = made if isinstance(made, dict) else {}
    sums = made.get("sha256")
    conditions = sorted({row.condition for row in manifest.rows if row.condition})
    text = "\n".join([*map(repr, manifest.rows), made.get("key", ""), json.dumps(sums, sort_keys=True)])
    return {
        "manifest": str(manifest.path),
        "split": split,
        "root": str(manifest.root.resolve()),
        "corpus": made.get("corpus", ""),
        "sample_rate": sample_rate,
        **({"conditions": conditions} if conditions else {}),
        "sha256": hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest(),
    }
