"""VGGSound: ten seconds of one sound each, with its class.

Lists: vggsound.csv without a header (youtube id, start in seconds, label, split), or path and label with one, as
train.csv and test.csv of published code have them.  Recordings lie anywhere below, as <id>_<start>.wav, the start with
six digits or none before it, as <id>_<start>_<end>.wav, or as <id>.wav.
"""

from __future__ import annotations

from pathlib import Path, PurePath

from usepcli.data.corpora.base import Bad, split_word, walk
from usepcli.data.corpora.labelled import Labelled, is_sound
from usepcli.data.corpora.listing import Recording
from usepcli.data.rows import bare

_SECONDS = 10  # that a clip lasts


class VGGSound(Labelled):
    """Clips, each heard around its middle; a class of several words keeps them, without their commas.

    A clip that is listed and not there is named in bad_files.csv.
    """

    cut = "centre"
    usual = (("manifest.csv",), ("vggsound.csv",), ("train.csv", "val.csv", "test.csv"))

    def __init__(
        self,
        sources: tuple[int, int] = (2, 2),
        rate: int = 11025,
        seconds: float = 9.97732426303855,  # 110,000 samples at 11025 Hz
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
            sources, rate, seconds, event_snr_db, min_s, **counts, split_ratios=split_ratios, csv=csv,
            split_column=split_column, stems=stems, supervised=supervised, test_list=test_list,
            limit=limit, seed=seed,
        )  # fmt: skip
        self._stems: dict[str, str] = {}

    def _read(self, root: Path, table: Path, split_column: str) -> list[Recording]:
        rows = bare(table)
        if not rows or len(rows[0][1]) != 4 or is_sound(rows[0][1][0]) or not rows[0][1][1].isdigit():
            return super()._read(root, table, split_column)
        found = []
        for _, cells in rows:
            name, start, label, split = (*cells, "", "", "")[:4]
            place = self._place(root, name, start)
            if not place:
                self.bad.append(Bad(f"{name}_{start}", f"no recording of this name below {root.name}"))
            elif label.strip():
                said = "" if split_column == "none" else split_word(split) or split
                found.append(Recording(place, 0, 0, self.class_of(label), said, root.name))
        return found

    def class_of(self, text: str) -> str:
        """Return the class with spaces for its commas, which separate sources in a caption."""
        return " ".join(text.replace(",", " ").split())

    def _place(self, root: Path, name: str, start: str) -> str:
        if not self._stems:
            for path in walk(root):
                self._stems.setdefault(PurePath(path).stem, path)
        at = int(start) if start.isdigit() else 0
        stems = [f"{name}_{at:06d}", f"{name}_{at}", f"{name}_{at}_{at + _SECONDS}", name]
        return next((self._stems[stem] for stem in stems if stem in self._stems), "")
