"""AudioCaps: natural mixtures of ten seconds, captions in a sentence each, and the phrases in them.

Read are train.csv, val.csv and test.csv (audiocap_id, youtube_id, start_time, caption) beside the recordings, which are
named <youtube_id>_<start_time>, in any folder below; or, as published code has them, a list in JSON of
    id: {file_id, caption, sources: [phrases]}
with train_ids.csv, val_ids.csv and test_ids.csv (an id in each line) and test_sep2_ids.csv (the ids of two clips in
each line, for `usep prepare-data --corpus mom --test-list`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple

from usepcli.audio.io import show
from usepcli.data.corpora.base import Bad, Corpus, probe, some, split_of, split_word, walk
from usepcli.data.corpora.listing import column, read_rows
from usepcli.data.manifest import Phrase, Row
from usepcli.data.phrases import phrases
from usepcli.data.rows import bare
from usepcli.errors import BadInput, InputNotFound
from usepcli.files import MOST_LIST, read_json

Captions = Literal["each", "first"]


class _Said(NamedTuple):
    """One caption: the names that its recording may have, and its phrases where they are told."""

    id: str
    stems: tuple[str, ...]
    split: str
    caption: str
    sources: tuple[str, ...] = ()


class AudioCaps(Corpus):
    """Captions with their phrases, and without sources; a clip that is not there is named in bad_files.csv.

    captions: of a clip with several, each is an item of its own, or the first alone is one.  A model by query is asked
    for the phrases.  spacy: the folder of a spaCy model that finds the phrases instead of the rules.
    """

    def __init__(
        self, csv: str = "", captions: Captions = "each", spacy: str = "", licence: str = "", limit: int = 0
    ) -> None:
        self.csv, self.captions, self.spacy, self.licence, self.limit = csv, captions, spacy, licence, limit
        self.bad: list[Bad] = []

    def scan(self, root: Path) -> list[Row]:
        """List the captioned clips under root, or of the list that root itself is; paths relative to its folder."""
        tables = [root] if root.is_file() else [root / self.csv] if self.csv else _lists(root)
        if not tables:
            raise InputNotFound(
                f"{show(root)}: no train.csv, val.csv or test.csv there, and no list in JSON; name it with --csv"
            )
        root = root.parent if root.is_file() else root
        known: dict[str, str] = {}
        for path in walk(root):
            known.setdefault(PurePath(path).stem, path)
        found: dict[str, list[Row]] = {}
        for table in tables:
            for said in _read_json(table) if table.suffix == ".json" else _read_csv(table):
                place = next((known[name] for name in said.stems if name in known), "")
                if not place:
                    self.bad.append(Bad(said.stems[0], f"no recording of this name below {show(root)}"))
                    continue
                of = found.setdefault(place, [])
                if not of or self.captions == "each":
                    of.append(self._row(said, place))
        headers = probe(root, some(list(found), self.limit), self.bad)
        rows = [replace(row, sample_rate=h.rate, frames=h.frames) for path, h in headers.items() for row in found[path]]
        return _apart(rows)

    def _row(self, said: _Said, place: str) -> Row:
        told = said.sources or phrases(said.caption, self.spacy)
        named = tuple(
            dict.fromkeys(text for part in told if (text := part.replace(";", ",").replace("|", " ").strip()))
        )
        return Row(
            said.id, said.split, place, licence=self.licence, caption=said.caption,
            phrases=tuple(map(Phrase, named)), queries=named, origin="AudioCaps",
        )  # fmt: skip


def _read_csv(table: Path) -> Iterator[_Said]:
    columns, records = read_rows(table)
    clip, start = (column(table, columns, "", usual) for usual in (("youtube_id", "file_id"), ("start_time", "start")))
    if not clip or "caption" not in columns:
        raise BadInput(
            f"{show(table)}: columns youtube_id, start_time and caption were expected, found: {', '.join(columns)}"
        )
    split = split_word(table.stem) or split_of(f"{table.stem}/x") or "train"
    for record in records:
        at = record.get(start, "")
        stem = f"{record[clip]}_{at}" if at else record[clip]
        yield _Said(stem, (stem, f"Y{stem}", record[clip]), split, " ".join(record["caption"].split()))


def _read_json(table: Path) -> Iterator[_Said]:
    """Yield the captions of a list in JSON, with the splits of the lists of ids beside it; BadInput for another."""
    try:
        listed: Any = read_json(table, errors="surrogateescape", most=MOST_LIST)
    except ValueError as fault:
        raise BadInput(f"{show(table)}: not JSON ({fault})") from fault
    splits: dict[str, str] = {}
    for path in sorted(table.parent.glob("*_ids.csv")):
        word = split_word(path.name.split("_")[0])
        splits |= {cell.strip(): word for _, cells in bare(path) for cell in cells if word}
    lone = split_word(table.stem) or "train"
    for name, item in listed.items() if isinstance(listed, dict) else ():
        known: dict[str, Any] = item if isinstance(item, dict) else {}
        file, caption, sources = (
            known.get(key, usual) for key, usual in (("file_id", 0), ("caption", 0), ("sources", []))
        )
        if not isinstance(sources, list) or not all(isinstance(one, str) for one in (file, caption, *sources)):
            raise BadInput(f"{show(table)}: {name}: file_id, caption and a list of sources were expected")
        stem = PurePath(file).stem if PurePath(file).suffix in (".wav", ".flac", ".mp3") else file
        yield _Said(
            name,
            (stem, f"Y{stem}"),
            splits.get(name, "" if splits else lone),
            " ".join(caption.split()),
            tuple(sources),
        )


def _apart(rows: list[Row]) -> list[Row]:
    """Return rows whose ids differ, the second of one id with _2 behind it, and so on."""
    times: dict[str, int] = {}
    found = []
    for row in rows:
        times[row.id] = times.get(row.id, 0) + 1
        found.append(row if times[row.id] == 1 else replace(row, id=f"{row.id}_{times[row.id]}"))
    return found


def _lists(root: Path) -> list[Path]:
    names = ("train.csv", "val.csv", "valid.csv", "test.csv")
    places = [root / name for name in names] + [root / "dataset" / name for name in names]
    return [path for path in places if path.is_file()] or sorted(root.glob("*.json"))[:1]
