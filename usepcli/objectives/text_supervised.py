"""Supervision by queries: each source of a mixture is asked for by its own words (Dong et al. 2023, CLIPSep).

    L = url L_URL + cnt L_CNT,    L_URL = sum_k l(g(X, q_k), S_k)
with X a mixture of sources S_k, q_k the words of each, g a network's answer to words and l the loss; a mean over the
mixtures. `mix_and_separate` is L_URL alone. In L_CNT a frozen judge tells by which words each estimate was asked
(objectives/text_terms.py): what it adds to references is Table 11 of Mahmud et al. 2024.

`absent: f` replaces each query, with probability f, by one for a sound that is not there (objectives/questions.py),
whose target is silence: a network that never was asked for such a thing gives something nevertheless.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from usepcli.data.batch import Batch
from usepcli.dsp import ratios
from usepcli.errors import ConfigError
from usepcli.losses.base import Loss
from usepcli.models.queried import QueriedModel
from usepcli.objectives.asking import Asking, check_share
from usepcli.objectives.questions import questions, some_absent
from usepcli.objectives.text_terms import judge_of, judged


class Answered(NamedTuple):
    """L_URL, the estimates (M, T) of what is there, and by which words (M) each was asked."""

    url: Tensor
    waves: Tensor
    words: list[str]


class MixAndSeparate(Asking):
    """Trains a queried model with references, each the target of its own query."""

    needs = frozenset({"mix", "sources", "queries"})
    domains = frozenset({"wave", "spectrum"})

    def __init__(self, model: QueriedModel, loss: Loss, absent: float = 0.0) -> None:
        """Say which share of all queries is for sounds that are absent."""
        super().__init__(model, loss)
        check_share("absent", absent)
        self.absent = absent
        self.mixes = "asking for what others are asked for" if absent else ""

    def check(self, batch_size: int) -> None:
        """Raise ConfigError where a mixture would meet no other, by whose words to ask for what is absent."""
        super().check(batch_size)
        if self.absent and batch_size < 2:
            raise ConfigError(
                f"train.batch_size: found {batch_size}, and objective.absent {self.absent:g} asks a mixture by the "
                "words of others; expected 2 or more"
            )

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean of L_URL over the mixtures; BadInput where queries and sources are not as many."""
        return {"mix_and_separate": answered(self, batch, self.absent).url}


class TextSupervised(MixAndSeparate):
    """The same with a judge, which hears whether each estimate is what it was asked for."""

    def __init__(
        self,
        model: QueriedModel,
        loss: Loss,
        url: float = 10.0,
        cnt: float = 0.1,
        judge: str = "",
        judge_path: str = "",
        judge_prompts: str = "",
        cnt_symmetric: bool = False,
        absent: float = 0.0,
    ) -> None:
        """Weigh the terms, 0 to leave `cnt` out; a judge by name, and where it lies, is needed for `cnt` alone."""
        super().__init__(model, loss, absent)
        if not 0 < url < math.inf:
            raise ConfigError(f"objective.url: found {url}; expected a weight above 0")
        if not 0 <= cnt < math.inf:
            raise ConfigError(f"objective.cnt: found {cnt}; expected a weight of 0 or more")
        self.url, self.cnt, self.cnt_symmetric = url, cnt, cnt_symmetric
        self.judge = judge_of(judge, judge_path, prompts=judge_prompts) if cnt else None

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms; BadInput as of `mix_and_separate`."""
        found = answered(self, batch, self.absent)
        terms = {"url": self.url * found.url}
        if self.judge is None:
            return terms
        if not found.words:  # all were asked for what is absent
            return terms | {"cnt": found.waves.sum()}
        rate = self.student.sample_rate
        cnt, self.step_logs["judged_right"] = judged(
            self.judge, found.waves, rate, found.words, symmetric=self.cnt_symmetric
        )
        return terms | {"cnt": self.cnt * cnt}


def answered(objective: Asking, batch: Batch, absent: float) -> Answered:
    """Ask all mixtures of a batch and compare the answers with their sources.

    BadInput where queries and sources are not as many.
    """
    asked = some_absent(batch, questions(batch), absent, objective.rng)
    assert batch.sources is not None
    bound, own = objective.bound([[question.words for question in some] for some in asked])
    answers = torch.zeros(*own.shape, batch.sources.shape[1])
    for k, some in enumerate(asked):
        for n, question in enumerate(some):
            answers[k, n, list(question.sources)] = 1.0
    answers = answers.to(batch.sources)
    parts = bound.parts(batch.mix)
    est, ref, mix = objective.seen(bound, batch.mix, answers @ batch.sources, parts)
    there = own & answers.any(-1)
    if absent:
        objective.step_logs["absent_db"] = _level_db(parts.waves, batch.mix, own & ~there)
    url = objective.loss(est, ref, mix[:, None]).masked_fill(~own, 0.0).sum(1).mean()
    words = [question.words for some in asked for question in some if question.sources]
    return Answered(url, parts.waves[there], words)


def _level_db(est: Tensor, mix: Tensor, which: Tensor) -> Tensor:
    """Return the mean level of chosen estimates (B, N, T) below their mixtures (B, T), in dB, -120 at least."""
    share = ratios.energy(est.detach()) / ratios.energy(mix)[:, None].clamp_min(1e-12)
    return 10 * torch.log10(share[which].clamp_min(1e-12)).mean()
