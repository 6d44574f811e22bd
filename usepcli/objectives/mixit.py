"""Mixture-invariant training: mixtures of mixtures (MoMs), with or without clean sources.

P mixtures are added; the outputs of the model for the sum are dealt out to the mixtures so that their
sums fit best:
    L = min_A 1/P sum_p l(x_p, (A e)_p),    A in {0,1}^(P x N), one 1 per column
(Wisdom et al. 2020, equation 3). A supervised share, zeroed mixtures (p0) and single-source mixtures
follow the supplement of that paper.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from usepcli.data.batch import Batch
from usepcli.dsp import assign, ratios
from usepcli.errors import BadInput, ConfigError
from usepcli.losses.base import Loss, Products
from usepcli.models.separator import SeparationModel
from usepcli.objectives.base import Objective
from usepcli.objectives.pit import match, mean_active, take


class Dealt(NamedTuple):
    """Outcome of a MixIT search: owner (B, N) holds the mixture of each output."""

    loss: Tensor  # (B,)
    owner: Tensor  # (B, N)
    pair_db: Tensor  # (B, P) loss of each mixture
    active: Tensor  # (B, P) where the mixture sounds


def deal(loss: Loss, est: Tensor, mixtures: Tensor, mom: Tensor) -> Dealt:
    """Return the best way to deal est (B, N, T) out to mixtures (B, P, T), and its loss (B,) with gradient.

    The search over all P^N ways reads inner products; the winner is evaluated on waveforms. Silent
    mixtures cost the zero-reference loss against mom (B, T).
    """
    with torch.autocast(est.device.type, enabled=False):
        est = est if est.dtype == torch.float64 else est.float()
        energies, (gram, cross) = ratios.inner([mixtures, est, mom[:, None]], [(1, 1), (0, 1)])
        ref_energy, _, mom_energy = energies

        def cost(energy: Tensor, inner: Tensor) -> Tensor:
            pairs = Products(ref_energy[..., None], energy, inner, mom_energy[..., None], mom.shape[-1])
            return loss.from_products(pairs)

        owner = assign.mixit(gram, cross, cost)
        dealt = owner[:, None] == torch.arange(mixtures.shape[1], device=owner.device)[:, None]  # (B, P, N)
        remixed = dealt.to(est.dtype) @ est  # (B, P, T)
        pair_db = loss.direct(remixed, mixtures, ref_energy.to(est.dtype), mom_energy.to(est.dtype))
    active = loss.active(ref_energy, mom_energy, mom.shape[-1])
    return Dealt(pair_db.mean(-1), owner, pair_db, active)


class MixIT(Objective):
    """Trains on sums of mixtures without references; options add a supervised share."""

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
    ) -> None:
        """Add n_mix mixtures per MoM and mix in references as asked.

        supervised_fraction of the MoMs train by PIT on the union of their references; in such a MoM one
        mixture is silenced with probability p0. With probability single_source_prob a mixture is
        replaced by one of its sources. normalize_mom divides MoM and targets by the deviation of the
        MoM. zero_refs is that of `pit` and touches the supervised share. ConfigError for values
        that do not fit the model.
        """
        super().__init__(model, loss)
        if n_mix < 2 or n_mix**self.n_src > assign.MAX_MIXIT:
            raise ConfigError(
                f"objective.n_mix: found {n_mix} with {self.n_src} outputs, {n_mix**self.n_src} assignments; "
                f"expected at least 2 mixtures and at most {assign.MAX_MIXIT} assignments, lower model.n_src"
            )
        _check_share("supervised_fraction", supervised_fraction)
        _check_share("p0", p0)
        _check_share("single_source_prob", single_source_prob)
        self.n_mix = n_mix
        self.supervised_fraction = supervised_fraction
        self.p0 = p0
        self.single_source_prob = single_source_prob
        self.normalize_mom = normalize_mom
        self.zero_refs = zero_refs
        if supervised_fraction > 0 or single_source_prob > 0:
            self.needs = frozenset({"mix", "sources"})

    def check(self, batch_size: int) -> None:
        """Raise ConfigError unless batch_size is a multiple of n_mix with a MoM for the supervised share."""
        super().check(batch_size)
        if batch_size % self.n_mix:
            raise ConfigError(
                f"train.batch_size: found {batch_size}; expected a multiple of objective.n_mix {self.n_mix}"
            )
        n_mom = batch_size // self.n_mix
        if self.supervised_fraction > 0 and not self._n_supervised(n_mom):
            raise ConfigError(
                f"objective.supervised_fraction: {self.supervised_fraction} of {n_mom} MoMs is none; "
                "raise it or train.batch_size"
            )

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean loss in dB over the MoMs of a batch, in one term per kind of MoM."""
        mixtures, refs = self._moms(batch)  # (M, P, T), (M, P K, T)
        n_sup = self._n_supervised(len(mixtures)) if self.supervised_fraction > 0 else 0
        mom = mixtures.sum(1)
        est = self.student(mom)
        # A silent MoM teaches nothing.
        sounding = (ratios.energy(mom) > 0).to(torch.float32)
        terms: dict[str, Tensor] = {}
        self.step_logs = {}
        if n_sup < len(mom):
            dealt = deal(self.loss, est[n_sup:], mixtures[n_sup:], mom[n_sup:])
            terms["mixit"] = (dealt.loss * sounding[n_sup:]).sum() / sounding.sum().clamp_min(1)
            self.step_logs["snr_db"] = mean_active(dealt.pair_db, dealt.active)
        if n_sup and refs is not None:
            known = _sounding_first(refs[:n_sup], self.n_src)
            found = match(self.loss, est[:n_sup], known, mom[:n_sup], self.zero_refs)
            terms["supervised"] = (found.loss * sounding[:n_sup]).sum() / sounding.sum().clamp_min(1)
            self.step_logs["supervised_snr_db"] = mean_active(found.pair_db, found.active)
        return terms

    def _n_supervised(self, n_mom: int) -> int:
        return round(self.supervised_fraction * n_mom)

    def _moms(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return the mixtures (M, P, T) of each MoM and its references (M, P K, T), all draws made."""
        mix, sources = batch.mix, batch.sources if "sources" in self.needs else None
        if "sources" in self.needs and sources is None:
            raise BadInput(
                "objective mixit: the batch has no references; use a manifest that lists sources, or set "
                "objective.supervised_fraction and objective.single_source_prob to 0"
            )
        n_mom, length = len(mix) // self.n_mix, mix.shape[-1]
        if not n_mom:
            raise BadInput(f"objective mixit: a batch of {len(mix)} mixtures; expected at least {self.n_mix}")
        if sources is not None and self.single_source_prob > 0:
            mix, sources = self._single_sources(mix, sources)
        used = n_mom * self.n_mix
        # The first M mixtures meet the next M, and so on; the batch is shuffled already.
        mixtures = mix[:used].reshape(self.n_mix, n_mom, length).transpose(0, 1)
        refs = None
        if sources is not None:
            refs = sources[:used].reshape(self.n_mix, n_mom, -1, length).transpose(0, 1)  # (M, P, K, T)
        if self.p0 > 0 and refs is not None:
            kept = self._kept(n_mom).to(mix.device, mix.dtype)
            mixtures, refs = mixtures * kept[..., None], refs * kept[..., None, None]
        if self.normalize_mom:
            deviation = mixtures.sum(1).std(-1)
            scale = torch.where(deviation > 0, 1 / deviation.clamp_min(1e-8), 1.0)
            mixtures = mixtures * scale[:, None, None]
            refs = None if refs is None else refs * scale[:, None, None, None]
        return mixtures, None if refs is None else refs.flatten(1, 2)

    def _kept(self, n_mom: int) -> Tensor:
        """Return 0 for the mixtures (M, P) that supervised MoMs lose, else 1."""
        drawn = torch.rand(n_mom, generator=self.rng) < self.p0
        which = torch.randint(self.n_mix, (n_mom,), generator=self.rng)
        supervised = torch.arange(n_mom) < self._n_supervised(n_mom)
        lost = torch.nn.functional.one_hot(which, self.n_mix).bool() & (drawn & supervised)[:, None]
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


def _check_share(key: str, value: float) -> None:
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
