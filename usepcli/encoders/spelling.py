"""Words by their spelling, learned with the model: any phrase in any script, and words that look alike begin alike.

v(w) = mean of the vectors of the word and of its pieces of 3 to 5 letters, its ends marked (Bojanowski et al. 2017)
tokens = v of every word (N, D)      pooled = their mean

Pieces share `BUCKETS` vectors by their CRC-32, so that nothing has to be listed before training.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from usepcli.encoders.base import Condition, Conditioner

BUCKETS = 4096
_PIECES = (3, 4, 5)  # letters
_WIDTH = 64  # of tokens and of the whole, where the model says nothing
_LONGEST = 32  # words of a phrase, and letters of a word; what is longer is cut


class Spelling(Conditioner):
    """Learned vectors of the pieces of words, stored with the model."""

    name: ClassVar[str] = "spelling"
    learns: ClassVar[bool] = True

    def open(self) -> None:
        """Take the width, which is one for tokens and whole; path, phrases and sha256 say nothing here."""
        self.path = self.sha256 = ""
        width = self.token_dim or self.pooled_dim or _WIDTH
        self.fits("conditioner spelling", width, width)
        self.pieces = nn.EmbeddingBag(BUCKETS, width, mode="mean")

    def read(self, phrases: Sequence[str]) -> Condition:
        """Return one token for every word of phrases."""
        words = [phrase.lower().split()[:_LONGEST] for phrase in phrases]
        at = self.pieces.weight.device
        known = list(dict.fromkeys(word for own in words for word in own))
        rows = [pieces(word) for word in known]
        starts = torch.tensor([0, *(len(row) for row in rows[:-1])]).cumsum(0)
        flat = torch.tensor([place for row in rows for place in row])
        vectors = self.pieces(flat.to(at), starts.to(at))  # (words, D)
        most = max(map(len, words))
        place = {word: k for k, word in enumerate(known)}
        index = torch.tensor([[*(place[word] for word in own), *[0] * (most - len(own))] for own in words], device=at)
        mask = torch.arange(most, device=at) < torch.tensor([len(own) for own in words], device=at)[:, None]
        tokens = vectors[index] * mask[..., None]  # (Q, N, D)
        return Condition(tokens, mask, tokens.sum(1) / mask.sum(1, keepdim=True))


def pieces(word: str) -> list[int]:
    """Return the places of a word and of its pieces among the vectors."""
    marked = f"<{word[:_LONGEST]}>"
    cut = [marked[k : k + size] for size in _PIECES for k in range(len(marked) - size + 1)]
    return [zlib.crc32(piece.encode()) % BUCKETS for piece in dict.fromkeys([marked, *cut])]
