"""Word error rate: the fewest substitutions, deletions and insertions that make the reference from the hypothesis.

WER = (S + D + I) / N with N words of reference, pooled: sums over all utterances before the division.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

NORMALISATION = "NFKC, lower case, apostrophes removed, other punctuation a space, digits kept as they are"

_APOSTROPHES = re.compile("['’ʼ`´]")


class Counts(NamedTuple):
    """Substitutions, deletions and insertions against N words of reference."""

    S: int = 0
    D: int = 0
    I: int = 0  # noqa: E741 - its name in every paper
    N: int = 0

    @property
    def errors(self) -> int:
        """S + D + I."""
        return self.S + self.D + self.I

    @property
    def rate(self) -> float:
        """The word error rate in percent, nan without words of reference."""
        return 100 * self.errors / self.N if self.N else math.nan


def words(text: str) -> list[str]:
    """Return the words of a text after NORMALISATION: "It's 5 o'clock - NOW" becomes its 5 oclock now."""
    plain = _APOSTROPHES.sub("", unicodedata.normalize("NFKC", text).lower())
    # Letters with their marks, and numbers, are words; whatever else there is, parts them.
    return "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in plain).split()


def wer(hypotheses: Iterable[str], references: Iterable[str]) -> Counts:
    """Return the pooled Counts of texts in the same order; ValueError where there are more of one than of the other."""
    counts = [align(words(h), words(r)) for h, r in zip(hypotheses, references, strict=True)]
    return pool(counts)


def pool(counts: Iterable[Counts]) -> Counts:
    """Return the sums of several Counts."""
    given = list(counts)
    return Counts(*(sum(column) for column in zip(*given, strict=True))) if given else Counts()


def align(hypothesis: Sequence[str], reference: Sequence[str]) -> Counts:
    """Return the Counts of one utterance of words; of equally short ways the one with most substitutions (Levenshtein).

    One row of the table per word of reference; a cell is (errors, S, D, I), of which errors decide.
    """
    above = [(i, 0, 0, i) for i in range(len(hypothesis) + 1)]
    for n, word in enumerate(reference, 1):
        row = [(n, 0, n, 0)]
        for i, heard in enumerate(hypothesis):
            errors, s, d, ins = above[i]
            best = above[i] if heard == word else (errors + 1, s + 1, d, ins)
            if above[i + 1][0] + 1 < best[0]:
                errors, s, d, ins = above[i + 1]
                best = (errors + 1, s, d + 1, ins)
            if row[i][0] + 1 < best[0]:
                errors, s, d, ins = row[i]
                best = (errors + 1, s, d, ins + 1)
            row.append(best)
        above = row
    return Counts(*above[-1][1:], len(reference))
