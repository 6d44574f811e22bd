"""Permutation-invariant training: references in whatever order fits the estimates best.

    L = mean_b min_pi 1/K sum_k l(s_k, e_pi(k))                      (Kolbaek et al. 2017)

The search reads a table of inner products; only the chosen pairs are evaluated on waveforms, with
gradient. The minimum has the gradient of its argument, so nothing is lost, and no tensor of all pairs
over time is made.

Where a loss adds up over L frames, the best order can be sought anew in each, as PIT was before uPIT (Yu et al. 2017),
    L = mean_b 1/L sum_l min_pi_l 1/K sum_k l(s_kl, e_pi_l(k)l)
which separates more of every frame and traces no source: `usep evaluate --assign frame` tells what it could reach.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from usepcli.data.batch import Batch
from usepcli.dsp import assign, ratios
from usepcli.dsp.parts import Parts
from usepcli.errors import BadInput, ConfigError, choices
from usepcli.losses.base import Loss, Views, products
from usepcli.models.queried import Model
from usepcli.models.separator import SeparationModel
from usepcli.objectives.base import Objective

# Files of 16 bits leave this much and less: rounding, which no network could or should separate.
RESIDUAL_DB = -60.0


class Matched(NamedTuple):
    """Outcome of a permutation search: chosen (B, K) holds the estimate of each reference."""

    loss: Tensor  # (B,)
    chosen: Tensor  # (B, K)
    pair_db: Tensor  # (B, K) loss of each chosen pair
    active: Tensor  # (B, K) where the reference sounds
    snr_db: Tensor  # (B, K) SNR of each chosen pair in dB, detached, at most 120


def match(
    loss: Loss,
    est: Tensor,
    ref: Tensor,
    mix: Tensor,
    zero_refs: str = "match",
    zero_weight: float = 1.0,
    search: Loss | None = None,
) -> Matched:
    """Return the best permutation of est (B, N, T) for ref (B, K, T) and its loss (B,) with gradient.

    zero_refs "match" counts silent references, and outputs without any, with the zero-reference
    loss against mix (B, T), times zero_weight; "ignore" leaves both out of the mean. search: another loss that the
    permutation is to minimise. ValueError for K > N.
    """
    n_ref, n_est = ref.shape[1], est.shape[1]
    if n_ref > n_est:
        raise ValueError(f"{n_ref} references for {n_est} estimates; expected at least as many estimates")
    if zero_refs == "match" and n_ref < n_est:
        ref = torch.nn.functional.pad(ref, (0, 0, 0, n_est - n_ref))
    table = products(est, ref, mix)
    ref_energy, mix_energy = table.ref[..., 0], table.mix
    assert mix_energy is not None
    active = loss.active(ref_energy, mix_energy[..., 0], table.length)
    weight = torch.where(active, 1.0, zero_weight if zero_refs == "match" else 0.0).double()
    cost = (search or loss).from_products(table) * weight[..., None]
    chosen = assign.permutation(cost.masked_fill(weight[..., None] == 0, 0.0))
    kind = torch.promote_types(est.dtype, torch.float32)
    pair_db = _evaluate(loss, est, ref, ref_energy.to(kind), mix_energy[..., 0].to(kind), chosen)
    count = active.shape[1] if zero_refs == "match" else active.sum(-1).clamp_min(1)
    weighted = (pair_db * weight.to(pair_db.dtype)).sum(-1) / count
    error = (table.ref - 2 * table.cross + table.est).gather(-1, chosen[..., None])[..., 0]
    return Matched(weighted, chosen, pair_db, active, snr_db(ref_energy, error))


def _evaluate(loss: Loss, est: Tensor, ref: Tensor, ref_energy: Tensor, mix_energy: Tensor, chosen: Tensor) -> Tensor:
    """Return the loss (B, K) of the chosen pairs on the waveforms, in the order of the references."""
    with torch.autocast(est.device.type, enabled=False):
        if chosen.shape[1] < est.shape[1]:
            return loss.direct(take(est, chosen), ref, ref_energy, mix_energy)
        # Reordering the references instead spares a copy of the estimates and its way back.
        order = assign.invert(chosen)
        in_place = loss.direct(est, take(ref, order), ref_energy.gather(1, order), mix_energy)
        return in_place.gather(1, chosen)


def take(x: Tensor, index: Tensor) -> Tensor:
    """Return rows x[b, index[b, k]] of x (B, N, T) as (B, K, T)."""
    return x[torch.arange(x.shape[0], device=x.device)[:, None], index]


def snr_db(ref_energy: Tensor, error: Tensor) -> Tensor:
    """Return the SNR in dB, at most 120, of references with this energy and error; nan for silent ones."""
    return 10 * torch.log10(ref_energy / torch.maximum(error, 1e-12 * ref_energy))


def mean_snr_db(found: Matched) -> Tensor:
    """Return the mean SNR in dB over sounding references, whatever the loss; nan without any."""
    return found.snr_db[found.active].mean()


def references(batch: Batch, residual: bool) -> Tensor:
    """Return the references (B, K, T) of a batch, with residual (B, K + 1, T) what they leave of the mixture too.

    A residual below RESIDUAL_DB of its mixture is silence. BadInput where the batch has no references.
    """
    if batch.sources is None:
        raise BadInput("the batch has no references; use a manifest that lists sources")
    if not residual:
        return batch.sources
    rest = batch.mix - batch.sources.sum(1)
    sounds = ratios.energy(rest) > 10 ** (RESIDUAL_DB / 10) * ratios.energy(batch.mix)
    return torch.cat([batch.sources, (rest * sounds[:, None])[:, None]], 1)


def seen(loss: Loss, model: SeparationModel, mix: Tensor, ref: Tensor, parts: Parts | None = None) -> Views:
    """Return what a loss compares once the model has separated mix (B, T) into parts, for references ref (B, K, T)."""
    if loss.domain == "wave":
        return Views(model(mix) if parts is None else parts.waves, ref, mix)
    # The network reads the mixture at its own level, and so stand the references beside it.
    level = model.input_level(mix)[1][:, None]
    return loss.views(model.parts(mix) if parts is None else parts, ref / level, mix, model.transform)


def check_spectrum(model: Model, loss: Loss) -> None:
    """Raise ConfigError for a loss in a spectrum that the model has not: here, not at the first step."""
    if loss.domain == "spectrum":
        model.transform(torch.zeros(1, 1, device=next(model.parameters()).device))


def refuse_more(objective: str, n_ref: int, n_out: int) -> None:
    """Raise BadInput for more references than outputs."""
    if n_ref > n_out:
        raise BadInput(
            f"objective {objective}: {n_ref} references for {n_out} outputs; set model.n_src to {n_ref} or more"
        )


def framed(views: Views, frames: int) -> Views:
    """Return views (B, N, F L) of spectra, bins before frames, as those of B L items of one frame, (B L, N, F)."""
    est, ref, mix = (wave.unflatten(-1, (-1, frames)) for wave in views)
    return Views(est.movedim(-1, 1).flatten(0, 1), ref.movedim(-1, 1).flatten(0, 1), mix.mT.flatten(0, 1))


class PIT(Objective):
    """Trains against known references in the best order; fewer references than outputs are allowed."""

    needs = frozenset({"mix", "sources"})
    domains = frozenset({"wave", "spectrum"})

    def __init__(
        self,
        model: SeparationModel,
        loss: Loss,
        zero_refs: Literal["match", "ignore"] = "match",
        zero_weight: float = 1.0,
        residual: bool = False,
        perm_loss: Literal["same", "unthresholded"] = "same",
        permutation: Literal["utterance", "frame"] = "utterance",
    ) -> None:
        """Set how silent references and left-over outputs count: times zero_weight, or not at all.

        residual: what the references leave of the mixture, its noise, is one more reference. perm_loss: the
        permutation minimises the loss itself, or the loss without its soft limits. permutation: one for a whole
        example, or one for every frame, of a loss that adds up over frames.
        """
        super().__init__(model, loss)
        if zero_weight < 0:
            raise ConfigError(f"objective.zero_weight: found {zero_weight}; expected 0 or more")
        if perm_loss not in ("same", "unthresholded"):
            raise ConfigError(f"objective.perm_loss: {choices('search', perm_loss, ('same', 'unthresholded'))}")
        if permutation not in ("utterance", "frame"):
            raise ConfigError(f"objective.permutation: {choices('order', permutation, ('utterance', 'frame'))}")
        if permutation == "frame" and not loss.additive:
            raise ConfigError(
                "objective.permutation: found frame with a loss.name that does not add up over frames; expected "
                "spectral_mse, or permutation: utterance"
            )
        if permutation == "frame" and (zero_refs != "match" or zero_weight != 1):
            raise ConfigError(
                "objective.permutation: found frame with silent references left out or weighed; in single frames every "
                "source is silent now and then: expected zero_refs: match and zero_weight: 1"
            )
        check_spectrum(model, loss)
        self.permutation = permutation
        self.search = loss.unlimited() if perm_loss == "unthresholded" else None
        self.zero_refs = zero_refs
        self.zero_weight = zero_weight
        self.residual = residual

    def holds(self, n_src: int) -> None:
        """Raise BadInput for more references than outputs."""
        refuse_more("pit", n_src + self.residual, self.n_src)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean loss in dB; BadInput without references or with more of them than outputs."""
        ref = references(batch, self.residual)
        refuse_more("pit", ref.shape[1], self.n_src)
        if self.permutation == "frame":
            parts = self.student.parts(batch.mix)
            assert parts.spectrum is not None
            views = framed(seen(self.loss, self.student, batch.mix, ref, parts), parts.spectrum.shape[-1])
        else:
            views = seen(self.loss, self.student, batch.mix, ref)
        est, ref, mix = views
        found = match(self.loss, est, ref, mix, self.zero_refs, self.zero_weight, self.search)
        self.step_logs = {"snr_db": mean_snr_db(found)}
        return {"pit": found.loss.mean()}
