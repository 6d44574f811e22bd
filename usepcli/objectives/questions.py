"""What the mixtures of a batch are asked for, and which of their sources answer.

Two queries are the same where case and spaces are all that differs; several sources of a mixture under one query are
one question, for their sum. What is absent from a mixture is a query of another one that is none of its own, and is of
none of its classes where the batch says of which class each query is.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from usepcli.data.batch import Batch
from usepcli.encoders.labels import known, plain
from usepcli.errors import BadInput

Kinds = dict[str, tuple[str, str]]  # a query as it is compared: as it was written, and its class or ''


class Question(NamedTuple):
    """Words, and the sources that they name; none where what they name is absent."""

    words: str
    sources: tuple[int, ...]


def questions(batch: Batch) -> list[list[Question]]:
    """Return what each mixture is asked for; BadInput where it has no query, or more of them than sources."""
    has = 0 if batch.sources is None else batch.sources.shape[1]
    found = []
    for name, queries in zip(batch.ids, batch.queries, strict=True):
        if not 0 < len(queries) <= has:
            raise BadInput(
                f"{name}: {len(queries)} queries for {has} sources; expected one for each, see `usep prepare-data "
                "--check`"
            )
        own: dict[str, Question] = {}
        for at, words in enumerate(queries):
            before = own.get(plain(words), Question(words, ()))
            own[plain(words)] = before._replace(sources=(*before.sources, at))
        found.append([*own.values()])
    return found


def some_absent(batch: Batch, asked: list[list[Question]], share: float, rng: torch.Generator) -> list[list[Question]]:
    """Return the questions, each with probability `share` replaced by one for what is absent, where there is any."""
    if not share:
        return asked
    kinds = [_kinds(batch, k) for k in range(len(batch))]
    found = []
    for k, own in enumerate(asked):
        words = absent(kinds, k)
        words = [words[i] for i in torch.randperm(len(words), generator=rng).tolist()]
        drawn = (torch.rand(len(own), generator=rng) < share).tolist()
        found.append([Question(words.pop(), ()) if now and words else one for one, now in zip(own, drawn, strict=True)])
    return found


def absent(kinds: list[Kinds], k: int) -> list[str]:
    """Return the different queries of all mixtures that name nothing of mixture k, in their order."""
    own = {kind for _, kind in kinds[k].values() if kind}
    found: dict[str, str] = {}
    for other in kinds:
        for name, (words, kind) in other.items():
            if not known(words, kinds[k]) and kind not in own:
                found.setdefault(name, words)
    return [*found.values()]


def _kinds(batch: Batch, k: int) -> Kinds:
    """Return the queries of mixture k; their classes are the parts of its label, where these are as many."""
    queries = batch.queries[k]
    classes = [part.strip() for part in batch.label[k].split(";")] if batch.label else []
    classes = classes if len(classes) == len(queries) else [""] * len(queries)
    return {plain(words): (words, kind) for words, kind in zip(queries, classes, strict=True)}
