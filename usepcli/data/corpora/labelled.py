"""Single sounds with a label each, from which mixtures are made that are known by words: a query for each source.

Layouts: a folder for each class; a list with a label column; FSD50K (fname, labels, split: the first label, the most
particular one, counts; what eval.csv lists tests); ESC-50 (filename, fold, category: folds 1 to 3 train, 4 validates, 5
tests); lists without a header, of recordings in folders of their class.  A list of test mixtures names the recordings
of one in each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from usepcli.audio.io import AUDIO_SUFFIXES, show
from usepcli.data.corpora.base import Bad, Finder, probe, ratio_splits, some, split_word
from usepcli.data.corpora.events import Events
from usepcli.data.corpora.listing import ORIGINS, Recording, column, read_rows, recordings
from usepcli.data.manifest import PoolRow
from usepcli.data.phrases import template
from usepcli.data.rows import bare
from usepcli.data.scenes import ScenePlanner
from usepcli.data.worded import Cut, ListedPlanner, SplitPlanner, WordedPlanner
from usepcli.errors import BadInput, ConfigError, InputNotFound

_PATHS = ("path", "filename", "fname", "file", "filepath", "audio", "wav")
_LABELS = ("label", "labels", "category", "class")
_FOLDERS = ("", "audio", "clips", "wav", "data", "FSD50K.dev_audio", "FSD50K.eval_audio")
_FOLDS = {"1": "train", "2": "train", "3": "train", "4": "valid", "5": "test"}


class Labelled(Events):
    """Single sounds; each mixture has `sources` of them, of different classes, every one with its query.

    stems: False writes the sums alone, for a training that may see no source: their queries, caption and phrases stay.
    supervised: the share of training recordings that are heard in mixtures with sources (0: all), others in sums alone.
    test_list: rows of the recordings of each test mixture; no other mixtures are in the test split then.
    """

    depth = 1  # of the folder that names the class; -1 the innermost
    cut: Cut = "begin"
    segments = False  # whether a listed test mixture goes on as long as its recordings do
    # The lists that are looked for, those of one kind together.
    usual: tuple[tuple[str, ...], ...] = (
        ("manifest.csv",),
        ("meta/esc50.csv",),
        ("dev.csv", "eval.csv"),
        ("FSD50K.ground_truth/dev.csv", "FSD50K.ground_truth/eval.csv"),
    )

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
        supervised: float = 0.0,
        test_list: str = "",
        limit: int = 0,
        seed: int = 0,
    ) -> None:
        counts = {"train": train, "valid": valid, "test": test}
        super().__init__(
            sources, rate, seconds, 0.0, 10.0, event_snr_db, min_s, **counts, split_ratios=split_ratios, csv=csv,
            split_column=split_column, limit=limit, seed=seed,
        )  # fmt: skip
        if not 0 <= supervised < 1 or (supervised and not stems):
            found = f"--supervised {supervised:g}{'' if stems else ' with --no-stems'}"
            raise ConfigError(f"{found}: a share of 0 up to 1, with --stems where it is above 0, was expected")
        self.stems, self.supervised, self.test_list = stems, supervised, test_list
        self._wanted: list[tuple[str, list[str]]] = []  # where in the list, and which recordings make a mixture
        self._entries: list[list[str]] = []  # the ids of those that can be made
        self._known: dict[str, PoolRow] = {}
        self._said: list[str] = []

    def scan(self, root: Path) -> list[PoolRow]:
        """List the sounds of at least `min_s` seconds with class, query and split; paths relative to root."""
        rows = super().scan(root)
        unnamed = next((row for row in rows if not row.speaker), None)
        if unnamed is not None:
            raise BadInput(
                f"{show(root)}: {unnamed.path} has no label, or all have one; a folder for each class, or a list with "
                "a column label, was expected"
            )
        self._entries = [ids for where, paths in self._wanted if (ids := self._entry(where, paths, rows))]
        return [replace(row, query=row.query or template([_name(row)])) for row in rows]

    def remarks(self) -> list[str]:
        """Say which lists the splits come from."""
        listed = [f"test mixtures: {len(self._entries)} are listed in {self.test_list}"] if self._wanted else []
        return [*self._said, *listed]

    def planner(
        self,
        split: str,
        rows: Sequence[PoolRow],
        noise: Sequence[PoolRow],
        index: int,
        rooms: Sequence[PoolRow] = (),
    ) -> ScenePlanner:
        """Return the mixtures of split number `index`; of a list there are as many as it names."""
        if split == "train" and self.supervised:
            return SplitPlanner(self.recipe, split, rows, self.seed, index, self.cut, self.supervised)
        if split != "test" or not self._wanted:
            return WordedPlanner(self.recipe, split, rows, self.seed, index, self.stems, self.cut)
        how = self._entries, self.stems, self.cut, self.segments
        planner = ListedPlanner(self.recipe, split, rows, self.seed, index, *how)
        self.counts[split] = len(planner)
        return planner

    def _rows(self, found: list[Recording], root: Path) -> list[PoolRow]:
        """Deal what names no split class by class, so that every split knows every class.

        Lists that name training and test alone give a share of their training to the validation.
        """
        named = {item.split for item in found}
        lacking = "" not in named and "train" in named and "valid" not in named and self.counts["valid"] > 0
        first, second, third = self.split_ratios
        ratios = (first, second, 0.0) if self._wanted or lacking else (first, second, third)
        kinds: dict[str, list[str]] = {}
        for item in found:
            if not item.split or (lacking and item.split == "train"):
                kinds.setdefault(item.label, []).append(item.path)
        dealt: dict[str, str] = {}
        for paths in kinds.values():
            dealt |= ratio_splits(paths, ratios, self.seed)
        if lacking:
            count = sum(split == "valid" for split in dealt.values())
            self._said.append(f"no list names validation recordings: {count} of those for training are for validation")
        return super()._rows([replace(item, split=dealt.get(item.path, item.split)) for item in found], root)

    def _is_background(self, item: Recording) -> bool:
        return False

    def _listed(self, root: Path, table: str, split_column: str) -> list[Recording]:
        lists = [root / table] if table not in ("", "none") else [] if table else self._lists(root)
        self._wanted = self._mixtures(root, lists)
        tested = {path for _, paths in self._wanted for path in paths}
        if lists:
            found = [item for path in lists for item in self._read(root, path, split_column)]
            if not found:
                raise BadInput(f"{show(lists[0])}: lists no recording with a label that is there")
            by_path = {item.path: item for item in found}
            by_path |= {item.path: item for item in self._unlisted(sorted(tested - set(by_path)), root)}
            headers = probe(root, some(list(by_path), self.limit), self.bad)
            found = [replace(by_path[path], rate=info.rate, frames=info.frames) for path, info in headers.items()]
        else:
            found = recordings(root, "none", "", split_column, self.depth, self.limit, self.bad)
        found = [item for item in found if item.frames >= self.min_s * item.rate]
        if not found:
            raise BadInput(f"{show(root)}: no readable recording of {self.min_s:g} s or more; see --min-s")
        return [replace(item, split=item.split or "test") if item.path in tested else item for item in found]

    def _unlisted(self, paths: Sequence[str], root: Path) -> list[Recording]:
        """Return the recordings that the list of test mixtures alone names, where their folders tell the class."""
        del paths, root
        return []

    def _lists(self, root: Path) -> list[Path]:
        """Return the lists of the first kind that is there, none where no list is."""
        kinds = ([root / name for name in names if (root / name).is_file()] for names in self.usual)
        return next((found for found in kinds if found), [])

    def _mixtures(self, root: Path, lists: Sequence[Path]) -> list[tuple[str, list[str]]]:
        """Return where in the list of test mixtures each stands, and the recordings that it names."""
        del lists
        if not self.test_list:
            return []
        table = root / self.test_list if (root / self.test_list).is_file() else Path(self.test_list)
        if not table.is_file():
            raise InputNotFound(f"{show(table)}: no such list of test mixtures")
        finder = Finder(root)
        named = [(f"{table.name}:{line}", [cell for cell in cells if cell]) for line, cells in bare(table)]
        if named and not any(is_sound(cell) for cell in named[0][1]):
            del named[0]  # a header
        return [(where, [placed(finder, cell) for cell in cells]) for where, cells in named]

    def _entry(self, where: str, paths: Sequence[str], rows: Sequence[PoolRow]) -> list[str]:
        """Return the ids of a listed mixture's recordings; [] where it cannot be made, and why goes to `bad`."""
        if not self._known:
            self._known = {row.path: row for row in rows}
        known = [self._known.get(path) for path in paths]
        found = [row for row in known if row is not None]
        fault = ""
        if len(found) < len(paths):
            fault = f"{paths[known.index(None)]} is not among the recordings"
        elif other := next((row for row in found if row.split != "test"), None):
            fault = f"{other.path} belongs to split {other.split}"
        elif len({row.speaker for row in found}) < len(found):
            fault = "one class twice"
        if fault:
            self.bad.append(Bad(where, f"{fault}; the test mixture is left out"))
        return [] if fault else [row.id for row in found]

    def _read(self, root: Path, table: Path, split_column: str) -> list[Recording]:
        if (first := bare(table)[:1]) and is_sound(first[0][1][0]):
            return self._unnamed(root, table, split_column)
        columns, rows = read_rows(table)
        path, label = column(table, columns, "", _PATHS), column(table, columns, "", _LABELS)
        if not path or not label:
            raise BadInput(
                f"{show(table)}: no {'label' if path else 'path'} column; one of "
                f"{', '.join(_LABELS if path else _PATHS)} was expected, found: {', '.join(columns)}"
            )
        split = "" if split_column == "none" else column(table, columns, split_column, ("split", "subset"))
        fold = "" if split or split_column == "none" else column(table, columns, "", ("fold",))
        here = "" if split_column == "none" or split or fold else split_word(table.stem)
        licence = column(table, columns, "", ("licence", "license"))
        told = column(table, columns, "", ORIGINS)
        finder = Finder(root)
        found = []
        for row in rows:
            if not row[path] or not row[label].strip():
                continue
            said = split_word(row.get(split, "")) or row.get(split, "") or _FOLDS.get(row.get(fold, ""), "") or here
            name = self.class_of(row[label])
            where = placed(finder, row[path])
            query, origin = row.get("query", ""), row.get(told, "") or root.name
            found.append(Recording(where, 0, 0, name, said, origin, row.get(licence, ""), query=query))
        return found

    def _unnamed(self, root: Path, table: Path, split_column: str) -> list[Recording]:
        """Return what a list without a header names: recordings first in each row, in folders of their class."""
        split, finder = "" if split_column == "none" else split_word(table.stem), Finder(root)
        paths = [placed(finder, cells[0]) for _, cells in bare(table) if cells[0]]
        return [Recording(path, 0, 0, PurePath(path).parent.name, split, root.name) for path in paths]

    def class_of(self, text: str) -> str:
        """Return the class of a recording with these labels."""
        return text.split(",")[0].strip()


def placed(finder: Finder, name: str) -> str:
    """Return the path of a recording that a list may name without its folder or its suffix."""
    for folder in _FOLDERS:
        for end in ("", ".wav", ".flac", ".ogg"):
            tail = f"{folder}/{name.lstrip('/')}{end}" if folder else f"{name}{end}"
            if (finder.root / tail).is_file():
                return tail
    return finder.find(name)


def is_sound(name: str) -> bool:
    """Return whether a cell names a sound file, which the header of a list does not."""
    return PurePath(name).suffix.lower() in AUDIO_SUFFIXES


def _name(row: PoolRow) -> str:
    return row.speaker.removeprefix(f"{row.split}/")
