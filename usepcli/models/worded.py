"""Queried models that are asked in words or by example through a conditioner (encoders/), whatever network they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from usepcli import registry
from usepcli.encoders.base import Conditioner
from usepcli.encoders.prompts import Prompted
from usepcli.encoders.traits import Traited
from usepcli.errors import ConfigError
from usepcli.models.fixed import Fixed
from usepcli.models.queried import Conditions, QueriedModel


class WordedModel(QueriedModel):
    """Base of the models whose conditions are (tokens (N, D), which are words (N,), the whole (E,)) of a conditioner.

    A subclass calls `take` once, with what `conditioner_of` makes.
    """

    def take(self, made: Conditioner, traits: Sequence[str], mask_padding: bool) -> None:
        """Keep the conditioner: one that learns, or is stored, as a part; any other frozen and stored nowhere."""
        if not mask_padding and not made.length:
            raise ConfigError(
                f"model.mask_padding: false, and conditioner {made.name} pads each phrase to the longest beside it; "
                "set it to true"
            )
        self.mask_padding = mask_padding
        kept = made.learns or made.stored
        part: nn.Module = made if kept else Fixed(made, made.reference, made.sha256)
        self.conditioner = Traited(made, part, traits) if traits else part

    @property
    def _at(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def words(self) -> Conditioner:
        """The part that turns queries into conditions."""
        return opened(self.conditioner)

    @property
    def classes(self) -> tuple[str, ...]:
        """The closed list of its conditioner."""
        return self.words.classes

    def settled(self) -> dict[str, Any]:
        """Return the settings that making the model has found: list and widths of the conditioner, and its sha256."""
        found = self.words.settled()
        return {
            "classes": list(found["phrases"]),
            "cond_dim": found["token_dim"],
            "emb_dim": found["pooled_dim"],
            "conditioner_sha256": found["sha256"],
            "context": self.words.vectors,
        }

    def encode(self, queries: Sequence[str]) -> Conditions:
        """Return tokens (Q, N, D), which of them are words (Q, N), and the whole (Q, E); BadInput as of `words`."""
        return tuple(part.to(self._at) for part in self.words.encode(queries))

    def listen(self, wave: Tensor, rate: int) -> Conditions:
        """Return the conditions (1, ...) of a clip (T,) at `rate` Hz, by a conditioner that hears; BadInput else."""
        return tuple(part.to(self._at) for part in self.words.hear(wave[None], rate))

    def blank(self, count: int) -> Conditions:
        """Return conditions (1, count, ...) of nothing, to count arithmetic and memory with."""
        tokens = self.words.length or 16
        at = self._at
        mask = torch.ones(1, count, tokens, dtype=torch.bool, device=at)
        whole = torch.zeros(1, count, self.words.pooled_dim, device=at)
        return torch.zeros(1, count, tokens, self.words.token_dim, device=at), mask, whole


def opened(part: nn.Module) -> Conditioner:
    """Return the conditioner that a model keeps as a part, frozen or not."""
    found = part.module if isinstance(part, Fixed) else part
    assert isinstance(found, Conditioner)
    return found


def conditioner_of(name: str, given: tuple[Any, ...], prompts: str, context: int) -> Conditioner:
    """Return the conditioner of a name, behind learned vectors where any are asked for; ConfigError for no such one."""
    kind = registry.load("conditioner", name)
    if (context or prompts) and not kind.takes_context:
        key = "prompts" if prompts else "context"
        raise ConfigError(
            f"model.{key}: found {prompts or context}, and model.conditioner {name} reads no words behind learned "
            "vectors; take conditioner clap, or leave it out"
        )
    made: Conditioner = kind(*given)
    if context or prompts:
        return Prompted(made, Fixed(made, made.reference, made.sha256), context, prompts)
    return made
