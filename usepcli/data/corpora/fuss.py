"""FUSS: ten-second mixtures of one to four universal sounds, listed in *_example_list.txt."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Literal

from usepcli.audio.io import show
from usepcli.data.corpora.base import Bad, Corpus, probe, some
from usepcli.data.manifest import Row
from usepcli.errors import BadInput, InputNotFound

_LISTS = {"train": "train", "validation": "valid", "eval": "test"}
_FOLDERS = {"dry": "ssdata", "reverb": "ssdata_reverb"}


class Fuss(Corpus):
    """ROOT/{ssdata,ssdata_reverb}/{train,validation,eval}_example_list.txt.

    A line holds, separated by tabs, the mixture and its one to four sources, relative to the list. Sources
    that are absent or shorter than the mixture stay so here: whoever reads them pads with zeros. The roles
    stand in `label`.
    """

    def __init__(
        self,
        variant: Literal["dry", "reverb"] = "dry",
        licence: str = "CC-BY-4.0 (FUSS)",
        limit: int = 0,
    ) -> None:
        self.variant, self.licence, self.limit = variant, licence, limit
        self.bad: list[Bad] = []

    def scan(self, root: Path) -> list[Row]:
        """List the three splits under root, which may be the parent of ssdata or ssdata itself."""
        places = [root / _FOLDERS[self.variant], root]
        lists = {name: f"{name}_example_list.txt" for name in _LISTS}
        base = next((place for place in places if any((place / file).is_file() for file in lists.values())), None)
        if base is None:
            raise InputNotFound(
                f"{show(root)}: no {_FOLDERS[self.variant]}/train_example_list.txt below it; see --variant"
            )
        rows: list[Row] = []
        for name, split in _LISTS.items():
            if (base / lists[name]).is_file():
                rows += self._split(root, base, base / lists[name], split)
        return rows

    def _split(self, root: Path, base: Path, table: Path, split: str) -> list[Row]:
        lines = [
            line for line in table.read_text(encoding="utf-8", errors="surrogateescape").splitlines() if line.strip()
        ]
        examples = [[part for part in line.rstrip("\n").split("\t") if part] for line in some(lines, self.limit)]
        for number, example in enumerate(examples, 1):
            if len(example) < 2:
                raise BadInput(f"{show(table)}:{number}: a mixture and its sources, separated by tabs, were expected")
        headers = probe(base, (example[0] for example in examples), self.bad)
        prefix = base.relative_to(root)
        return [
            Row(
                id=str(PurePath(mix).with_suffix("")),
                split=split,
                mixture=str(prefix / mix),
                sources=tuple(str(prefix / source) for source in sources),
                sample_rate=headers[mix].rate,
                frames=headers[mix].frames,
                n_src=len(sources),
                label=";".join(PurePath(source).stem.removesuffix("_sound") for source in sources),
                origin=f"FUSS {self.variant}",
                licence=self.licence,
            )
            for mix, *sources in examples
            if mix in headers
        ]
