"""FUSS: ten-second mixtures of one to four universal sounds, listed in *_example_list.txt."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Literal

from usepcli.audio.io import Info, show
from usepcli.data.corpora.base import Bad, Corpus, probe, some
from usepcli.data.manifest import Row
from usepcli.errors import BadInput, InputNotFound

_LISTS = {"train": "train", "validation": "valid", "eval": "test"}
_FOLDERS = {"dry": "ssdata", "reverb": "ssdata_reverb"}
_ARCHIVE = "FUSS"  # the folder that the published archives unpack to


class Fuss(Corpus):
    """ROOT/{ssdata,ssdata_reverb}/{train,validation,eval}_example_list.txt; ROOT may be what holds FUSS, or ssdata.

    A line holds, separated by tabs, the mixture and its one to four sources, relative to the list. The roles stand in
    `label`. The files have 16 bits and are so quiet that the mixture's rounding lies some 40 dB below it: the mixture
    is the sum of the sources (mix_from: sum), as the published results have it, or the file. A sum lasts as long as
    its longest source; shorter ones stay so here: whoever reads them pads with zeros.
    """

    def __init__(
        self,
        variant: Literal["dry", "reverb"] = "dry",
        mix_from: Literal["sum", "file"] = "sum",
        licence: str = "CC-BY-4.0 (FUSS)",
        limit: int = 0,
    ) -> None:
        self.variant, self.mix_from, self.licence, self.limit = variant, mix_from, licence, limit
        self.bad: list[Bad] = []

    def scan(self, root: Path) -> list[Row]:
        """List the three splits under root."""
        base = self._base(root)
        rows: list[Row] = []
        for name, split in _LISTS.items():
            table = base / _list(name)
            if table.is_file():
                rows += self._split(root, base, table, split)
        return rows

    def _base(self, root: Path) -> Path:
        """Return the folder of the lists; InputNotFound where there is none, or only the other variant."""
        wanted = _FOLDERS[self.variant]
        (other,) = (name for name in _FOLDERS if name != self.variant)
        for name, folder in ((self.variant, wanted), (other, _FOLDERS[other])):
            places = [root / folder, root / _ARCHIVE / folder, *([root] if root.resolve().name == folder else [])]
            for place in places:
                if _has_lists(place):
                    if name == self.variant:
                        return place
                    raise InputNotFound(
                        f"{show(place)}: holds the {other} variant, where {self.variant} was asked for; pass --variant "
                        f"{other}, or name the folder that holds {wanted}"
                    )
        if _has_lists(root):  # under a name of its own, which tells nothing
            return root
        raise InputNotFound(f"{show(root)}: no {wanted}/{_list('train')} below it; see --variant")

    def _split(self, root: Path, base: Path, table: Path, split: str) -> list[Row]:
        text = table.read_text(encoding="utf-8", errors="surrogateescape")
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        kept = {int(number) for number in some([str(number) for number, _ in lines], self.limit)}
        examples = []
        for number, line in lines:
            mix, *sources = [part.strip() for part in line.split("\t") if part.strip()]
            if not sources:
                raise BadInput(f"{show(table)}:{number}: a mixture and its sources, separated by tabs, were expected")
            if number in kept:
                examples.append((mix, sources))
        opened = [[mix] if self.mix_from == "file" else sources for mix, sources in examples]
        headers = probe(base, (path for paths in opened for path in paths), self.bad)
        return [
            self._row(mix, sources, [headers[path] for path in paths], str(base.relative_to(root)), split)
            for (mix, sources), paths in zip(examples, opened, strict=True)
            if all(path in headers for path in paths)
        ]

    def _row(self, mix: str, sources: list[str], opened: list[Info], prefix: str, split: str) -> Row:
        return Row(
            id=str(PurePath(mix).with_suffix("")),
            split=split,
            mixture=str(PurePath(prefix) / mix) if self.mix_from == "file" else "",
            sources=tuple(str(PurePath(prefix) / source) for source in sources),
            sample_rate=opened[0].rate,
            frames=max(header.frames for header in opened),
            n_src=len(sources),
            label=";".join(PurePath(source).stem.removesuffix("_sound") for source in sources),
            origin=f"FUSS {self.variant}",
            licence=self.licence,
        )


def _list(name: str) -> str:
    return f"{name}_example_list.txt"


def _has_lists(folder: Path) -> bool:
    return any((folder / _list(name)).is_file() for name in _LISTS)
