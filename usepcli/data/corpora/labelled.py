"""Single sounds with a label each, from which mixtures are made that are known by words: a query for each source.

Layouts: a folder for each class; a list with a label column; FSD50K (fname, labels, split: the first label, the most
particular one, counts); ESC-50 (filename, fold, category: folds 1 to 3 train, 4 validates, 5 tests).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from usepcli.audio.io import show
from usepcli.data.corpora.base import Finder, probe, ratio_splits, some, split_word
from usepcli.data.corpora.events import Events
from usepcli.data.corpora.listing import ORIGINS, Recording, column, read_rows, recordings
from usepcli.data.manifest import Phrase, PoolRow
from usepcli.data.mixtures import Plan
from usepcli.data.phrases import template
from usepcli.data.scenes import ScenePlanner
from usepcli.errors import BadInput

_PATHS = ("path", "filename", "fname", "file", "filepath", "audio", "wav")
_LABELS = ("label", "labels", "category", "class")
_FOLDERS = ("", "audio", "clips", "wav", "FSD50K.dev_audio", "FSD50K.eval_audio")
_FOLDS = {"1": "train", "2": "train", "3": "train", "4": "valid", "5": "test"}


class Labelled(Events):
    """Single sounds; each mixture has `sources` of them, of different classes, every one with its query.

    stems: False writes the sums alone, for a training that may see no source: their queries, caption and phrases stay.
    """

    depth = 1  # of the folder that names the class; -1 the innermost

    def __init__(
        self,
        sources: tuple[int, int] = (2, 2),
        rate: int = 11025,
        seconds: float = 5.94421768707483,  # 65,535 samples at 11025 Hz
        event_snr_db: tuple[float, float] = (-2.5, 2.5),
        min_s: float = 0.2,
        train: int = 2000,
        valid: int = 200,
        test: int = 200,
        split_ratios: tuple[float, float, float] = (0.8, 0.1, 0.1),
        csv: str = "",
        split_column: str = "",
        stems: bool = True,
        limit: int = 0,
        seed: int = 0,
    ) -> None:
        counts = {"train": train, "valid": valid, "test": test}
        super().__init__(
            sources, rate, seconds, 0.0, 10.0, event_snr_db, min_s, **counts, split_ratios=split_ratios, csv=csv,
            split_column=split_column, limit=limit, seed=seed,
        )  # fmt: skip
        self.stems = stems

    def scan(self, root: Path) -> list[PoolRow]:
        """List the sounds of at least `min_s` seconds with class, query and split; paths relative to root."""
        rows = super().scan(root)
        bare = next((row for row in rows if not row.speaker), None)
        if bare is not None:
            raise BadInput(
                f"{show(root)}: {bare.path} has no label, or all have one; a folder for each class, or a list with a "
                "column label, was expected"
            )
        return [replace(row, query=row.query or template([_name(row)])) for row in rows]

    def planner(
        self,
        split: str,
        rows: Sequence[PoolRow],
        noise: Sequence[PoolRow],
        index: int,
        rooms: Sequence[PoolRow] = (),
    ) -> ScenePlanner:
        """Return the mixtures of split number `index`."""
        planner = _Worded(self.recipe, split, rows, noise, self.seed, index)
        planner.stems = self.stems
        return planner

    def _rows(self, found: list[Recording], root: Path) -> list[PoolRow]:
        """Deal what names no split class by class, so that every split knows every class."""
        kinds: dict[str, list[str]] = {}
        for item in found:
            if not item.split:
                kinds.setdefault(item.label, []).append(item.path)
        dealt: dict[str, str] = {}
        for paths in kinds.values():
            dealt |= ratio_splits(paths, self.split_ratios, self.seed)
        return super()._rows([replace(item, split=item.split or dealt[item.path]) for item in found], root)

    def _is_background(self, item: Recording) -> bool:
        return False

    def _listed(self, root: Path, table: str, split_column: str) -> list[Recording]:
        lists = [root / table] if table not in ("", "none") else []
        if not table:
            lists = _lists(root)
        if lists:
            found = [item for path in lists for item in self._read(root, path, split_column)]
            if not found:
                raise BadInput(f"{show(lists[0])}: lists no recording with a label")
            by_path = {item.path: item for item in found}
            headers = probe(root, some(list(by_path), self.limit), self.bad)
            found = [replace(by_path[path], rate=info.rate, frames=info.frames) for path, info in headers.items()]
        else:
            found = recordings(root, "none", "", split_column, self.depth, self.limit, self.bad)
        found = [item for item in found if item.frames >= self.min_s * item.rate]
        if not found:
            raise BadInput(f"{show(root)}: no readable recording of {self.min_s:g} s or more; see --min-s")
        return found

    def _read(self, root: Path, table: Path, split_column: str) -> list[Recording]:
        columns, rows = read_rows(table)
        path, label = column(table, columns, "", _PATHS), column(table, columns, "", _LABELS)
        if not path or not label:
            raise BadInput(
                f"{show(table)}: no {'label' if path else 'path'} column; one of "
                f"{', '.join(_LABELS if path else _PATHS)} was expected, found: {', '.join(columns)}"
            )
        split = "" if split_column == "none" else column(table, columns, split_column, ("split", "subset"))
        fold = "" if split or split_column == "none" else column(table, columns, "", ("fold",))
        licence = column(table, columns, "", ("licence", "license"))
        told = column(table, columns, "", ORIGINS)
        finder = Finder(root)
        found = []
        for row in rows:
            if not row[path] or not row[label].strip():
                continue
            said = split_word(row.get(split, "")) or row.get(split, "") or _FOLDS.get(row.get(fold, ""), "")
            name = row[label].split(",")[0].strip()
            where = placed(finder, row[path])
            query, origin = row.get("query", ""), row.get(told, "") or root.name
            found.append(Recording(where, 0, 0, name, said, origin, row.get(licence, ""), query=query))
        return found


class _Worded(ScenePlanner):
    """Plans mixtures whose caption names all sources, and whose phrases are the queries of each."""

    stems = True

    def plan(self, i: int) -> Plan:
        """Return mixture number i."""
        scene = super().plan(i)
        said = tuple(Phrase(turn.query) for turn in scene.turns)
        return replace(scene, caption=template(scene.label.split(";")), phrases=said, stems=self.stems)


def placed(finder: Finder, name: str) -> str:
    """Return the path of a recording that a list may name without its folder or its suffix."""
    for folder in _FOLDERS:
        for end in ("", ".wav", ".flac", ".ogg"):
            tail = f"{folder}/{name}{end}" if folder else f"{name}{end}"
            if (finder.root / tail).is_file():
                return tail
    return finder.find(name)


def _lists(root: Path) -> list[Path]:
    usual = ("manifest.csv", "meta/esc50.csv", "dev.csv", "FSD50K.ground_truth/dev.csv")
    return [root / name for name in usual if (root / name).is_file()][:1]


def _name(row: PoolRow) -> str:
    return row.speaker.removeprefix(f"{row.split}/")
