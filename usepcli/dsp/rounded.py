"""The MixIT search of two mixtures in rounded inner products, and where rounding cannot have decided it.

Products of a and b are known to kappa ||a|| ||b||. Every sum of outputs has a norm of at most the sum r of all of
theirs, so the energy of any sum is known to kappa r^2, and its product with a mixture x to kappa r ||x||. Two ways to
deal are told apart where the difference of their costs is beyond what that could have made of it. In first order:
errors of products between outputs that both ways leave where they are belong to both, and act only as far as the two
costs differ in what they make of them. So an output that is next to silent, which costs next to nothing anywhere,
still finds its mixture.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from usepcli.dsp import assign

# 10 log10(1 + x) is 4.34 x to a twentieth up to there: beyond, errors come near to what is left of a mixture.
_FIRST_ORDER_DB = 0.5

Cost = Callable[[Tensor, Tensor], Tensor]
Rows = Tensor | slice  # a choice of examples


def mixit(
    gram: Tensor,
    cross: Tensor,
    ref_energy: Tensor,
    cost_of: Callable[[Rows], Cost],
    rounding: float,
    rules: assign.Rules | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the owners as `assign.mixit` does, of two mixtures, and the examples (B,) in which that is sure.

    gram, cross and the energies ref_energy (B, 2) of the mixtures may be off by `rounding` times the norms of the two
    signals of each product. All are float64. The cost that cost_of gives for some examples is in dB, and monotone in
    each of its arguments.
    """
    pair_cost = cost_of(slice(None))
    norms = gram.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
    energy = assign.subset_energies(gram)[:, None]  # (B, 1, S)
    sums = assign.subset_sums(torch.cat([cross, norms[:, None]], 1))
    inner, reach = sums[:, :-1], sums[:, -1]  # (B, 2, S), (B, S)
    most = reach[:, -1:]
    off = (
        rounding * (most.square() + ref_energy).amax(-1)[:, None, None],
        rounding * (most * ref_energy.sqrt())[..., None],
    )
    tables = pair_cost(torch.cat([energy, energy + off[0], energy], -1), torch.cat([inner, inner, inner - off[1]], -1))
    costs, *others = tables.chunk(3, -1)
    owner = assign.split(costs, rules)
    best = (owner << torch.arange(owner.shape[1], device=owner.device)).sum(-1, keepdim=True)  # (B, 1)
    index = torch.arange(reach.shape[1], device=owner.device)[None]
    total = _complements_first(costs).sum(1)
    lead = total - total.gather(-1, best)
    if rules is not None:
        kept = _complements_first(rules.subsets().to(lead.device)[None]).all(1)
        lead = lead.masked_fill(~kept, torch.inf)
    # Of what products of moved outputs may be off: (a + f)^2 - a^2 <= 2 f (a + f).
    moved = reach.gather(-1, index ^ best) / most.clamp_min(torch.finfo(most.dtype).tiny)
    slack = (others[0] - costs).abs() + (others[1] - costs).abs()
    clear = (lead > _first_order(slack, best, (2 * moved).clamp_max(1))) | (index == best)
    rows = ~clear.all(-1)
    if bool(rows.any()):
        errors = off[0][rows], off[1][rows]
        clear[rows] |= _apart(energy[rows], inner[rows], errors, cost_of(rows), best[rows]) | (lead[rows] == torch.inf)
    return owner, clear.all(-1)


def _first_order(slack: Tensor, best: Tensor, moved: Tensor) -> Tensor:
    """Return by how much (B, S) the lead of the best way over each may be off, infinite where errors are large.

    slack (B, 2, S) is what the largest error there can be makes of each cost, moved (B, S) the share of it that is not
    common to a way and the best one.
    """
    blurred = (slack > _FIRST_ORDER_DB).any(1).any(-1, keepdim=True)
    slack = _complements_first(slack)
    common = (slack - _at(slack, best)).abs()
    return (slack * moved[:, None] + common).sum(1).masked_fill(blurred, torch.inf)


def _apart(energy: Tensor, inner: Tensor, off: tuple[Tensor, Tensor], pair_cost: Cost, best: Tensor) -> Tensor:
    """Say which ways (B, S) cost more than the best one whatever part of the largest errors all products have."""
    # What both errors together make of a monotone cost lies between what twice the one and twice the other make of it.
    ends = [pair_cost((energy + 2 * sign * off[0]).clamp_min(0), inner) for sign in (-1, 1)] + [
        pair_cost(energy, inner + 2 * sign * off[1]) for sign in (-1, 1)
    ]
    ends_of = torch.stack([_complements_first(end) for end in ends])  # (4, B, 2, S)
    low, high = ends_of.amin(0), ends_of.amax(0)
    return low.sum(1) > _at(high, best).sum(1)


def _at(table: Tensor, best: Tensor) -> Tensor:
    """Return the column (B, 2, 1) of a table (B, 2, S)."""
    return table.gather(-1, best[:, None].expand(-1, table.shape[1], -1))


def _complements_first(table: Tensor) -> Tensor:
    """Return (B, 2, S) with that of the complement of each subset for the first mixture."""
    return torch.stack([table[:, 0].flip(-1), table[:, 1]], 1)
