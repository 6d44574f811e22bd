"""The MixIT search: which output of a model belongs to which of the mixtures that were added up.

The search reads inner products. Those of P = 2 mixtures are made in float32 first; where their rounding could decide,
they are made again in float64, so that the outcome is that of a search in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from usepcli.dsp import assign as assignment
from usepcli.dsp import ratios, rounded
from usepcli.losses.base import Loss, Products
from usepcli.objectives.pit import snr_db

# Subsets of the outputs that are summed at once where a search reads waveforms.
_SUMS_AT_ONCE = 32


class Dealt(NamedTuple):
    """Outcome of a MixIT search: owner (B, N) holds the mixture of each output."""

    loss: Tensor  # (B,)
    owner: Tensor  # (B, N)
    pair_db: Tensor  # (B, P) loss of each mixture
    active: Tensor  # (B, P) where the mixture sounds
    snr_db: Tensor  # (B, P) SNR of each mixture in dB, detached, at most 120
    energy: Tensor  # (B, N) of each output, detached


def deal(
    loss: Loss,
    est: Tensor,
    mixtures: Tensor,
    mom: Tensor,
    assign: str = "exact",
    rules: assignment.Rules | None = None,
) -> Dealt:
    """Return the best way to deal est (B, N, T) out to mixtures (B, P, T), and its loss (B,) with gradient.

    The search over all P^N ways, or over those that keep the rules, reads inner products, as does the least-squares
    one (assign: ls); the winner is evaluated on waveforms. Silent mixtures cost the zero-reference loss against
    mom (B, T).
    """
    with torch.autocast(est.device.type, enabled=False):
        est = est if est.dtype == torch.float64 else est.float()
        owner, products, mom_energy = _search(loss, est, mixtures, mom, assign, rules)
        level = None if mom_energy is None else mom_energy.to(est.dtype)
        pair_db = loss.dealt(est, owner, mixtures, products.ref.to(est.dtype), level)
        error, off = products.errors(owner)
        blurred = error < 100 * off
        if bool(blurred.any()):
            direct = assignment.missed(est.detach(), owner, mixtures).double()
            error = torch.where(blurred, direct, error)
    active = loss.active(products.ref, mom_energy, mom.shape[-1])
    return Dealt(pair_db.mean(-1), owner, pair_db, active, snr_db(products.ref, error), products.est)


class _Products(NamedTuple):
    """Energies and inner products of mixtures and outputs, in float64, and how far off they may be."""

    ref: Tensor  # (B, P)
    est: Tensor  # (B, N)
    gram: Tensor  # (B, N, N)
    cross: Tensor  # (B, P, N)
    rounding: float = 0.0

    def errors(self, owner: Tensor) -> tuple[Tensor, Tensor]:
        """Return the energy (B, P) of what the outputs dealt out by owner (B, N) lack of each mixture.

        And by how much that may be off at most.
        """
        matrix = assignment.dealt_out(owner, self.ref.shape[1]).double()
        lacking = self.ref + (matrix * torch.baddbmm(self.cross, matrix, self.gram, beta=-2)).sum(-1)
        norms = (matrix @ self.est.clamp_min(0).sqrt()[..., None])[..., 0]  # (B, P)
        return lacking, self.rounding * (norms + self.ref.sqrt()).square()


def _products(signals: Sequence[Tensor], narrow: bool) -> _Products:
    """Return the products of mixtures (B, P, T) and outputs (B, N, T)."""
    (ref, est), (gram, cross) = ratios.inner(signals, [(1, 1), (0, 1)], narrow)
    return _Products(ref, est, gram, cross, ratios.rounding(signals) if narrow else 0.0)


@torch.no_grad()
def _search(
    loss: Loss, est: Tensor, mixtures: Tensor, mom: Tensor, assign: str, rules: assignment.Rules | None
) -> tuple[Tensor, _Products, Tensor | None]:
    """Return the mixture (B, N) of each output, the products on which that was found, and the energy (B, 1) of the MoM.

    That is None where no loss depends on it.

    Products are made in float32 first where that is faster; the examples in which rounding could have chosen otherwise
    are taken again in float64. So the outcome is that of float64.
    """
    signals, length = [mixtures, est], mom.shape[-1]
    exact = assign == "exact" and not loss.reads_waves
    narrow = exact and mixtures.shape[1] == 2 and ratios.rounding(signals) > 0
    p = _products(signals, narrow)
    level = ratios.inner([mom[:, None]])[0][0] if loss.reads_mix(p.ref, length) else None
    if assign == "ls":
        return assignment.mixit_ls(p.gram, p.cross, rules), p, level
    if not exact:
        return assignment.split(_costs_on_waves(loss, est, mixtures, mom), rules), p, level

    def cost_of(rows: rounded.Rows) -> rounded.Cost:
        return _cost(loss, p.ref[rows], None if level is None else level[rows], length)

    if not narrow:
        return assignment.mixit(p.gram, p.cross, cost_of(slice(None)), rules), p, level
    owner, sure = rounded.mixit(p.gram, p.cross, p.ref, cost_of, p.rounding, rules)
    if not bool(sure.all()):
        rows = ~sure if bool(sure.any()) else slice(None)
        q = _products([x[rows] for x in signals], narrow=False)
        for whole, part in zip(p[:4], q[:4], strict=True):
            whole[rows] = part
        owner[rows] = assignment.mixit(q.gram, q.cross, cost_of(rows), rules)
    return owner, p, level


def _cost(loss: Loss, ref_energy: Tensor, mom_energy: Tensor | None, length: int) -> rounded.Cost:
    """Return what maps the energy of sums of outputs, and their products with the mixtures, to the loss."""

    ref, mix = ref_energy[..., None], None if mom_energy is None else mom_energy[..., None]

    def cost(energy: Tensor, inner: Tensor) -> Tensor:
        return loss.from_products(Products(ref, energy, inner, mix, length))

    return cost


@torch.no_grad()
def _costs_on_waves(loss: Loss, est: Tensor, mixtures: Tensor, mom: Tensor) -> Tensor:
    """Return the loss (B, P, 2^N) of every subset of the outputs for every mixture, one sum after the other."""
    n_est = est.shape[1]
    members = torch.arange(2**n_est, device=est.device)[:, None] >> torch.arange(n_est, device=est.device) & 1
    sums = (part @ est for part in members.to(est.dtype).split(_SUMS_AT_ONCE))
    return torch.cat([loss.pairwise(some, mixtures, mom) for some in sums], -1)
