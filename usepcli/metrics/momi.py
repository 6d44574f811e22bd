"""MoMi, the score of a separated sum of mixtures that needs no source, and MSi, the score that it stands for.

The outputs e of a model for the sum x = sum_p x_p of P mixtures are dealt out to the mixtures as well as they can be,
    A = argmin sum_p 10 log10( (||x_p - (A e)_p||^2 + tau ||x_p||^2) / ||x_p||^2 )
over A in {0,1}^(P x N) with one 1 per column and tau = 10^(-snr_max_db / 10), and then
    MoMi = mean_p [ SI-SNR(x_p, (A e)_p) - SI-SNR(x_p, x) ]
(Wisdom et al. 2020). It is high only where no output holds parts of two mixtures. All in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from usepcli.dsp import assign, decibels
from usepcli.metrics.align import permutation
from usepcli.metrics.base import FloatArray

# Dealing to two mixtures costs 2^N sums.
MAX_OUTPUTS = assign.MAX_MIXIT.bit_length() - 1
# Energies below this share of the whole sum's count as none: the rounding of 24 bits lies near it.
_NONE = 1e-14


def deal(est: FloatArray, mixtures: FloatArray, snr_max_db: float = 30.0) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the mixture (N,) that each output of est (N, T) goes to so that mixtures (P, T) come out best.

    Ties go to the first mixture. ValueError for more than MAX_OUTPUTS outputs and two mixtures.
    """
    est, mixtures = np.asarray(est, np.float64), np.asarray(mixtures, np.float64)
    energy = torch.from_numpy(np.einsum("pt,pt->p", mixtures, mixtures))[None, :, None]  # (1, P, 1)
    floor = _NONE * energy.sum().clamp_min(np.finfo(np.float64).tiny)
    tau = 10 ** (-snr_max_db / 10)

    def cost(summed: Tensor, inner: Tensor) -> Tensor:
        error = (energy - 2 * inner + summed).clamp_min(0)
        return 10 * torch.log10((error + tau * energy + floor) / (energy + floor))

    gram, cross = torch.from_numpy(est @ est.T)[None], torch.from_numpy(mixtures @ est.T)[None]
    owner: np.ndarray[Any, np.dtype[np.int64]] = assign.mixit(gram, cross, cost)[0].numpy()
    return owner


def momi(est: FloatArray, mixtures: FloatArray, owner: Sequence[int] | None = None) -> float:
    """Return MoMi in dB of est (N, T) for the sum of mixtures (P, T); nan where no mixture sounds.

    owner: the mixture (N,) that each output was asked for in, where that is known: nothing is dealt out then.

    Silent mixtures stay out of the mean. A mixture that no sounding output goes to counts as not separated, 0 dB:
    its SI-SNR does not exist, and any number in its place would outweigh the others.
    """
    est = np.nan_to_num(np.asarray(est, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    mixtures = np.asarray(mixtures, np.float64)
    dealt = deal(est, mixtures) if owner is None else np.asarray(owner)
    whole = mixtures.sum(0)
    gains = []
    for p, mixture in enumerate(mixtures):
        if not mixture.any():
            continue
        part = est[dealt == p].sum(0)
        found = bool(part.any())
        gains.append(float(decibels.si_snr_db(part, mixture) - decibels.si_snr_db(whole, mixture)) if found else 0.0)
    return float(np.mean(gains)) if gains else float("nan")


def msi(est: FloatArray, sources: FloatArray, whole: FloatArray, ordered: bool = False) -> float:
    """Return the mean SI-SNR improvement in dB of est (N, T) for the sources (K, T) that sound in whole (T,).

    nan where none sounds, and where there are fewer outputs than sounding sources.  ordered: output k is meant for
    source k; else the best permutation counts.
    """
    est, sources = np.asarray(est, np.float64), np.asarray(sources, np.float64)
    sounding = sources.any(1)
    if ordered:
        est = est[sounding] if len(est) == len(sources) else est[:0]
    sources = sources[sounding]
    if not 0 < len(sources) <= len(est):
        return float("nan")
    best = est if ordered else est[permutation(est, sources)]  # (K, T)
    # A silent estimate has no SI-SNR: as for MoMi it counts as not separated.
    best = np.where(best.any(1, keepdims=True), best, whole)
    gains = decibels.si_snr_db(best, sources) - decibels.si_snr_db(np.broadcast_to(whole, sources.shape), sources)
    return float(gains.mean())
