"""Optimal condition training: a source is asked for by whatever condition serves it best (Tzinis et al. 2023).

    L = sum_k ( min_{c in C_k} l(g(X, c), S_k) + asked l(g(X, q_k), S_k) )

with X a mixture of sources S_k, q_k the words of each, and C_k all conditions that name it and no other: its words and
its traits (objectives/heard_traits.py); a mean over the mixtures. The gradient of the minimum is that of the best
condition alone: what is easy to hear shows the network how to separate, and words learn to say it. `asked` weighs what
the words themselves reach; 0 leaves them to the minimum. OCT++ refines conditions by the mixture: model.refine.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from usepcli.data.batch import Batch
from usepcli.encoders.traits import Traited, query
from usepcli.errors import ConfigError
from usepcli.losses.base import Loss
from usepcli.models.queried import QueriedModel
from usepcli.objectives.asking import Asking
from usepcli.objectives.heard_traits import traits_of
from usepcli.objectives.questions import questions


class OCT(Asking):
    """Trains a queried model with references, each the target of its words and of the traits that it has."""

    needs = frozenset({"mix", "sources", "queries"})
    domains = frozenset({"wave", "spectrum"})

    def __init__(self, model: QueriedModel, loss: Loss, asked: float = 1.0) -> None:
        """Weigh what the words reach beside the best condition; ConfigError for a model that knows no trait."""
        super().__init__(model, loss)
        words = getattr(model, "words", None)
        if not isinstance(words, Traited):
            raise ConfigError(
                "model.traits: empty, and objective oct asks by traits beside words; name some, for instance "
                "[louder, quieter, harmonic, percussive]"
            )
        if not 0 <= asked < math.inf:
            raise ConfigError(f"objective.asked: found {asked}; expected a weight of 0 or more")
        self.traits, self.asked = words.traits, asked

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the means over the mixtures; BadInput where queries and sources are not as many."""
        asked = questions(batch)
        assert batch.sources is not None
        # A query that names several sources is one question, and its traits are those of their sum.
        most = max(map(len, asked))
        answers = torch.zeros(len(batch), most, batch.sources.shape[1])
        for k, some in enumerate(asked):
            for n, question in enumerate(some):
                answers[k, n, list(question.sources)] = 1.0
        sources = answers.to(batch.sources) @ batch.sources  # (B, N, T)
        traits = traits_of(sources, self.student.sample_rate, self.traits)
        said = [
            [[question.words, *map(query, own[n])] for n, question in enumerate(some)]
            for some, own in zip(asked, traits, strict=True)
        ]
        found = self._heard(batch, said, sources)  # (B, N, C)
        there = found[..., 0].isfinite()
        best, which = found.min(-1)
        self.step_logs["best_is_words"] = which[there].eq(0).float().mean()
        self.step_logs["conditions"] = found.isfinite().sum() / there.sum()
        terms = {"oct": _mean(best, there)}
        if self.asked:
            terms["asked"] = self.asked * _mean(found[..., 0], there)
        return terms

    def _heard(self, batch: Batch, said: list[list[list[str]]], sources: Tensor) -> Tensor:
        """Return the loss (B, N, C) of each way to ask for each source (B, N, T), inf where there is none."""
        bound, own = self.bound([[words for ways in some for words in ways] for some in said])
        place = torch.zeros(own.shape, dtype=torch.long)  # (B, M), of whose answer each is
        slots = torch.full((*sources.shape[:2], max(len(ways) for some in said for ways in some)), -1)
        for k, some in enumerate(said):
            at = 0
            for n, ways in enumerate(some):
                place[k, at : at + len(ways)] = n
                slots[k, n, : len(ways)] = torch.arange(at, at + len(ways))
                at += len(ways)
        place, slots = place.to(sources.device), slots.to(sources.device)
        targets = sources.gather(1, place[..., None].expand(-1, -1, sources.shape[-1]))  # (B, M, T)
        view = self.seen(bound, batch.mix, targets, bound.parts(batch.mix))
        loss = self.loss(view.est, view.ref, view.mix[:, None])  # (B, M)
        rows = torch.arange(len(loss), device=loss.device)[:, None, None]
        return torch.where(slots >= 0, loss[rows, slots.clamp_min(0)], torch.inf)


def _mean(values: Tensor, there: Tensor) -> Tensor:
    """Return the mean over mixtures of the sum over sources that are there."""
    return torch.where(there, values, 0.0).sum(1).mean()
