"""Terms that keep a model with spare outputs from cutting one source into several.

With r_n = sqrt(max(||e_n||^2 / T, 1e-8)) for outputs e_n of a mixture of deviation 1,
    L1/L2:       Ls = (1/N) sum_n r_n / sqrt(sum_n r_n^2)            between 1/N and 1/sqrt(N)
    L1:          Ls = (1/N) sum_n r_n
(Wisdom et al. 2021, sparse, efficient and semantic MixIT). L1/L2 does not change with the level, L1 does. Ours is
    covariance:  Lc = 1/(N (N-1)) sum_{n != m} |<e_n, e_m>| / (T r_n r_m)   between 0 and 1
which falls on outputs that are alike. The floor of r_n, 80 dB below the mixture, ends the pull on silent outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from usepcli.dsp import ratios

KINDS = ("none", "l1_l2", "l1")
_FLOOR = 1e-8
_EPS = 1e-8


def levels(est: Tensor, deviation: Tensor) -> Tensor:
    """Return r_n (B, N) of outputs est (B, N, T), relative to the deviation (B,) of their mixture."""
    power = ratios.energy(est) / est.shape[-1] / deviation.square()[:, None]
    return power.clamp_min(_FLOOR).sqrt()


def sparsity(level: Tensor, kind: str) -> Tensor:
    """Return Ls (B,) of the levels (B, N) of all outputs, with gradient; kind is l1_l2 or l1."""
    n_est = level.shape[-1]
    if kind == "l1":
        return level.mean(-1)
    return level.sum(-1) / (level.square().sum(-1).sqrt() + _EPS / n_est) / n_est


def covariance(est: Tensor, deviation: Tensor) -> Tensor:
    """Return Lc (B,) of outputs est (B, N, T) of a mixture with this deviation (B,), with gradient; 0 for N = 1."""
    n_est, length = est.shape[1:]
    unit = est / (deviation[:, None] * levels(est, deviation))[..., None]
    alike = (unit @ unit.mT).abs() / length  # (B, N, N)
    others = alike.sum((-2, -1)) - alike.diagonal(dim1=-2, dim2=-1).sum(-1)
    return others / max(1, n_est * (n_est - 1))


def deviation(mix: Tensor) -> Tensor:
    """Return the standard deviation of mixtures (..., T) as (...), 1 where they are constant."""
    spread = mix.std(-1)
    return torch.where(spread > 0, spread.clamp_min(1e-8), 1.0)
