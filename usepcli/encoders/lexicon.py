"""Words of a file of word vectors: a phrase is the words in it that the file has, whatever stands between them.

tokens = the vectors of its words (N, D)      pooled = their mean, at unit norm

As those of `vectors`, they become a part of the model (20 000 words of 64 numbers take 2.6 MB in half precision), so
that a trained model needs neither the file nor an encoder; it hears any phrase that holds a word of them. Words that
say nothing of a sound ("the", "of") are best left out of the file: they would be heard.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from usepcli.encoders.base import Condition, near
from usepcli.encoders.vectors import Vectors
from usepcli.errors import BadInput

_WORDS = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_ENDINGS = (("'s", ""), ("ies", "y"), ("es", ""), ("s", ""), ("ing", ""), ("ing", "e"), ("ed", ""), ("ed", "e"))
_STEM = 3  # letters that stay at least when an ending is taken off


class Lexicon(Vectors):
    """Fixed vectors by word; a phrase has a token for each of its words that is known, by itself or without ending."""

    name: ClassVar[str] = "lexicon"
    length = 0

    @property
    def classes(self) -> tuple[str, ...]:
        """None: its words make phrases without end."""
        return ()

    def read(self, phrases: Sequence[str]) -> Condition:
        """Return the vectors of the words of phrases; BadInput for a phrase none of whose words is known."""
        found = [self._heard(phrase) for phrase in phrases]
        most = max(map(len, found))
        device = self.table.device
        index = torch.tensor([[*rows, *[0] * (most - len(rows))] for rows in found], device=device)
        mask = torch.arange(most, device=device) < torch.tensor([len(rows) for rows in found], device=device)[:, None]
        tokens = self.table[index].float() * mask[..., None]
        return Condition(tokens, mask, _whole(tokens))

    def known(self, phrase: str) -> list[str]:
        """Return the words of a phrase that are heard, as the file spells them."""
        return [self.phrases[row] for row in self._rows(phrase)]

    def _heard(self, phrase: str) -> list[int]:
        rows = self._rows(phrase)
        if not rows:
            shown = phrase if len(phrase) <= 60 else f"{phrase[:57]}..."
            some = ", ".join(f"'{name}'" for name in near(phrase, self.phrases))
            raise BadInput(
                f"query '{shown}': none of its words is among the {len(self.phrases)} that this model knows; "
                + (f"words that begin alike: {some}" if some else "say it in plain English words")
            )
        return rows

    def _rows(self, phrase: str) -> list[int]:
        found = (
            self._row(word) for word in _WORDS.findall(phrase.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
        )
        return [row for row in found if row is not None]

    def _row(self, word: str) -> int | None:
        return next((self._index[form] for form in forms(word) if form in self._index), None)


def forms(word: str) -> Iterator[str]:
    """Yield a word, then what it may be without its ending."""
    yield word
    for ending, instead in _ENDINGS:
        stem = word.removesuffix(ending)
        if stem != word and len(stem) >= _STEM:
            yield stem + instead
            if not instead and len(stem) > _STEM and stem[-1] == stem[-2]:
                yield stem[:-1]  # humming, stopped


def _whole(tokens: Tensor) -> Tensor:
    """Return the sum of tokens (Q, N, D), padded by zeros, at unit norm: their mean, but for its length."""
    return F.normalize(tokens.sum(1), dim=-1)
