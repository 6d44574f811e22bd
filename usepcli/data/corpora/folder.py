"""Any tree of recordings: every file is a mixture, with its sources if they lie beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Container
from dataclasses import replace
from pathlib import Path, PurePath

from usepcli.audio.io import AUDIO_SUFFIXES, show
from usepcli.data.corpora import by_time
from usepcli.data.corpora.base import Bad, Corpus, split_of
from usepcli.data.corpora.listing import Recording, recordings
from usepcli.data.manifest import Row
from usepcli.data.rttm import beside
from usepcli.errors import BadInput

_MIX = ("mix", "mixture", "mixtures", "noisy")
_PART = re.compile(r"s\d+|noise", re.IGNORECASE)


class Folder(Corpus):
    """Recordings of mixtures, in any tree.

    Sources are found in either of two layouts: `mix/x.wav` with `s1/x.wav`, `s2/x.wav` (and `noise/x.wav`),
    or `x/mix.wav` with `x/s1.wav`, `x/s2.wav`. Splits are named by folders (train, dev, eval ...) or by a
    manifest.csv with the columns path and split; otherwise they are dealt out by seed in `split_ratios`, few or long
    recordings by time (see by_time). An RTTM file x.rttm beside x.wav says who speaks when in it.
    """

    def __init__(
        self,
        split_ratios: tuple[float, float, float] = (0.8, 0.1, 0.1),
        csv: str = "",
        split_column: str = "",
        licence: str = "",
        limit: int = 0,
        seed: int = 0,
    ) -> None:
        self.split_ratios, self.csv, self.split_column = split_ratios, csv, split_column
        self.licence, self.limit, self.seed = licence, limit, seed
        self.bad: list[Bad] = []
        self.said: list[str] = []

    def scan(self, root: Path) -> list[Row]:
        """List the mixtures under root, or the one that root itself is."""
        only: list[str] = []
        if root.is_file():
            root, only = root.parent, _with_parts(root)
        found = recordings(root, self.csv if not only else "none", "", self.split_column, 1, 0, self.bad, only)
        headers = {item.path: item for item in found}
        if only and only[0] not in headers:
            why = next((bad.reason for bad in self.bad if bad.path == only[0]), "no sound file")
            raise BadInput(f"{show(root / only[0])}: {why}")
        whole = [path for path in headers if not _is_part(path, headers)]
        if not whole:
            raise BadInput(
                f"{show(root)}: no mixtures found, only folders of sources; expected a folder 'mix' beside them"
            )
        kept = set(whole)
        if self.limit and self.limit < len(whole):
            step = len(whole) / self.limit
            kept = {whole[int(i * step)] for i in range(self.limit)}
        names = _unique(whole)
        rows = [self._row(headers[path], headers, headers[path].split or split_of(path), names[path]) for path in whole]
        rows = [replace(row, activity=beside(root, row.mixture)) for row in rows]
        dealt, self.said = by_time.deal(rows, self.split_ratios, self.seed, whole)
        return [row for row in dealt if row.mixture in kept]

    def remarks(self) -> list[str]:
        """Return what a person should know of the splits."""
        return self.said

    def _row(self, item: Recording, headers: dict[str, Recording], split: str, name: str) -> Row:
        sources, noise = _parts(item.path, headers)
        return Row(
            name,
            split,
            item.path,
            sources,
            noise,
            item.rate,
            item.frames,
            len(sources),
            (),
            item.text,
            item.label,
            item.origin,
            item.licence or self.licence,
        )


def _is_part(path: str, known: dict[str, Recording]) -> bool:
    """Tell whether a file is a source or noise that belongs to a mixture beside it."""
    pure = PurePath(path)
    if _PART.fullmatch(pure.stem) and any(str(pure.with_name(name + pure.suffix)) in known for name in _MIX):
        return True
    if not _PART.fullmatch(pure.parent.name):
        return False
    return any(str(pure.parent.parent / name / pure.name) in known for name in _MIX)


class _There:
    """The files that are there, without a look at the others."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __contains__(self, path: object) -> bool:
        return (self.root / str(path)).is_file()


def _with_parts(file: Path) -> list[str]:
    """Return the name of a file, and of the sources and the noise that lie in its folder if it is their mixture."""
    sources, noise = _parts(file.name, _There(file.parent)) if file.stem.lower() in _MIX else ((), "")
    return [file.name, *sources, *([noise] if noise else [])]


def _parts(path: str, known: Container[str]) -> tuple[tuple[str, ...], str]:
    """Return (sources, noise) that belong to a mixture, by either layout; empty without them."""
    pure = PurePath(path)
    if pure.stem.lower() in _MIX:

        def beside(name: str) -> str:
            return str(pure.with_name(name + pure.suffix))
    elif pure.parent.name.lower() in _MIX:

        def beside(name: str) -> str:
            return str(pure.parent.parent / name / pure.name)
    else:
        return (), ""
    sources: list[str] = []
    while (candidate := beside(f"s{len(sources) + 1}")) in known:
        sources.append(candidate)
    noise = beside("noise")
    return tuple(sources), noise if noise in known else ""


def _unique(paths: list[str]) -> dict[str, str]:
    """Return an id for each path: without the suffix unless two would then be the same."""

    def stem(path: str) -> str:
        base, suffix = os.path.splitext(path)
        return base if suffix.lower() in AUDIO_SUFFIXES else path

    count: dict[str, int] = {}
    for path in paths:
        count[stem(path).casefold()] = count.get(stem(path).casefold(), 0) + 1
    return {path: stem(path) if count[stem(path).casefold()] == 1 else path for path in paths}
