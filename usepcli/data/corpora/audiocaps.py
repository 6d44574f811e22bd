"""AudioCaps: natural mixtures of ten seconds, a caption in a sentence each, and the phrases in it.

Read are train.csv, val.csv and test.csv (audiocap_id, youtube_id, start_time, caption) beside the recordings, which are
named <youtube_id>_<start_time>, in any folder below.  A clip with several captions is listed with the first of them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePath

from usepcli.audio.io import show
from usepcli.data.corpora.base import Bad, Corpus, probe, some, split_of, split_word, walk
from usepcli.data.corpora.listing import column, read_rows
from usepcli.data.manifest import Phrase, Row
from usepcli.data.phrases import phrases
from usepcli.errors import BadInput, InputNotFound


class AudioCaps(Corpus):
    """Clips with caption and phrases, and without sources; a clip that is not there is named in bad_files.csv.

    spacy: the folder of a spaCy model that finds the phrases instead of the rules.
    """

    def __init__(self, csv: str = "", spacy: str = "", licence: str = "", limit: int = 0) -> None:
        self.csv, self.spacy, self.licence, self.limit = csv, spacy, licence, limit
        self.bad: list[Bad] = []

    def scan(self, root: Path) -> list[Row]:
        """List the captioned clips under root, or of the list that root itself is; paths relative to its folder."""
        tables = [root] if root.is_file() else [root / self.csv] if self.csv else _lists(root)
        if not tables:
            raise InputNotFound(f"{show(root)}: no train.csv, val.csv or test.csv there; name the list with --csv")
        root = root.parent if root.is_file() else root
        known: dict[str, str] = {}
        for path in walk(root):
            known.setdefault(PurePath(path).stem, path)
        rows: dict[str, Row] = {}
        for table in tables:
            for row in self._read(table, known):
                rows.setdefault(row.mixture, row)
        headers = probe(root, some(list(rows), self.limit), self.bad)
        return [replace(rows[path], sample_rate=header.rate, frames=header.frames) for path, header in headers.items()]

    def _read(self, table: Path, known: dict[str, str]) -> list[Row]:
        columns, records = read_rows(table)
        names = [column(table, columns, "", usual) for usual in (("youtube_id", "file_id"), ("start_time", "start"))]
        if not names[0] or "caption" not in columns:
            raise BadInput(
                f"{show(table)}: columns youtube_id, start_time and caption were expected, found: {', '.join(columns)}"
            )
        split = split_word(table.stem) or split_of(f"{table.stem}/x") or "train"
        found = []
        for record in records:
            start = record.get(names[1], "")
            stem = f"{record[names[0]]}_{start}" if start else record[names[0]]
            place = next((known[name] for name in (stem, f"Y{stem}", record[names[0]]) if name in known), "")
            if not place:
                self.bad.append(Bad(stem, f"no recording of this name below {show(table.parent)}"))
                continue
            caption = " ".join(record["caption"].split())
            said = tuple(Phrase(text.replace(";", ",").replace("|", " ")) for text in phrases(caption, self.spacy))
            found.append(
                Row(stem, split, place, licence=self.licence, caption=caption, phrases=said, origin="AudioCaps")
            )
        return found


def _lists(root: Path) -> list[Path]:
    names = ("train.csv", "val.csv", "valid.csv", "test.csv")
    places = [root / name for name in names] + [root / "dataset" / name for name in names]
    return [path for path in places if path.is_file()]
