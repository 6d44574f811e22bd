"""Which estimate belongs to which reference (PIT) or to which mixture (MixIT): exact, or MixIT by least squares."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from usepcli.dsp import ratios

# 4! = 24 permutations are cheaper to try at once than to hand to a solver one example at a time.
MAX_EXHAUSTIVE = 24
MAX_MIXIT = 65_536

# Of the mean energy of the outputs: keeps silent and repeated outputs solvable, and moves no weight by more.
RIDGE = 1e-6

_AT_ONCE = 8  # outputs: a product over all subsets costs N^2 for each of them, a step about as much as N products

_UNUSABLE = 1e9
_FORBIDDEN = 1e12
_log = logging.getLogger(__name__)


@lru_cache(maxsize=64)
def injections(n_ref: int, n_est: int) -> Tensor:
    """Return every choice of n_ref different estimates out of n_est in lexicographic order, (Q, n_ref)."""
    found = list(itertools.permutations(range(n_est), n_ref))
    return torch.tensor(found, dtype=torch.long).reshape(-1, n_ref)


def permutation(cost: Tensor) -> Tensor:
    """Return for each reference the estimate that minimises the summed cost (B, K, N) -> (B, K), N >= K.

    Each estimate serves at most one reference. Equal sums: the first in lexicographic order for small
    N. Non-finite costs count as very large, so that a broken example still gets an assignment.
    """
    n_ref, n_est = cost.shape[-2:]
    if n_ref > n_est:
        raise ValueError(f"{n_ref} references for {n_est} estimates; expected at least as many estimates")
    cost = usable(cost.detach().double())
    count = 1
    for factor in range(n_est - n_ref + 1, n_est + 1):
        count *= factor
    if count <= MAX_EXHAUSTIVE:
        choices = injections(n_ref, n_est).to(cost.device)
        # cost[b, k, choices[q, k]] summed over k, for all q at once.
        rows = torch.arange(n_ref, device=cost.device)
        return choices[cost[:, rows, choices].sum(-1).argmin(-1)]  # (B, Q, K) -> (B, K)
    solved = [linear_sum_assignment(c)[1] for c in cost.cpu().numpy()]
    return torch.from_numpy(np.stack(solved)).to(cost.device)


def usable(cost: Tensor) -> Tensor:
    """Return the costs with a large finite number in place of every non-finite one."""
    bad = ~torch.isfinite(cost)
    if bool(bad.any()):
        _log.warning("%d of %d assignment costs are not finite", int(bad.sum()), cost.numel())
        cost = cost.masked_fill(bad, _UNUSABLE)
    return cost


def invert(chosen: Tensor) -> Tensor:
    """Return for each estimate its reference, given for each reference its estimate: (B, N) -> (B, N)."""
    return chosen.argsort(-1)


def subset_sums(values: Tensor) -> Tensor:
    """Return the sum over every subset, (..., N) -> (..., 2^N).

    Bit n of the index says that n is in the subset. Each output doubles the table, so that all
    sums together cost 2^N additions; of few outputs, one product costs less than N steps do.
    """
    if values.shape[-1] <= _AT_ONCE and values.is_floating_point():
        return values @ _subsets(values.shape[-1]).to(values).T
    table = values.new_zeros((*values.shape[:-1], 1))
    for value in values.unbind(-1):
        table = torch.cat([table, table + value[..., None]], -1)
    return table


def subset_energies(gram: Tensor) -> Tensor:
    """Return a^T G a for every 0/1 vector a, (B, N, N) -> (B, 2^N), indexed as in `subset_sums`."""
    if gram.shape[-1] <= _AT_ONCE:
        a = _subsets(gram.shape[-1]).to(gram)
        return (a @ gram).mul_(a).sum(-1).clamp_min_(0)
    table = gram.new_zeros((gram.shape[0], 1))
    twice = gram.new_zeros((*gram.shape[:-1], 1))  # 2 <e_m, sum_S e> of the outputs m that are still to come
    for n in range(gram.shape[-1]):
        # ||e_n + sum_S e||^2 = ||e_n||^2 + 2 <e_n, sum_S e> + ||sum_S e||^2 for all subsets S of the first n.
        table = torch.cat([table, gram[:, n, n, None] + twice[:, 0] + table], -1)
        twice = twice[:, 1:]
        twice = torch.cat([twice, twice + 2 * gram[:, n + 1 :, n, None]], -1)
    return table.clamp_min(0)


@lru_cache(maxsize=16)
def _subsets(n_est: int) -> Tensor:
    """Return every 0/1 vector a as a row of (2^N, N) float64, indexed as in `subset_sums`."""
    return (torch.arange(2**n_est)[:, None] >> torch.arange(n_est) & 1).double()


@lru_cache(maxsize=16)
def _memberships(n_mix: int, n_est: int) -> tuple[Tensor, Tensor]:
    """Return all P^N assignments (Q, N) and, per mixture, the index of its subset (P, Q)."""
    grid = torch.cartesian_prod(*([torch.arange(n_mix)] * n_est)).reshape(-1, n_est)
    bits = 2 ** torch.arange(n_est)
    return grid, torch.stack([((grid == p) * bits).sum(-1) for p in range(n_mix)])


class Rules(NamedTuple):
    """Which mixtures an output may go to, may (P, N) bool, and how many outputs each mixture gets, 0 for any number."""

    may: Tensor
    each: int = 0

    def possible(self) -> bool:
        """Say whether any assignment keeps the rules."""
        if not self.each:
            return bool(self.may.any(0).all())
        if self.may.shape[1] != self.each * len(self.may):
            return False
        forbidden = (~self.may).repeat_interleave(self.each, 0).double()  # (P each, N)
        best = permutation(forbidden[None])[0]
        return not bool(forbidden.gather(1, best[:, None]).any())

    def subsets(self) -> Tensor:
        """Return (P, 2^N) bool: which subsets of the outputs a mixture may get, indexed as in `subset_sums`."""
        kept = subset_sums((~self.may).long()) == 0
        if self.each:
            kept = kept & (subset_sums(torch.ones_like(self.may[:1], dtype=torch.long)) == self.each)
        return kept


def mixit(
    gram: Tensor, cross: Tensor, pair_cost: Callable[[Tensor, Tensor], Tensor], rules: Rules | None = None
) -> Tensor:
    """Return the mixture (B, N) of each output that minimises the summed cost over all P^N assignments.

    gram (B, N, N) holds <e_n, e_m>, cross (B, P, N) holds <x_p, e_n>, both float64.
    pair_cost(est, cross) maps the energy (B, 1, S) of a sum of outputs and its inner product (B, P, S)
    with each mixture to costs (B, P, S). A mixture's cost depends only on its own subset of the
    outputs, so 2^N subsets are costed and P^N sums of P table entries are compared: the number of
    samples plays no part (Wisdom et al. 2020, equation 3, evaluated in the Gram matrix).
    """
    _limit(*cross.shape[-2:])
    return split(pair_cost(subset_energies(gram)[:, None], subset_sums(cross)), rules)


def split(costs: Tensor, rules: Rules | None = None) -> Tensor:
    """Return the mixture (B, N) of each output from the costs (B, P, 2^N) of every subset in every mixture."""
    n_mix, n_est = costs.shape[1], costs.shape[2].bit_length() - 1
    _limit(n_mix, n_est)
    costs = usable(costs)
    if rules is not None:
        # Both rules speak of one subset in one mixture, so they need no word about whole assignments.
        costs = costs.masked_fill(~rules.subsets().to(costs.device), torch.inf)
    if n_mix == 2:
        # The second mixture gets a subset, the first its complement; complements count down as subsets count up.
        best = (costs[:, 0].flip(-1) + costs[:, 1]).argmin(-1)
        return best[:, None] >> torch.arange(n_est, device=best.device) & 1
    grid, index = (t.to(costs.device) for t in _memberships(n_mix, n_est))
    total = sum(costs[:, p, index[p]] for p in range(n_mix))
    assert isinstance(total, Tensor)
    return grid[total.argmin(-1)]


def _limit(n_mix: int, n_est: int) -> None:
    if n_mix**n_est > MAX_MIXIT:
        raise ValueError(f"{n_mix}^{n_est} assignments; expected at most {MAX_MIXIT}")


class _Remix(torch.autograd.Function):
    """The sums of the outputs of each mixture; backward, every output takes the gradient of its mixture, unsummed."""

    @staticmethod
    def forward(ctx: Any, est: Tensor, owner: Tensor, n_mix: int) -> Tensor:
        ctx.save_for_backward(owner)
        return dealt_out(owner, n_mix).to(est.dtype) @ est

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (owner,) = ctx.saved_tensors
        n_mix = grads[0].shape[1]
        rows = owner + n_mix * torch.arange(len(owner), device=owner.device)[:, None]
        return grads[0].flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, owner.shape), None, None


def remix(est: Tensor, owner: Tensor, n_mix: int) -> Tensor:
    """Return the sums (B, P, T) of the outputs est (B, N, T) that owner (B, N) gives to each of n_mix mixtures."""
    out: Tensor = _Remix.apply(est, owner, n_mix)
    return out


def dealt_out(owner: Tensor, n_mix: int) -> Tensor:
    """Return A (B, P, N) bool of which every column is true where owner (B, N) says."""
    return owner[:, None] == torch.arange(n_mix, device=owner.device)[:, None]


class _Missed(torch.autograd.Function):
    """||(A e)_p - x_p||^2 with its gradient 2 A^T (A e - x): nothing but that difference is kept, or made twice."""

    @staticmethod
    def forward(ctx: Any, est: Tensor, owner: Tensor, mixtures: Tensor) -> Tensor:
        matrix = dealt_out(owner, mixtures.shape[1]).to(est.dtype)
        difference = torch.baddbmm(mixtures, matrix, est, beta=-1)
        ctx.save_for_backward(matrix, difference)
        return ratios.energy(difference)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        matrix, difference = ctx.saved_tensors
        return (matrix * (2 * grads[0][..., None])).mT @ difference, None, None


def missed(est: Tensor, owner: Tensor, mixtures: Tensor) -> Tensor:
    """Return the energy (B, P) of what the outputs est (B, N, T), dealt by owner (B, N), lack of mixtures (B, P, T).

    As of `remix` and then of a residual, with gradient in est alone, in less memory and time.
    """
    if est.dtype != torch.float64 or mixtures.dtype != torch.float64:
        est, mixtures = est.float(), mixtures.float()
    out: Tensor = _Missed.apply(est, owner, mixtures)
    return out


def mixit_ls(gram: Tensor, cross: Tensor, rules: Rules | None = None) -> Tensor:
    """Return the mixture (B, N) of each output by least squares, at a cost that does not grow as P^N.

    gram (B, N, N) and cross (B, P, N) are those of `mixit`. The weights W = argmin ||X - W E||^2 solve
    (G + RIDGE mean(diag G) I) W^T = C^T, and the nearest 0/1 matrix that keeps the rules is taken: without
    rules, each output goes to the mixture of its largest weight, the first among equals (Wisdom et al. 2021).
    """
    gram, cross = gram.double(), cross.double()
    ridge = RIDGE * gram.diagonal(dim1=-2, dim2=-1).mean(-1)
    ridge = torch.where(ridge > 0, ridge, 1.0)  # where all outputs are silent, any weights do
    factor, _ = torch.linalg.cholesky_ex(gram + torch.diag_embed(ridge[:, None].expand_as(gram[..., 0])))
    weights = torch.cholesky_solve(cross.mT, factor).mT  # (B, P, N)
    # ||W - A||^2 = ||W||^2 - 2 <W, A> + N for every 0/1 matrix A with one 1 per column.
    cost = usable(-weights)
    if rules is None:
        return cost.argmin(1)
    cost = cost.masked_fill(~rules.may.to(cost.device), _FORBIDDEN)
    if not rules.each:
        return cost.argmin(1)
    slots = permutation(cost.repeat_interleave(rules.each, 1))  # (B, P each)
    return invert(slots) // rules.each
