"""wsj0-2mix and wsj0-3mix as the original scripts write them, and WHAM!, which shares their layout."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from usepcli.audio.io import show
from usepcli.data.corpora.base import Bad, Corpus, Finder, probe, some, walk
from usepcli.data.manifest import Row
from usepcli.errors import BadInput, InputNotFound
from usepcli.files import MOST_LIST, read_json

_SPLITS = {"tr": "train", "cv": "valid", "tt": "test"}
_PAIR = re.compile(r"([0-9a-z]{3})[0-9a-z]{5}_-?\d+(?:\.\d+)?")


class Wsj0Mix(Corpus):
    """Folders {2,3}speakers/wav{8k,16k}/{min,max}/{tr,cv,tt}/{mix,s1,s2[,s3]}, or {tr,cv,tt}/{mix,s1}.json.

    `mix` names another mixture folder, as in WHAM! (mix_clean, mix_both, mix_single).
    """

    see = "--n-src, --rate, --length and --mix"  # what decides about where it lies

    def __init__(
        self,
        n_src: int = 2,
        rate: int = 8000,
        length: Literal["min", "max"] = "min",
        mix: str = "mix",
        licence: str = "LDC user agreement (WSJ0)",
        limit: int = 0,
    ) -> None:
        self.n_src, self.rate, self.length, self.mix = n_src, rate, length, mix
        self.licence, self.limit, self.name = licence, limit, f"wsj0-{n_src}mix"
        self.bad: list[Bad] = []

    def scan(self, root: Path) -> list[Row]:
        """List tr, cv and tt under root, which may be any folder from the top of the tree down to `min`."""
        folder = self._folder(root)
        rows: list[Row] = []
        for short, split in _SPLITS.items():
            if (folder / short / f"{self.mix}.json").is_file():
                rows += self._from_lists(root, folder / short, split)
            elif (folder / short / self.mix).is_dir():
                rows += self._from_folders(root, folder / short, split)
        return rows

    def _folder(self, root: Path) -> Path:
        speakers, wav = f"{self.n_src}speakers", f"wav{self.rate // 1000}k"
        tops = [Path(speakers, wav, self.length), Path(wav, self.length), Path(self.length), Path()]
        for top in tops:
            for short in _SPLITS:
                place = root / top / short
                if (place / self.mix).is_dir() or (place / f"{self.mix}.json").is_file():
                    return root / top
        expected = Path(speakers, wav, self.length, "{tr,cv,tt}", self.mix)
        raise InputNotFound(f"{show(root)}: no {expected} below it; see {self.see}")

    def _names(self) -> list[str]:
        return ["s1"] if "single" in self.mix else [f"s{k + 1}" for k in range(self.n_src)]

    def _noisy(self, folder: Path) -> bool:
        """Whether mixtures of a split hold the noise that stands beside them."""
        return (folder / "noise").is_dir() and self.mix != "mix_clean"

    def _from_folders(self, root: Path, folder: Path, split: str) -> list[Row]:
        prefix = folder.relative_to(root)
        files = some(list(walk(folder / self.mix)), self.limit)
        headers = probe(folder / self.mix, files, self.bad)
        noisy = self._noisy(folder)
        return [
            self._row(
                Path(name).stem,
                split,
                str(prefix / self.mix / name),
                tuple(str(prefix / part / name) for part in self._names()),
                str(prefix / "noise" / name) if noisy else "",
                header.rate,
                header.frames,
            )
            for name, header in headers.items()
        ]

    def _from_lists(self, root: Path, folder: Path, split: str) -> list[Row]:
        finder = Finder(root)
        lists = []
        for part in (self.mix, *self._names()):
            path = folder / f"{part}.json"
            try:
                lists.append([(str(name), int(frames)) for name, frames in read_json(path, most=MOST_LIST)])
            except FileNotFoundError as err:
                raise InputNotFound(f"{show(path)}: no such list") from err
            except (ValueError, TypeError) as err:
                raise BadInput(f"{show(path)}: pairs of a path and a length were expected: {err}") from err
        if len({len(entries) for entries in lists}) != 1:
            raise BadInput(f"{show(folder)}: its lists have different lengths: {[len(entries) for entries in lists]}")
        entries = list(zip(*lists, strict=True))
        wanted = set(some([str(i) for i in range(len(entries))], self.limit))
        return [
            self._row(
                Path(mix).stem,
                split,
                finder.find(mix),
                tuple(finder.find(path) for path, _ in sources),
                "",
                self.rate,
                frames,
            )
            for i, ((mix, frames), *sources) in enumerate(entries)
            if str(i) in wanted
        ]

    def _row(
        self, name: str, split: str, mix: str, sources: tuple[str, ...], noise: str, rate: int, frames: int
    ) -> Row:
        # The first three characters of a WSJ utterance name the talker: 011a0101_1.05_02aa010b_-1.05
        speakers = tuple(_PAIR.findall(name)[: 1 if "single" in self.mix else self.n_src])
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
            self.name,
            self.licence,
        )
