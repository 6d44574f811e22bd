"""Traits of sounds beside words: learned vectors for "the louder one", "the harmonic one", in square brackets.

    c("[louder]") = (t_louder, p_louder)        c("a dog barks") as the conditioner of words has it

Tzinis et al., "Heterogeneous target speech separation", Interspeech 2022, and "Optimal condition training for target
source separation", ICASSP 2023, ask by such conditions. A trait tells one source of a mixture from the others and is
the same for all mixtures; which source has it is measured on references (objectives/heard_traits.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from usepcli.encoders.base import Condition, Conditioner
from usepcli.errors import BadInput, ConfigError, choices

PAIRS = (("louder", "quieter"), ("harmonic", "percussive"), ("first", "last"))
TRAITS = tuple(trait for pair in PAIRS for trait in pair)


class Traited(Conditioner):
    """A conditioner that knows traits, too: their vectors learn, whatever its own do."""

    learns = True
    inner: Conditioner

    def __init__(self, inner: Conditioner, held: nn.Module, traits: Sequence[str]) -> None:
        """Take the conditioner of words, the same as a part that is stored or not, and the traits; ConfigError."""
        super().__init__(inner.path, inner.phrases, inner.token_dim, inner.pooled_dim, inner.sha256)
        for trait in traits:
            if trait not in TRAITS:
                raise ConfigError(f"model.traits: {choices('trait', trait, TRAITS)}")
        if len(set(traits)) < len(traits):
            raise ConfigError(f"model.traits: {', '.join(traits)}; expected each once")
        # Stored or not as `held` is; the bare one is kept past nn.Module.
        object.__setattr__(self, "inner", inner)
        self.held, self.name, self.length = held, inner.name, inner.length  # type: ignore[misc]
        self.traits = tuple(traits)
        self.token = nn.Embedding(len(self.traits), self.token_dim)
        self.whole = nn.Embedding(len(self.traits), self.pooled_dim)

    @property
    def classes(self) -> tuple[str, ...]:
        """The closed list of the conditioner of words."""
        return self.inner.classes

    @property
    def vectors(self) -> int:
        """How many learned vectors stand before the words."""
        return self.inner.vectors

    def read(self, phrases: Sequence[str]) -> Condition:
        """Return the conditions of words and of traits in brackets; BadInput for a trait that it has not."""
        place = [self._trait(phrase) for phrase in phrases]
        words = [phrase for phrase, trait in zip(phrases, place, strict=True) if trait is None]
        found: list[Condition] = []
        read = self.inner.encode(words) if words else None
        at = 0
        for trait in place:
            if trait is not None:
                found.append(self._of(trait))
                continue
            assert read is not None
            found.append(Condition(read.tokens[at], read.mask[at], read.pooled[at]))
            at += 1
        return self._level(found)

    def hear(self, waves: Tensor, rate: int) -> Condition:
        """Return the conditions of clips (Q, T) at `rate` Hz, as the conditioner of words hears them."""
        return self.inner.hear(waves, rate)

    def settled(self) -> dict[str, Any]:
        """Return the arguments of the conditioner of words."""
        return self.inner.settled()

    def _of(self, trait: int) -> Condition:
        index = torch.tensor(trait, device=self.token.weight.device)
        mask = torch.ones(1, dtype=torch.bool, device=index.device)
        return Condition(self.token(index)[None], mask, self.whole(index))

    def _level(self, parts: Sequence[Condition]) -> Condition:
        """Return conditions of one number of tokens, the shorter ones followed by nothing; gradients stay."""
        most = max(self.length, *(len(part.mask) for part in parts))
        tokens = [nn.functional.pad(part.tokens, (0, 0, 0, most - len(part.mask))) for part in parts]
        mask = [nn.functional.pad(part.mask, (0, most - len(part.mask))) for part in parts]
        return Condition(torch.stack(tokens), torch.stack(mask), torch.stack([part.pooled for part in parts]))

    def _trait(self, phrase: str) -> int | None:
        name = trait_of(phrase)
        if name is None:
            return None
        if name not in self.traits:
            raise BadInput(f"query '{phrase[:60]}': {choices('trait', name, self.traits)}, or words without brackets")
        return self.traits.index(name)


def trait_of(phrase: str) -> str | None:
    """Return the trait that a query in square brackets asks for, None for words."""
    asked = phrase.strip()
    return asked[1:-1].strip().lower() if asked.startswith("[") and asked.endswith("]") else None


def query(trait: str) -> str:
    """Return the query that asks for a trait."""
    return f"[{trait}]"
