"""A conditioner and a judge that open no folder, for what is to be made or tried where the user's own are not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from usepcli.encoders.base import Condition, Conditioner, Judge


class Words(Conditioner):
    """Takes any path and any list; a phrase is one token, whose numbers follow from its letters."""

    name: ClassVar[str] = "words"
    length = 1
    takes_context: ClassVar[bool] = True

    def open(self) -> None:
        """Be as wide as is asked, 16 where nothing is, and known by zeros."""
        self.token_dim, self.pooled_dim = self.token_dim or 16, self.pooled_dim or 16
        self.sha256 = self.sha256 or "0" * 64

    def read(self, phrases: Sequence[str]) -> Condition:
        """Return sines of the sum of a phrase's letters."""
        number = torch.tensor([float(sum(map(ord, phrase))) for phrase in phrases], device=self._place.device)
        tokens, whole = (
            torch.sin(number[:, None] * torch.arange(1, width + 1, device=number.device))
            for width in (self.token_dim, self.pooled_dim)
        )
        return Condition(tokens[:, None], torch.ones(len(phrases), 1, dtype=torch.bool, device=number.device), whole)

    def behind(self, context: Tensor, phrases: Sequence[str]) -> Condition:
        """Return the same, moved by the mean of the vectors."""
        tokens, mask, whole = self.read(phrases)
        return Condition(tokens + context.mean(), mask, whole + context.mean())


class Ear(Judge):
    """Hears two numbers of a wave, its first and its second half; reads them from a phrase's first word."""

    rate, dim, scale, reference, sha256 = 8000, 2, 3.0, "ear", "0" * 64

    def __init__(self, path: str = "", sha256: str = "") -> None:
        super().__init__()
        self.path, self.weight = path, nn.Parameter(torch.ones(()))

    def prompted(self, path: str) -> None:
        """Take any vectors: what it reads is the first word."""

    def hear(self, waves: Tensor, rate: int = 0) -> Tensor:
        """Return the powers of both halves of waves (B, T), (B, 2), unit norm."""
        assert rate in (0, 8000)
        halves = torch.stack([half.square().mean(-1) for half in waves.chunk(2, -1)], -1)
        return nn.functional.normalize(self.weight * halves, dim=-1)

    def read(self, phrases: Sequence[str]) -> Tensor:
        """Return (1, 0) for "first ..." and (0, 1) for all others."""
        return torch.tensor([[1.0, 0.0] if phrase.startswith("first") else [0.0, 1.0] for phrase in phrases])
