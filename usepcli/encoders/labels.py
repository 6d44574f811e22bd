"""One learned vector for each class of a closed list: no words are understood, the separator learns what each means."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import ClassVar

import torch
from torch import nn

from usepcli.encoders.base import Condition, Conditioner, near
from usepcli.encoders.lists import phrases_of
from usepcli.encoders.templates import ONE
from usepcli.errors import BadInput, ConfigError

_PROMPT = ONE.lower()  # begins the queries of sets of single sounds
_WIDTH = 64  # of tokens and of the whole, where the model says nothing


class Labels(Conditioner):
    """Learned vectors of a list of class names, stored with the model.

    The list is given, or read from a path: a text file with a name in every line, or a manifest, whose queries are
    taken. Case and spaces around a name do not matter.
    """

    name: ClassVar[str] = "labels"
    learns: ClassVar[bool] = True
    length = 1

    def open(self) -> None:
        """Take the names, or the path of a file that lists them; ConfigError without either, or for a name twice."""
        self.token_dim, self.pooled_dim = self.token_dim or _WIDTH, self.pooled_dim or _WIDTH
        if not self.phrases:
            if not self.path:
                raise ConfigError(
                    "model.classes: empty, and model.conditioner labels learns a closed list; name the classes, or set "
                    "model.conditioner_path to a file with one in every line or to the manifest of the training"
                )
            self.phrases = phrases_of(self.path)
        self._index = {plain(phrase): k for k, phrase in enumerate(self.phrases)}
        if len(self._index) < len(self.phrases) or "" in self._index:
            raise ConfigError(
                f"model.classes: {len(self.phrases)} names of which {len(self._index.keys() - {''})} differ; "
                "expected each once, and none empty"
            )
        self.tokens = nn.Embedding(len(self.phrases), self.token_dim)
        self.pooled = nn.Embedding(len(self.phrases), self.pooled_dim)

    def read(self, phrases: Sequence[str]) -> Condition:
        """Return one token for each phrase; BadInput for one that is not in the list, with the nearest that are."""
        place = [self._place_of(phrase) for phrase in phrases]
        index = torch.tensor(place, device=self.tokens.weight.device)
        mask = torch.ones(len(place), 1, dtype=torch.bool, device=index.device)
        return Condition(self.tokens(index)[:, None], mask, self.pooled(index))

    def _place_of(self, phrase: str) -> int:
        found = known(phrase, self._index)
        if not found:
            raise BadInput(unknown(phrase, self.phrases))
        return self._index[found]


def plain(phrase: str) -> str:
    """Return a phrase as it is compared: without case and spaces around."""
    return " ".join(phrase.lower().split())


def known(phrase: str, names: Container[str]) -> str:
    """Return which of plain names a phrase stands for, whether or not it says "the sound of"; '' for none of them."""
    asked = plain(phrase)
    return next((name for name in (asked, asked.removeprefix(_PROMPT), _PROMPT + asked) if name and name in names), "")


def unknown(phrase: str, phrases: Sequence[str]) -> str:
    """Return the line that says of a query that it is none of a model's closed list."""
    shown = phrase if len(phrase) <= 60 else f"{phrase[:57]}..."
    found = near(phrase, phrases)
    kind = "the nearest" if found else "some of them"
    some = ", ".join(f"'{name}'" for name in found or phrases[:3])
    return (
        f"query '{shown}': none of the {len(phrases)} classes that this model knows; {kind}: {some}; usep info "
        "lists all of them"
    )
