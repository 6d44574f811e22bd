"""Which estimate is meant for which reference when scoring."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from usepcli.dsp import decibels
from usepcli.errors import BadInput
from usepcli.metrics.base import FloatArray


def permutation(est: FloatArray, ref: FloatArray) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Return the estimate (K,) of each reference that maximises the mean SI-SNR.

    est is (N, T), ref is (K, T), N >= K; estimates that are left over are dropped.  Of several channels, (N, C, T) and
    (K, C, T), the energies of all are taken together: one by one, a source panned to one side would be as near to its
    own estimate as to its trace in another.  BadInput where there are fewer estimates than references.
    """
    est = np.nan_to_num(np.asarray(est, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    ref = np.nan_to_num(np.asarray(ref, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    if len(est) < len(ref):
        raise BadInput(f"{len(est)} estimates for {len(ref)} references; expected at least as many estimates")
    est, ref = est.reshape(len(est), -1), ref.reshape(len(ref), -1)
    ref_energy = np.einsum("kt,kt->k", ref, ref)[:, None]
    est_energy = np.einsum("nt,nt->n", est, est)[None, :]
    tiny = np.finfo(np.float64).tiny
    target = (ref @ est.T) ** 2 / np.maximum(ref_energy, tiny)  # (K, N)
    noise = np.maximum(est_energy - target, 0.0)
    # A silent estimate is the worst choice for a sounding reference; a silent reference takes what is left.
    score = np.where(est_energy > 0, decibels.ratio_db(target, noise), -200.0)
    score = np.where(ref_energy > 0, score, 0.0)
    chosen: np.ndarray[Any, np.dtype[np.intp]] = linear_sum_assignment(score, maximize=True)[1]
    return chosen
