"""Mixture consistency: move estimates so that they add up to the mixture (Wisdom et al. 2019)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from usepcli.dsp import ratios
from usepcli.errors import ConfigError, choices

Consistency = Literal["none", "uniform", "magsq", "learned"]
KINDS = ("none", "uniform", "magsq", "learned")


def project(est: Tensor, mix: Tensor, kind: Consistency = "uniform", weights: Tensor | None = None) -> Tensor:
    """Return est (B, N, T) + w_n (mix - sum_n est), mix (B, T); ConfigError for an unknown kind.

    `uniform` has w_n = 1/N, the orthogonal projection. `magsq` shares the residual by power,
    w_n = (1e-8 + mean_t est_n^2) / sum of the same over n, so that silent outputs stay silent;
    gradients flow through its weights. `learned` takes the network's own `weights` (B, N), which add up to 1.
    """
    if kind == "none":
        return est
    if kind not in KINDS:
        raise ConfigError(f"model.consistency: {choices('mixture consistency', kind, KINDS)}")
    residual = (mix - est.sum(1))[:, None]
    if kind == "uniform":
        return est + residual / est.shape[1]
    if kind == "learned":
        if weights is None:
            raise ValueError("consistency 'learned' without the weights of a network")
        return est + residual * weights[..., None]
    power = est.square().mean(-1, keepdim=True) + 1e-8
    return est + residual * (power / power.sum(1, keepdim=True))


def strongest(est: Tensor, mix: Tensor, count: int) -> Tensor:
    """Return the `count` loudest of est (B, N, T), in their order, adding up to mix (B, T): (B, count, T)."""
    return project(loudest(est, count), mix, "uniform")


def loudest(est: Tensor, count: int) -> Tensor:
    """Return the `count` outputs of each of est (B, N, T) that have the most energy, in their order: (B, count, T)."""
    if count >= est.shape[1]:
        return est
    kept = ratios.energy(est.detach()).topk(count, dim=-1).indices.sort(-1).values
    return est.gather(1, kept[..., None].expand(-1, -1, est.shape[-1]))
