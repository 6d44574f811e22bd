"""Queried models that are asked in words or by example through a conditioner (encoders/), whatever network they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, TypedDict, Unpack

import torch
from torch import Tensor, nn

from usepcli import registry
from usepcli.encoders.base import Conditioner
from usepcli.encoders.prompts import Prompted
from usepcli.encoders.traits import Traited
from usepcli.errors import ConfigError
from usepcli.models.fixed import Fixed
from usepcli.models.queried import Conditions, QueriedModel

Norm = Literal["none", "std", "mean_std"]
Kind = Literal["none", "uniform", "magsq"]
When = Literal["always", "eval"]


class Worded(TypedDict, total=False):
    """The arguments of all models that are asked through a conditioner; widths of 0 are the conditioner's own.

    conditioner_sha256 is what a stored model knows its encoder by; a profile leaves it empty. prompts: a model that
    has learned vectors before the words; context: how many, or how many to learn anew (encoders/prompts.py). traits:
    what may be asked for beside words, in brackets (encoders/traits.py). What they are without a word stands in WORDED
    of the class, or of the nearest base that says it.
    """

    conditioner: str
    conditioner_path: str
    conditioner_sha256: str
    prompts: str
    context: int
    classes: tuple[str, ...]
    traits: tuple[str, ...]
    cond_dim: int
    emb_dim: int
    sample_rate: int
    input_norm: Norm
    consistency: Kind
    consistency_when: When


class WordedModel(QueriedModel):
    """Base of the models whose conditions are (tokens (N, D), which are words (N,), the whole (E,)) of a conditioner.

    What the network does with these is all that a subclass makes.
    """

    WORDED: ClassVar[Worded] = {
        "conditioner": "labels", "conditioner_path": "", "conditioner_sha256": "", "prompts": "", "context": 0,
        "classes": (), "traits": (), "cond_dim": 0, "emb_dim": 0, "sample_rate": 16000, "input_norm": "std",
        "consistency": "none", "consistency_when": "always",
    }  # fmt: skip

    def __init__(self, *, hop: int, mask_padding: bool = True, **worded: Unpack[Worded]) -> None:
        """Make the conditioner and store the settings that all models share; ConfigError as `conditioner_of`."""
        told: dict[str, Any] = {}
        for base in reversed(type(self).__mro__):
            told |= vars(base).get("WORDED", {})
        if unknown := worded.keys() - told.keys():
            raise TypeError(f"{type(self).__name__} has no argument {', '.join(sorted(unknown))}")
        told |= worded
        common = ("sample_rate", "input_norm", "consistency", "consistency_when")
        super().__init__(hop=hop, **{key: told[key] for key in common})
        if told["consistency"] == "learned":
            raise ConfigError(
                "model.consistency: learned, for which no model by query has a layer; take magsq or uniform"
            )
        self._take(conditioner_of(told), told["traits"], mask_padding)

    def _take(self, made: Conditioner, traits: Sequence[str], mask_padding: bool) -> None:
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


def conditioner_of(told: Mapping[str, Any]) -> Conditioner:
    """Return the conditioner that settings name, behind learned vectors where any are asked for.

    ConfigError by their key where there is no such one, or where they do not fit it.
    """
    name, prompts, context = told["conditioner"], told["prompts"], told["context"]
    for key in ("context", "cond_dim", "emb_dim"):
        if told[key] < 0:
            raise ConfigError(f"model.{key}: found {told[key]}; expected at least 0")
    kind = registry.load("conditioner", name)
    if (context or prompts) and not kind.takes_context:
        key = "prompts" if prompts else "context"
        raise ConfigError(
            f"model.{key}: found {prompts or context}, and model.conditioner {name} reads no words behind learned "
            "vectors; take conditioner clap, or leave it out"
        )
    keys = ("conditioner_path", "classes", "cond_dim", "emb_dim", "conditioner_sha256")
    made: Conditioner = kind(*(told[key] for key in keys))
    if context or prompts:
        return Prompted(made, Fixed(made, made.reference, made.sha256), context, prompts)
    return made
