"""A CSV that names mixtures and their sources: the way in for every layout without an adapter."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from usepcli.audio import remote
from usepcli.audio.io import Info, show
from usepcli.audio.resample import length_after
from usepcli.data.corpora import by_time
from usepcli.data.corpora.base import Bad, Corpus, Finder, probe, some, split_of, split_word
from usepcli.data.corpora.listing import column, read_table
from usepcli.data.manifest import Manifest, Row, read_list, read_phrases, read_queries, root_of
from usepcli.data.rows import check_last
from usepcli.errors import BadInput, InputNotFound

_MIXTURE = ("mixture", "mix", "mixture_path", "path", "audio", "file")
_ID = ("id", "mixture_id", "name", "key", "utterance")
_SOURCE = re.compile(r"(?:s|source_?|src_?)(\d+)(?:_path)?", re.IGNORECASE)


class CsvList(Corpus):
    """Rows of a CSV: mix (or mixture), s1..sK (or sources, joined by ';'), noise, split, text, label, and in words
    queries (of the sources, joined by ';'), caption, phrases.

    Only the mixture, or else the sources, are needed. Paths count from `root` ('' = the CSV's folder); those
    written on another machine are found by their longest tail that exists there.
    """

    def __init__(
        self,
        csv: str = "",
        root: str = "",
        split_column: str = "",
        split_ratios: tuple[float, float, float] = (0.8, 0.1, 0.1),
        licence: str = "",
        limit: int = 0,
        seed: int = 0,
    ) -> None:
        self.csv, self.root, self.split_column, self.split_ratios = csv, root, split_column, split_ratios
        self.licence, self.limit, self.seed = licence, limit, seed
        self.bad: list[Bad] = []
        self.said: list[str] = []

    def scan(self, root: Path) -> list[Row]:
        """Read the list at root (a CSV, or a folder with one); paths count from the list's folder."""
        table = self._table(root)
        columns, records, lines, ended = read_table(table)
        mixture = column(table, columns, "", _MIXTURE)
        numbered = sorted((int(match[1]), name) for name in columns if (match := _SOURCE.fullmatch(name)))
        if not mixture and not numbered and "sources" not in columns:
            raise BadInput(f"{show(table)}: no column mix, mixture, s1 or sources; it has: {', '.join(columns)}")
        self._columns = {
            "mixture": mixture,
            "id": column(table, columns, "", _ID),
            "split": column(table, columns, self.split_column, ("split", "subset")),
        }
        finder = Finder(Path(self.root) if self.root else _root(table))
        names = [name for _, name in numbered]
        rows = [self._row(i, record, f"{show(table)}:{lines[i]}", names, finder) for i, record in enumerate(records)]
        end = f"{show(table)}:{lines[-1] if lines else 1}"
        splits = [row.split for row in rows] if columns[-1] == self._columns["split"] else []
        check_last(end, [len(row.sources) for row in rows], splits, ended)
        keep = set(some([row.id for row in rows], self.limit))
        return self._with_headers([row for row in rows if row.id in keep], finder.root, table.parent)

    def remarks(self) -> list[str]:
        """Return what a person should know of the splits."""
        return self.said

    def _table(self, root: Path) -> Path:
        if root.is_file():
            return root
        if self.csv or (root / Manifest.FILE).is_file():
            return root / (self.csv or Manifest.FILE)
        lists = sorted(root.glob("*.csv"))
        if len(lists) != 1:
            raise InputNotFound(f"{show(root)}: {len(lists)} CSV files there, one was expected; name it with --csv")
        return lists[0]

    def _row(self, i: int, record: dict[str, str], where: str, numbered: list[str], finder: Finder) -> Row:
        listed = [record[name] for name in numbered] or read_list(record.get("sources", ""), f"{where}: sources")
        sources = tuple(finder.find(path) for path in listed if path)
        mixture = finder.find(record.get(self._columns["mixture"], ""))
        split = record.get(self._columns["split"], "")
        name = record.get(self._columns["id"], "") or (mixture.rsplit(".", 1)[0] if mixture else f"row_{i:05d}")
        return Row(
            name,
            split_word(split) or split or split_of(mixture or (sources or ("",))[0]),
            mixture,
            sources,
            finder.find(record.get("noise", "")),
            n_src=len(sources),
            speakers=tuple(part for part in re.split("[;,]", record.get("speakers", "")) if part),
            text=record.get("text", ""),
            label=record.get("label", ""),
            origin=record.get("origin", ""),
            licence=record.get("licence", "") or record.get("license", "") or self.licence,
            queries=read_queries(record.get("queries", "")),
            caption=record.get("caption", ""),
            phrases=read_phrases(record.get("phrases", ""), f"{show(finder.root)}: {name}"),
        )

    def _with_headers(self, rows: list[Row], root: Path, base: Path) -> list[Row]:
        """Drop rows whose mixture, or one of its sources instead, cannot be read; fill in rate, frames and splits."""
        files = [(row.mixture,) if row.mixture else row.sources or ("",) for row in rows]
        headers = probe(root, (path for paths in files for path in paths), self.bad)
        rows = [
            _measured(row, [headers[path] for path in paths])
            for row, paths in zip(rows, files, strict=True)
            if all(path in headers for path in paths)
        ]
        rows, self.said = by_time.deal(rows, self.split_ratios, self.seed, [row.id for row in rows])
        if root.resolve() == base.resolve():
            return rows

        def absolute(path: str) -> str:
            return str(root.resolve() / path) if path and not remote.address(path) else path

        return [
            replace(
                row,
                mixture=absolute(row.mixture),
                sources=tuple(map(absolute, row.sources)),
                noise=absolute(row.noise),
            )
            for row in rows
        ]


def _root(table: Path) -> Path:
    """Return the folder that a list's paths count from: its own, or what the record of a prepared set says."""
    if table.name != Manifest.FILE:
        return table.parent
    return root_of(table)


def _measured(row: Row, headers: list[Info]) -> Row:
    """Return a row with its rate and frames: a sum of sources is as long as the longest of them."""
    rate = headers[0].rate
    frames = max(length_after(said.frames, said.rate, rate) for said in headers)
    return replace(row, sample_rate=rate, frames=frames)
