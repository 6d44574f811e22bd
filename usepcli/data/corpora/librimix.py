"""LibriMix as its scripts write it: Libri2Mix/wav8k/min/train-100/mix_clean and so on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from usepcli.audio.io import show
from usepcli.data.corpora.base import Bad, Corpus, Finder, probe, some, walk
from usepcli.data.corpora.listing import read_rows
from usepcli.data.manifest import Row
from usepcli.errors import BadInput, InputNotFound


@dataclass(frozen=True)
class _Place:
    """One split's folder, as given and relative to the source."""

    folder: Path
    prefix: Path
    split: str


class LibriMix(Corpus):
    """Libri{2,3}Mix/wav{8k,16k}/{min,max}/{train-100,train-360,dev,test}/{mix_clean,mix_both,mix_single,s1,s2,noise}.

    The sibling folder metadata gives names and lengths where it is there; its absolute paths are found again
    by their tails. `subset` is train-100, train-360 or both.
    """

    def __init__(
        self,
        n_src: int = 2,
        rate: int = 8000,
        length: Literal["min", "max"] = "min",
        mix: Literal["mix_clean", "mix_both", "mix_single"] = "mix_clean",
        subset: Literal["train-100", "train-360", "both"] = "train-100",
        licence: str = "",
        limit: int = 0,
    ) -> None:
        self.n_src, self.rate, self.length, self.mix, self.subset = n_src, rate, length, mix, subset
        speech = "CC-BY-4.0 (LibriSpeech)"
        self.licence = licence or (speech if mix == "mix_clean" else f"{speech} + CC-BY-NC-4.0 (WHAM! noise)")
        self.limit = limit
        self.bad: list[Bad] = []

    def scan(self, root: Path) -> list[Row]:
        """List the subsets under root, which may be any folder from the top of the tree down to `min`."""
        base = self._base(root)
        train = ["train-100", "train-360"] if self.subset == "both" else [self.subset]
        rows: list[Row] = []
        for name, split in [*((name, "train") for name in train), ("dev", "valid"), ("test", "test")]:
            place = _Place(base / name, (base / name).relative_to(root), split)
            table = base / "metadata" / f"mixture_{name}_{self.mix}.csv"
            if table.is_file():
                rows += self._from_table(root, table, place)
            elif (place.folder / self.mix).is_dir():
                rows += self._from_folder(place)
        return rows

    def _base(self, root: Path) -> Path:
        corpus, wav = f"Libri{self.n_src}Mix", f"wav{self.rate // 1000}k"
        for top in (Path(corpus, wav, self.length), Path(wav, self.length), Path(self.length), Path()):
            for name in ("train-100", "train-360", "dev", "test"):
                if (root / top / name / self.mix).is_dir():
                    return root / top
        expected = Path(corpus, wav, self.length, "{train-100,dev,test}", self.mix)
        raise InputNotFound(f"{show(root)}: no {expected} below it; see --n-src, --rate, --length and --mix")

    def _n_parts(self) -> int:
        return 1 if self.mix == "mix_single" else self.n_src

    def _from_table(self, root: Path, table: Path, place: _Place) -> list[Row]:
        columns, records = read_rows(table)
        needed = [
            "mixture_ID",
            "mixture_path",
            *(f"source_{k + 1}_path" for k in range(self._n_parts())),
            "length",
        ]
        missing = [name for name in needed if name not in columns]
        if missing:
            raise BadInput(f"{show(table)}: no column {missing[0]}; it has: {', '.join(columns)}")
        finder = Finder(root)
        wanted = set(some([record["mixture_ID"] for record in records], self.limit))
        return [
            self._row(
                record["mixture_ID"],
                place.split,
                finder.find(record["mixture_path"]),
                tuple(finder.find(record[name]) for name in needed[2:-1]),
                finder.find(record.get("noise_path", "")),
                self.rate,
                round(float(record["length"])),
            )
            for record in records
            if record["mixture_ID"] in wanted
        ]

    def _from_folder(self, place: _Place) -> list[Row]:
        files = some(list(walk(place.folder / self.mix)), self.limit)
        headers = probe(place.folder / self.mix, files, self.bad)
        noisy = self.mix != "mix_clean" and (place.folder / "noise").is_dir()
        return [
            self._row(
                Path(name).stem,
                place.split,
                str(place.prefix / self.mix / name),
                tuple(str(place.prefix / f"s{k + 1}" / name) for k in range(self._n_parts())),
                str(place.prefix / "noise" / name) if noisy else "",
                header.rate,
                header.frames,
            )
            for name, header in headers.items()
        ]

    def _row(
        self, name: str, split: str, mix: str, sources: tuple[str, ...], noise: str, rate: int, frames: int
    ) -> Row:
        # speaker-chapter-utterance_speaker-chapter-utterance
        speakers = tuple(part.split("-")[0] for part in name.split("_"))[: len(sources)]
        return Row(
            f"{split}/{name}",
            split,
            mix,
            sources,
            noise,
            rate,
            frames,
            len(sources),
            speakers,
            "",
            "",
            f"Libri{self.n_src}Mix",
            self.licence,
        )
