"""Mixture-invariant training: mixtures of mixtures (MoMs), with or without clean sources.

P mixtures are added; the outputs of the model for the sum are dealt out to the mixtures so that their
sums fit best:
    L = min_A 1/P sum_p l(x_p, (A e)_p),    A in {0,1}^(P x N), one 1 per column
(Wisdom et al. 2020, equation 3). A supervised share, zeroed mixtures (p0) and single-source mixtures
follow the supplement of that paper, least squares and sparsity Wisdom et al. 2021. Which MoMs are supervised:
objectives/supervised.py.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from usepcli.data.batch import Batch
from usepcli.dsp import assign as assignment
from usepcli.dsp import ratios
from usepcli.dsp.consistency import project
from usepcli.dsp.parts import Parts
from usepcli.errors import BadInput, ConfigError, choices
from usepcli.losses.base import Loss
from usepcli.models.separator import SeparationModel
from usepcli.objectives import sparsity as spare
from usepcli.objectives import supervised
from usepcli.objectives.base import Objective
from usepcli.objectives.dealing import deal
from usepcli.objectives.pit import check_spectrum, match, mean_snr_db, seen, take


class MixIT(Objective):
    """Trains on sums of mixtures without references; options add a supervised share."""

    mixes = "adding mixtures up"
    domains = frozenset({"wave", "spectrum"})

    def __init__(
        self,
        model: SeparationModel,
        loss: Loss,
        n_mix: int = 2,
        supervised_fraction: float = 0.0,
        p0: float = 0.0,
        single_source_prob: float = 0.0,
        normalize_mom: bool = False,
        zero_refs: Literal["match", "ignore"] = "match",
        assign: Literal["exact", "ls"] = "exact",
        generalized: bool = True,
        allow: list[list[int]] | None = None,
        sparsity: Literal["none", "l1_l2", "l1"] = "none",
        sparsity_weight: float = 4.0,
        covariance_weight: float = 0.0,
    ) -> None:
        """Add n_mix mixtures per MoM and mix in references as asked.

        supervised_fraction of all MoMs train by PIT on the union of their references; in such a MoM one
        mixture is silenced with probability p0. With probability single_source_prob a mixture is
        replaced by one of its sources. normalize_mom divides MoM and targets by the deviation of the
        MoM. zero_refs is that of `pit` and touches the supervised share.
        assign: try all assignments, or take the least-squares one. generalized false gives every mixture as many
        outputs, allow lists for each output the mixtures (from 0) that it may go to. sparsity, times sparsity_weight
        (Saijo & Ogawa 2023: 4 for speech, 23 for FUSS), and covariance, which is ours, touch the other MoMs.
        ConfigError for values that do not fit the model.
        """
        super().__init__(model, loss)
        check_spectrum(model, loss)
        _check_assign(assign, n_mix, self.n_src)
        _check_shares(supervised_fraction=supervised_fraction, p0=p0, single_source_prob=single_source_prob)
        if sparsity not in spare.KINDS:
            raise ConfigError(f"objective.sparsity: {choices('sparsity', sparsity, spare.KINDS)}")
        _check_weights(sparsity_weight=sparsity_weight, covariance_weight=covariance_weight)
        self.n_mix, self.normalize_mom, self.zero_refs, self.assign = n_mix, normalize_mom, zero_refs, assign
        self.supervised_fraction, self.p0, self.single_source_prob = supervised_fraction, p0, single_source_prob
        self.rules = _rules(n_mix, self.n_src, generalized, allow or [])
        self.sparsity, self.sparsity_weight, self.covariance_weight = sparsity, sparsity_weight, covariance_weight
        if supervised_fraction > 0 or single_source_prob > 0:
            self.needs = frozenset({"mix", "sources"})

    def check(self, batch_size: int) -> None:
        """Raise ConfigError unless batch_size is a multiple of n_mix."""
        super().check(batch_size)
        check_multiple(batch_size, self.n_mix)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean loss in dB over the MoMs of a batch, in one term per kind of MoM."""
        mixtures, refs = self._moms(batch)  # (M, P, T), (M, P K, T)
        n_sup = self._n_supervised(len(mixtures))
        mom = mixtures.sum(1)
        parts = self.student.parts(mom) if self.loss.domain == "spectrum" else Parts(self.student(mom))
        share = shares(mom)
        terms = self._none(parts.waves)
        if n_sup < len(mom):
            each = self._unsupervised(_rows(parts, slice(n_sup, None)), mixtures[n_sup:], mom[n_sup:])
            terms |= {name: (value * share[n_sup:]).sum() for name, value in each.items()}
        if n_sup and refs is not None:
            known = _sounding_first(refs[:n_sup], self.n_src)
            view = seen(self.loss, self.student, mom[:n_sup], known, _rows(parts, slice(n_sup)))
            found = match(self.loss, *view, self.zero_refs)
            terms["supervised"] = (found.loss * share[:n_sup]).sum()
            self.step_logs["supervised_snr_db"] = mean_snr_db(found)
        return terms

    def _none(self, est: Tensor) -> dict[str, Tensor]:
        """Return the terms of a batch without MoMs of either kind, and log that there were none."""
        names, self.step_logs = list[str](), dict[str, float | Tensor]()
        if self.supervised_fraction < 1:
            names += ["mixit"] + ["weighted_sparsity"] * (self.sparsity != "none")
            names += ["weighted_covariance"] * (self.covariance_weight > 0)
            self.step_logs |= {"snr_db": math.nan, "loudest_share": math.nan}
        if self.supervised_fraction > 0:
            names += ["supervised"]
            self.step_logs["supervised_snr_db"] = math.nan
        return {name: est.new_zeros(()) for name in names}

    def _unsupervised(self, parts: Parts, mixtures: Tensor, mom: Tensor) -> dict[str, Tensor]:
        """Return the weighted terms (M,) of MoMs without references."""
        sounding, est = ratios.energy(mom) > 0, parts.waves
        dealt = deal(self.loss, *seen(self.loss, self.student, mom, mixtures, parts), self.assign, self.rules)
        loudest = dealt.energy.amax(-1) / dealt.energy.sum(-1).clamp_min(1e-30)
        self.step_logs["snr_db"] = dealt.snr_db[dealt.active].mean()
        self.step_logs["loudest_share"] = loudest[sounding].mean()
        terms = {"mixit": dealt.loss}
        if self.sparsity == "none" and not self.covariance_weight:
            return terms
        with torch.autocast(est.device.type, enabled=False):
            est, deviation = self._consistent(est.float(), mom), spare.deviation(mom)
            if self.sparsity != "none":
                sparsity = spare.sparsity(spare.levels(est, deviation), self.sparsity)
                terms["weighted_sparsity"] = self.sparsity_weight * sparsity
                self.step_logs["sparsity"] = sparsity.detach()[sounding].mean()
            if self.covariance_weight:
                covariance = spare.covariance(est, deviation)
                terms["weighted_covariance"] = self.covariance_weight * covariance
                self.step_logs["covariance"] = covariance.detach()[sounding].mean()
        return terms

    def _consistent(self, est: Tensor, mom: Tensor) -> Tensor:
        """Return the outputs as they add up to the MoM, which those of most models do already."""
        model = self.student
        done = model.consistency != "none" and (model.consistency_when == "always" or not model.training)
        return est if done else project(est, mom, "uniform")

    def _n_supervised(self, n_mom: int) -> int:
        return supervised.count(self.supervised_fraction, n_mom, self.place)

    def _moms(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return the mixtures (M, P, T) of each MoM and its references (M, P K, T), all draws made."""
        mix, sources = batch.mix, batch.sources if "sources" in self.needs else None
        if "sources" in self.needs and sources is None:
            raise BadInput(
                "objective mixit: the batch has no references; use a manifest that lists sources, or set "
                "objective.supervised_fraction and objective.single_source_prob to 0"
            )
        if sources is not None and self.single_source_prob > 0:
            mix, sources = self._single_sources(mix, sources)
        mixtures = stack(mix, self.n_mix, "mixit")  # (M, P, T)
        refs = None if sources is None else stack(sources, self.n_mix, "mixit")  # (M, P, K, T)
        if self.p0 > 0 and refs is not None:
            kept = self._kept(len(mixtures)).to(mix.device, mix.dtype)
            mixtures, refs = mixtures * kept[..., None], refs * kept[..., None, None]
        if self.normalize_mom:
            level = spare.deviation(mixtures.sum(1))[:, None, None]
            mixtures, refs = mixtures / level, None if refs is None else refs / level[..., None]
        return mixtures, None if refs is None else refs.flatten(1, 2)

    def _kept(self, n_mom: int) -> Tensor:
        """Return 0 for the mixtures (M, P) that supervised MoMs lose, else 1."""
        drawn = torch.rand(n_mom, generator=self.rng) < self.p0
        which = torch.randint(self.n_mix, (n_mom,), generator=self.rng)
        known = torch.arange(n_mom) < self._n_supervised(n_mom)
        lost = torch.nn.functional.one_hot(which, self.n_mix).bool() & (drawn & known)[:, None]
        return (~lost).float()

    def _single_sources(self, mix: Tensor, sources: Tensor) -> tuple[Tensor, Tensor]:
        """Replace mixtures (B, T) at random by one of their sounding sources (B, K, T)."""
        sounding = (ratios.energy(sources) > 0).cpu()
        drawn = torch.rand(len(mix), generator=self.rng) < self.single_source_prob
        # The largest of independent draws is a uniform choice among the sounding sources.
        rank = torch.rand(sounding.shape, generator=self.rng).add(1).mul(sounding)
        alone = (drawn & sounding.any(1)).to(mix.device)
        only = torch.nn.functional.one_hot(rank.argmax(1), sources.shape[1]).bool().to(mix.device)
        kept = sources * (only | ~alone[:, None])[..., None]
        return torch.where(alone[:, None], kept.sum(1), mix), kept


def _rows(parts: Parts, which: slice) -> Parts:
    """Return the parts of some of the mixtures."""
    return Parts(*(None if part is None else part[which] for part in parts))  # type: ignore[arg-type]


def stack(batch: Tensor, n_mix: int, objective: str) -> Tensor:
    """Return the parts (M, P, ...) of M MoMs out of a batch (B, ...); BadInput where it has too few for one."""
    n_mom = len(batch) // n_mix
    if not n_mom:
        raise BadInput(f"objective {objective}: a batch of {len(batch)} mixtures; expected at least {n_mix}")
    # The first M mixtures meet the next M, and so on; the batch is shuffled already.
    return batch[: n_mom * n_mix].unflatten(0, (n_mix, n_mom)).transpose(0, 1)


def shares(mom: Tensor) -> Tensor:
    """Return the weights (M,) of the mean over the MoMs (M, T) that sound; a silent one teaches nothing."""
    sounding = (ratios.energy(mom) > 0).to(torch.float32)
    return sounding / sounding.sum().clamp_min(1)


def check_multiple(batch_size: int, n_mix: int) -> None:
    """Raise ConfigError unless the batch divides into sums of n_mix mixtures."""
    if batch_size % n_mix:
        raise ConfigError(f"train.batch_size: found {batch_size}; expected a multiple of objective.n_mix {n_mix}")


def _check_assign(assign: str, n_mix: int, n_src: int) -> None:
    if assign not in ("exact", "ls"):
        raise ConfigError(f"objective.assign: {choices('assignment', assign, ('exact', 'ls'))}")
    if n_mix < 2:
        raise ConfigError(f"objective.n_mix: found {n_mix}; expected at least 2 mixtures")
    if assign == "exact" and n_mix**n_src > assignment.MAX_MIXIT:
        raise ConfigError(
            f"objective.n_mix: found {n_mix} with {n_src} outputs, {n_mix**n_src} assignments; "
            f"expected at most {assignment.MAX_MIXIT}, set objective.assign to ls or lower model.n_src"
        )


def _rules(n_mix: int, n_src: int, generalized: bool, allow: list[list[int]]) -> assignment.Rules | None:
    """Return what the profile asks of an assignment; ConfigError where none could keep it."""
    if generalized and not allow:
        return None
    if not generalized and n_src % n_mix:
        raise ConfigError(
            f"objective.generalized: false gives every mixture as many outputs; found model.n_src {n_src}, "
            f"expected a multiple of objective.n_mix {n_mix}"
        )
    if allow and (len(allow) != n_src or not all(mine and set(mine) <= set(range(n_mix)) for mine in allow)):
        raise ConfigError(
            f"objective.allow: found {allow}; expected a list for each of {n_src} outputs, "
            f"with mixtures from 0 to {n_mix - 1}"
        )
    may = torch.tensor([[not allow or p in allow[n] for n in range(n_src)] for p in range(n_mix)])
    rules = assignment.Rules(may, 0 if generalized else n_src // n_mix)
    if not rules.possible():
        raise ConfigError(
            f"objective.allow: {allow} leaves no way to give each of {n_mix} mixtures {rules.each} outputs; "
            "allow more, or set objective.generalized to true"
        )
    return rules


def _check_weights(**found: float) -> None:
    for key, value in found.items():
        if not (value >= 0 and math.isfinite(value)):
            raise ConfigError(f"objective.{key}: found {value}; expected 0 or more")


def _check_shares(**found: float) -> None:
    for key, value in found.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"objective.{key}: found {value}; expected a share between 0 and 1")


def _sounding_first(refs: Tensor, n_est: int) -> Tensor:
    """Return at most n_est references of (B, K, T), loudest first; BadInput where more of them sound."""
    if refs.shape[1] <= n_est:
        return refs
    energy, order = ratios.energy(refs).sort(dim=-1, descending=True, stable=True)
    if bool((energy[:, n_est:] > 0).any()):
        most = int((energy > 0).sum(-1).max())
        raise BadInput(
            f"objective mixit: a supervised mixture of mixtures has {most} references for {n_est} outputs; "
            f"set model.n_src to {most} or more"
        )
    return take(refs, order[:, :n_est])
