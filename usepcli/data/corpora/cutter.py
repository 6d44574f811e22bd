"""What the corpora have in common whose mixtures lie on disk in another form: pieces to cut, add up and write."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from usepcli.data.corpora.base import Corpus
from usepcli.data.manifest import Row


@dataclass(frozen=True)
class Piece:
    """A stretch of a file, in seconds, put at `at_s`; channel -1 is the mean of all."""

    path: str
    start_s: float = 0.0
    end_s: float = math.inf
    at_s: float = 0.0
    channel: int = -1


@dataclass(frozen=True)
class Job:
    """One row and its files, each a sum of pieces; an empty sum is the sum of all the other files.

    rate 0 keeps the rate of the first piece, seconds 0 the length of the longest piece; otherwise files are cut or
    padded with zeros at their end.
    """

    row: Row
    files: tuple[tuple[str, tuple[Piece, ...]], ...]
    rate: int = 0
    seconds: float = 0.0


class Cutter(Corpus):
    """An adapter whose files the engine writes anew, mono, into the prepared folder."""

    def jobs(self, root: Path) -> list[Job]:
        """List what is to be written; paths of pieces count from root, those of rows from the prepared folder."""
        raise NotImplementedError

    def scan(self, root: Path) -> list[Row]:
        """List the rows to come; their rate and length are known when their files are written."""
        return [job.row for job in self.jobs(root)]
