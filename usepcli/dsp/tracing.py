"""Outputs of a separator put together anew from frame to frame: what it would reach if no source were lost track of.

Frame l has `size` samples from l hop on, under a Hann window w. For outputs e_n and references s_k,
    c_l(k, n) = sum_t w(t)^2 (s_k(l hop + t) - e_n(l hop + t))^2          pi_l = argmin_pi sum_k c_l(k, pi(k))
    z_k(t)    = sum_l v_l(t) e_{pi_l(k)}(t)          v_l(t) = w(t - l hop)^2 / sum_m w(t - m hop)^2
By Parseval c_l is the squared error of the spectra of one frame, and z_k the inverse STFT of the frames so assigned.
Of a masked spectrum M Y it is |M Y - S|^2 = (M |Y| - |S| cos t)^2 + |S|^2 sin^2 t with the angle t between Y and S: the
optimal assignment of Kolbaek et al. 2017 under a phase-sensitive target.
"""

from __future__ import annotations

from typing import Any

import numpy as np

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

# How much outputs are held to one common gain, of their own energies: near-equal ones do not decide their levels.
RIDGE = 0.01


def levels(est: FloatArray, mix: FloatArray) -> FloatArray:
    """Return the gain (N,) of each output est (N, C, T) with which they add up to the mixture (C, T).

    A loss that is blind to scale leaves level and sign open, and pieces of two outputs then do not fit together. With
    their common gain g0 = <x, sum e> / |sum e|^2, the gains minimise |x - sum g_n e_n|^2 + RIDGE sum |e_n|^2
    (g_n - g0)^2: 1 for outputs that add up already.
    """
    flat = np.nan_to_num(est.reshape(len(est), -1), nan=0.0, posinf=0.0, neginf=0.0)
    gram, cross = flat @ flat.T, flat @ np.nan_to_num(mix.reshape(-1))
    power = gram.diagonal()
    whole = gram.sum()
    common = cross.sum() / whole if whole > RIDGE * power.sum() else 0.0
    held = RIDGE * power
    least = np.where(power > 0, held, 1.0)  # a silent output has any gain
    return np.asarray(np.linalg.solve(gram + np.diag(least), cross + held * common))


def traced(est: FloatArray, ref: FloatArray, size: int, hop: int) -> FloatArray:
    """Return outputs (N, C, T) assigned to references (K, C, T) frame by frame, as estimates (K, C, T).

    size, hop: of the frames in samples. Channels are assigned together; of equal assignments that which comes first in
    lexicographic order is taken. ValueError for K > N.
    """
    import torch

    from usepcli.dsp.assign import permutation

    window = np.square(np.hanning(size + 1)[:size])  # w^2, periodic
    parts = -(-size // hop)
    window = np.pad(window, (0, parts * hop - size)).reshape(parts, hop)
    cost = np.stack([np.stack([_errors(e, s, window) for e in est], -1) for s in ref], 1)  # (L, K, N)
    chosen = permutation(torch.from_numpy(cost)).numpy()  # (L, K)
    length = ref.shape[-1]
    total = _spread(np.ones(len(chosen)), window, length)
    found = np.zeros_like(ref)
    for k in range(len(ref)):
        for n in np.unique(chosen[:, k]):
            found[k] += _spread(chosen[:, k] == n, window, length) / total * est[n]
    return found


def _errors(est: FloatArray, ref: FloatArray, window: FloatArray) -> FloatArray:
    """Return the squared error of an output (C, T) in every frame (L,), whose squared window comes in parts of a hop.

    The first frame ends with the first hop, so that as many frames cover every sample.
    """
    parts, hop = window.shape
    error = np.square(np.nan_to_num(est) - ref).sum(0)
    hops = -(-len(error) // hop)
    blocks = np.pad(error, ((parts - 1) * hop, (hops + parts - 1) * hop - len(error))).reshape(-1, hop)
    count = hops + parts - 1
    return np.asarray(sum(blocks[j : j + count] @ window[j] for j in range(parts)))


def _spread(frames: Any, window: FloatArray, length: int) -> FloatArray:
    """Return sum_l frames[l] w(t - l hop)^2 over time (T,)."""
    parts, hop = window.shape
    blocks = np.zeros((len(frames) + parts - 1, hop))
    for j in range(parts):
        blocks[j : j + len(frames)] += np.asarray(frames, np.float64)[:, None] * window[j]
    return blocks.reshape(-1)[(parts - 1) * hop :][:length]
