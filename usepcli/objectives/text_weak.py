"""Weak supervision by words: mixtures with captions, and no source alone (Mahmud et al. 2024, algorithm 1).

    L = url L_URL + crl L_CRL + cnt L_CNT
with l the loss (magnitude_l1), g a network's answer to words, X_i a mixture, T_i its caption and T_ik its phrases,
    L_URL   sum over the two of l(g(X_1 + X_2, T_i), X_i)       two mixtures that share no phrase are added up
    L_CRL   l(sum_k v_ik g(X_i, T_ik), X_i)                     what the phrases name adds up to the mixture
    L_CNT   a judge tells by which phrase each estimate was asked (objectives/text_terms.py)
each a mean over its mixtures; a mixture of whose phrases some were left out (data.phrases) adds up to no whole and has
no L_CRL, unless `crl_skip_incomplete` is off. `source_input: mom` asks the sum of both mixtures for all phrases, as the
published code does, where algorithm 1 asks each mixture for its own. The paper's tables name the weights of MUSIC 10, 5
and 0.1, of VGGSound 10, 2 and 0.2, of AudioCaps 10, 1 and 0.2, for magnitudes as recordings have them. Of mixtures that
the network reads at level 1 (`model.input_norm: std`) L_URL and L_CRL come to 30 to 50 times as much, and `cnt` has to
grow with them, or the judge has no say.

`absent: f` puts in place of a caption in L_URL, with probability f, the caption or a phrase of a mixture that shares
nothing with the two; its target is silence, which neither the judge nor L_CRL ever asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from usepcli.data.batch import Batch
from usepcli.data.partners import partners
from usepcli.errors import BadInput, ConfigError, choices
from usepcli.losses.base import Loss
from usepcli.models.queried import QueriedModel
from usepcli.objectives.asking import Asking, check_share
from usepcli.objectives.text_terms import judge_of, judged

Input = Literal["mixture", "mom"]
INPUTS = ("mixture", "mom")
_ALONE = 20  # batches in a row in which no two mixtures fit; of one now and then there is just nothing to learn


class TextWeak(Asking):
    """Trains a queried model on mixtures and their words alone; it never reads a source."""

    needs = frozenset({"mix", "caption", "phrases"})
    domains = frozenset({"spectrum"})
    mixes = "adding two of them up"

    def __init__(
        self,
        model: QueriedModel,
        loss: Loss,
        url: float = 10.0,
        crl: float = 5.0,
        cnt: float = 0.1,
        source_input: Input = "mixture",
        judge: str = "",
        judge_path: str = "",
        judge_prompts: str = "",
        cnt_symmetric: bool = False,
        crl_skip_incomplete: bool = True,
        absent: float = 0.0,
    ) -> None:
        """Weigh the terms, each 0 to leave it out; a judge by name, and where it lies, is needed for `cnt` alone.

        absent: the share of questions in L_URL for what is in neither mixture.
        """
        super().__init__(model, loss)
        _check(url, crl, cnt, source_input)
        self.url, self.crl, self.cnt = url, crl, cnt
        if not url:  # captions are asked by nowhere else
            self.needs = self.needs - {"caption"}
        self.source_input, self.cnt_symmetric = source_input, cnt_symmetric
        self.crl_skip_incomplete = crl_skip_incomplete
        check_share("absent", absent)
        if absent and not url:
            raise ConfigError(f"objective.absent: found {absent:g}, and objective.url, to which it belongs, is 0")
        self.absent = absent
        self._adds, self._alone = bool(url) or source_input == "mom", 0
        self.judge = judge_of(judge, judge_path, prompts=judge_prompts) if cnt else None

    def check(self, batch_size: int) -> None:
        """Raise ConfigError where a mixture would meet no other to be added to."""
        super().check(batch_size)
        if self._adds and batch_size < 2:
            raise ConfigError(
                f"train.batch_size: found {batch_size}, and the objective adds two mixtures up; expected 2 or more"
            )

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms; BadInput where a mixture has no caption or no phrase, or none ever a partner."""
        named = [dict(_weights(phrases)) for phrases in batch.phrases]
        lacking = [not words or (bool(self.url) and not batch.caption[k].strip()) for k, words in enumerate(named)]
        bare = lacking.index(True) if any(lacking) else None
        if bare is not None:
            raise BadInput(f"{batch.ids[bare]}: no caption or no phrase; see `usep prepare-data --check`")
        order = torch.randperm(len(batch), generator=self.rng).tolist()
        files = batch.files or [()] * len(batch)  # one recording shares its sources with itself, whatever is said
        known = [frozenset([*words, *own]) for words, own in zip(named, files, strict=True)]
        pairs = partners(known, order)
        self.step_logs["paired"] = 2 * len(pairs) / len(batch)
        self._check_paired(batch, pairs)
        terms = {"url": self.url * self._captions(batch, known, pairs) if pairs else self.nothing()} if self.url else {}
        if not pairs and self.source_input == "mom":
            return terms | {name: self.nothing() for name in ("crl", "cnt") if getattr(self, name)}
        return terms | (self._phrases(batch, named, pairs) if self.crl or self.cnt else {})

    def _check_paired(self, batch: Batch, pairs: list[tuple[int, int]]) -> None:
        """Raise BadInput where for many batches in a row no two mixtures could be added up that are to be."""
        self._alone = self._alone + 1 if not pairs and self._adds else 0
        if self._alone >= _ALONE:
            raise BadInput(
                f"objective text_weak: in {_ALONE} batches in a row every two of {len(batch)} mixtures share a phrase "
                "or a recording; raise train.batch_size, or take data of more classes"
            )

    def _captions(self, batch: Batch, known: list[frozenset[str]], pairs: list[tuple[int, int]]) -> Tensor:
        """Return L_URL over the pairs."""
        aims = torch.stack([batch.mix[list(side)] for side in zip(*pairs, strict=True)], 1)  # (P, 2, T)
        both = aims.sum(1)
        asked = [[batch.caption[k] for k in pair] for pair in pairs]
        if self.absent:
            asked, there = self._some_absent(batch, known, pairs, asked)
            aims = aims * there.to(aims)[..., None]
        bound, _ = self.bound(asked)
        view = self.seen(bound, both, aims, bound.parts(both))
        return self.loss(view.est, view.ref).sum(1).mean()

    def _some_absent(
        self, batch: Batch, known: list[frozenset[str]], pairs: list[tuple[int, int]], asked: list[list[str]]
    ) -> tuple[list[list[str]], Tensor]:
        """Put words of mixtures that share nothing in place of some captions; return all, and which stay (P, 2)."""
        gone = torch.rand(len(pairs), 2, generator=self.rng) < self.absent
        found = []
        for p, own in enumerate(asked):
            mine = known[pairs[p][0]] | known[pairs[p][1]]
            foreign = [k for k, theirs in enumerate(known) if mine.isdisjoint(theirs)]
            words = [*dict.fromkeys(said for k in foreign for said in (batch.caption[k], *dict(batch.phrases[k])))]
            words = [words[n] for n in torch.randperm(len(words), generator=self.rng).tolist()]
            # Where phrases of the pair were left out, they may be among these words.
            if len(words) < 2 or any(batch.incomplete[k] for k in pairs[p] if batch.incomplete):
                gone[p] = False
            found.append([words[n] if gone[p, n] else said for n, said in enumerate(own)])
        return found, ~gone

    def _phrases(self, batch: Batch, named: list[dict[str, float]], pairs: list[tuple[int, int]]) -> dict[str, Tensor]:
        """Return L_CRL and L_CNT of every mixture that is asked for its phrases."""
        if self.source_input == "mixture":
            whole: list[tuple[int, ...]] = [(k,) for k in range(len(batch))]
        else:
            whole = [*pairs]
        heard = torch.stack([batch.mix[list(members)].sum(0) for members in whole])
        words = [[phrase for k in members for phrase in named[k]] for members in whole]
        bound, own = self.bound(words)
        parts = bound.parts(heard)
        terms = {}
        if self.crl:
            targets = torch.stack([batch.mix[list(members)] for members in whole])  # (B, 1 or 2, T)
            view = self.seen(bound, heard, targets, parts)
            share = _shares(named, whole, own.shape[1]).to(view.est)
            each = self.loss(share @ view.est, view.ref)  # (B, 1 or 2)
            terms["crl"] = self.crl * _mean_of(each, self._summed(batch, whole).to(each.device))
        if self.judge is not None:
            waves, asked = parts.waves[own], [phrase for some in words for phrase in some]
            cnt, right = judged(self.judge, waves, self.student.sample_rate, asked, symmetric=self.cnt_symmetric)
            terms["cnt"], self.step_logs["judged_right"] = self.cnt * cnt, right
        return terms

    def _summed(self, batch: Batch, whole: Sequence[tuple[int, ...]]) -> Tensor:
        """Return which mixtures (B, 1 or 2) their phrases add up to."""
        left_out = batch.incomplete if self.crl_skip_incomplete else []
        return torch.tensor([[not left_out[k] if left_out else True for k in members] for members in whole])


def _shares(named: Sequence[dict[str, float]], whole: Sequence[tuple[int, ...]], most: int) -> Tensor:
    """Return by which weights (B, K, N) the answers to N phrases add up to each of the K mixtures that were heard."""
    share = torch.zeros(len(whole), len(whole[0]), most)
    for row, members in enumerate(whole):
        at = 0
        for column, k in enumerate(members):
            weights = torch.tensor(list(named[k].values()))
            share[row, column, at : at + len(weights)] = weights
            at += len(weights)
    return share


def _mean_of(values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean of the values that count, 0 with a gradient of 0 where none does."""
    return torch.where(counted, values, 0.0).sum() / counted.sum().clamp(min=1)


def _weights(phrases: tuple[tuple[str, float], ...]) -> dict[str, float]:
    """Return each different phrase once: copies that share a weight give one estimate, and their weights add up."""
    found: dict[str, float] = {}
    for phrase, weight in phrases:
        found[phrase] = found.get(phrase, 0.0) + weight
    return found


def _check(url: float, crl: float, cnt: float, source_input: str) -> None:
    for key, value in (("url", url), ("crl", crl), ("cnt", cnt)):
        if not 0 <= value < float("inf"):
            raise ConfigError(f"objective.{key}: found {value}; expected a weight of 0 or more")
    if not (url or crl or cnt):
        raise ConfigError("objective.url: 0, and so are crl and cnt; nothing is left to learn from")
    if source_input not in INPUTS:
        raise ConfigError(f"objective.source_input: {choices('input', source_input, INPUTS)}")
