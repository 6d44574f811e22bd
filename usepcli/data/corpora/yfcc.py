"""Clip lists of YFCC100M (Wisdom et al. 2020): which seconds of which video, and pairs of clips to be added up.

The lists are public, the videos have to be fetched and their sound extracted by whoever may.  A line of a clip list
holds the video's path, start and end in seconds, and where in the output of ten seconds the clip begins; a line of a
list of mixtures of mixtures (MoMs) holds two of these.  The lists of AudioScope have the same form without the last.
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path, PurePath

from usepcli.audio.io import AUDIO_SUFFIXES, show
from usepcli.data.corpora.base import Bad, some, split_word, walk
from usepcli.data.corpora.cutter import Cutter, Job, Piece
from usepcli.data.manifest import Row
from usepcli.errors import BadInput, ConfigError, InputNotFound

_WIDTHS = {4: (4, 1), 8: (4, 2), 3: (3, 1), 6: (3, 2)}  # cells of a line: cells of a clip, clips


class Yfcc(Cutter):
    """Lists *.csv whose names say train, valid(ate) or test, and sound files named like the videos below `root`.

    Clips are cut, padded with zeros to `seconds` and resampled to `rate`. A list of pairs becomes a split of its own,
    test_mom, whose references are the two clips. Clips whose sound is absent are left out and listed.
    """

    def __init__(
        self,
        root: str = "",
        rate: int = 16000,
        seconds: float = 10.0,
        licence: str = "",
        limit: int = 0,
    ) -> None:
        if rate < 1 or not seconds > 0:
            raise ConfigError(f"--rate {rate}, --seconds {seconds:g}: numbers above 0 were expected")
        self.root, self.rate, self.seconds = root, rate, seconds
        self.licence, self.limit = licence, limit
        self.bad: list[Bad] = []

    def jobs(self, root: Path) -> list[Job]:
        """List the clips of one list, or of all lists in a folder; those without sound go to `bad`."""
        lists = [root] if root.is_file() else sorted(root.glob("*.csv"))
        if not lists:
            raise InputNotFound(f"{show(root)}: no list *.csv there")
        base = root if root.is_dir() else root.parent
        # Kept as given: pieces are found from the source or, where they lie elsewhere, by their absolute path.
        tree = Path(self.root) if self.root else base
        prefix = tree.resolve() if self.root else Path()
        sounds = {PurePath(path).stem: str(prefix / path) for path in walk(tree)}
        jobs: list[Job] = []
        absent = 0
        for table in lists:
            split, lines = _split(table), _lines(table)
            for n in map(int, some([str(n) for n in range(len(lines))], self.limit)):
                missing = [clip for clip in lines[n] if PurePath(clip.path).stem not in sounds]
                if missing:
                    absent += 1
                    stretch = f"{missing[0].start_s:g} to {missing[0].end_s:g} s"
                    self.bad.append(Bad(missing[0].path, f"{stretch}: no sound file of this name below {show(tree)}"))
                else:
                    jobs.append(self._job(split, n, lines[n], sounds))
        if not jobs:
            suffixes = ", ".join(sorted(AUDIO_SUFFIXES))
            raise InputNotFound(
                f"{show(tree)}: no sound of any of the {absent} clips there ({suffixes}); extract it first and "
                f"name its folder with --root"
            )
        return jobs

    def _job(self, split: str, number: int, clips: list[Piece], sounds: dict[str, str]) -> Job:
        stems = [PurePath(clip.path).stem for clip in clips]
        pieces = [
            Piece(sounds[stem], clip.start_s, clip.end_s, clip.at_s) for stem, clip in zip(stems, clips, strict=True)
        ]
        # A folder for the first letters: the training list has more than a million clips.
        name = f"{stems[0][:3]}/{stems[0]}_{clips[0].start_s:.3f}"
        files: list[tuple[str, tuple[Piece, ...]]] = [(f"wav/{split}/{name}.wav", (pieces[0],))]
        if len(pieces) > 1:
            split, name = f"{split}_mom", f"{number:05d}"
            folder = f"wav/{split}/{name}"
            files = [(f"{folder}/s{k + 1}.wav", (piece,)) for k, piece in enumerate(pieces)]
            files.append((f"{folder}/mix.wav", ()))
        sources = tuple(file for file, _ in files[:-1])
        row = Row(
            f"{split}/{name}",
            split,
            files[-1][0],
            sources,
            n_src=len(sources),
            origin="YFCC100M " + "+".join(stems),
            licence=self.licence,
        )
        return Job(row, tuple(files), self.rate, self.seconds)


def _split(table: Path) -> str:
    words = table.stem.lower().replace("-", "_").split("_")
    found = [split_word(word.replace("validate", "valid")) for word in words]
    split = next((word for word in found if word), "")
    if not split:
        raise BadInput(f"{show(table)}: the name of the list says neither train, valid nor test; rename it")
    return split


def _lines(table: Path) -> list[list[Piece]]:
    """Return the clips of every line; a first line without numbers is a header."""
    text = table.read_bytes().decode("utf-8-sig", "surrogateescape")
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text, newline="")) if any(row)]
    if len(rows) > 1 and len(rows[-1]) < len(rows[-2]) and not text.endswith("\n"):
        raise BadInput(
            f"{show(table)}:{len(rows)}: {len(rows[-1])} cells, {len(rows[-2])} in the line before; the list is cut "
            "short: fetch it again"
        )
    result = []
    for n, row in enumerate(rows, 1):
        if len(row) not in _WIDTHS:
            raise BadInput(f"{show(table)}:{n}: {len(row)} cells; 4 of a clip or 8 of a pair were expected")
        width, clips = _WIDTHS[len(row)]
        try:
            cells = [row[k * width : (k + 1) * width] for k in range(clips)]
            result.append([_piece(cell) for cell in cells])
        except ValueError as err:
            if n > 1:
                raise BadInput(f"{show(table)}:{n}: start, end and offset in seconds were expected: {err}") from err
            continue
        wrong = [clip for clip in result[-1] if not 0 <= clip.start_s < clip.end_s or not 0 <= clip.at_s < math.inf]
        if wrong:
            raise BadInput(f"{show(table)}:{n}: {wrong[0].start_s:g} to {wrong[0].end_s:g} s is no stretch of time")
    return result


def _piece(cells: list[str]) -> Piece:
    start, end, *offset = map(float, cells[1:])
    return Piece(cells[0], start, end, offset[0] if offset else 0.0)
