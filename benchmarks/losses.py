"""Forward and backward time of PIT and MixIT beside peers, as CSV on stdout.

The peers: torchmetrics' permutation search where it is installed, and the textbook
formulations (every pair on waveforms; every assignment on waveforms), which is what most toolkits run.
Compare ratios within a run only.
"""

from __future__ import annotations

import csv
import itertools
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from usepcli.losses.scale_invariant import SISNR
from usepcli.losses.thresholded import SNR
from usepcli.objectives.mixit import deal
from usepcli.objectives.pit import match

BATCH, SAMPLES = 16, 32_000
TAU, EPS = 1e-3, 1e-8


def naive_si_snr(est: Tensor, ref: Tensor) -> Tensor:
    """SI-SNR in dB of broadcast waveforms."""
    scaled = (est * ref).sum(-1, keepdim=True) / (ref.square().sum(-1, keepdim=True) + EPS) * ref
    return 10 * torch.log10(scaled.square().sum(-1) / ((est - scaled).square().sum(-1) + EPS) + EPS)


def naive_pit(est: Tensor, ref: Tensor, mix: Tensor) -> Tensor:
    """PIT on the (B, K, N, T) tensor of all pairs."""
    table = -naive_si_snr(est[:, None], ref[:, :, None])
    n = est.shape[1]
    perms = torch.tensor(list(itertools.permutations(range(n))))
    return table[:, torch.arange(n), perms].mean(-1).min(-1).values.mean()


def our_pit(est: Tensor, ref: Tensor, mix: Tensor) -> Tensor:
    """PIT of usepcli."""
    return match(SISNR(), est, ref, mix).loss.mean()


def naive_mixit(est: Tensor, mixtures: Tensor, mom: Tensor) -> Tensor:
    """MixIT that evaluates every assignment on waveforms."""
    energy = mixtures.square().sum(-1)
    losses = []
    for owner in itertools.product((0.0, 1.0), repeat=est.shape[1]):
        second = torch.tensor(owner)
        remixed = torch.stack([1 - second, second]) @ est
        error = (remixed - mixtures).square().sum(-1)
        losses.append((10 * torch.log10((error + TAU * energy + EPS) / (energy + EPS))).mean(-1))
    return torch.stack(losses).min(0).values.mean()


def our_mixit(est: Tensor, mixtures: Tensor, mom: Tensor) -> Tensor:
    """MixIT of usepcli."""
    return deal(SNR(), est, mixtures, mom).loss.mean()


def torchmetrics_pit(est: Tensor, ref: Tensor, mix: Tensor) -> Tensor:
    """PIT of torchmetrics; ImportError where it is not installed."""
    from torchmetrics.functional.audio import (
        permutation_invariant_training,
        scale_invariant_signal_noise_ratio,
    )

    return -permutation_invariant_training(est, ref, scale_invariant_signal_noise_ratio)[0].mean()


def milliseconds(run: Callable[[Tensor, Tensor, Tensor], Tensor], *signals: Tensor, repeats: int = 5) -> float:
    """Median processor time in ms of one forward and backward pass after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        est = signals[0].clone().requires_grad_()
        start = time.thread_time()
        run(est, *signals[1:]).backward()
        times.append(1e3 * (time.thread_time() - start))
    return sorted(times[1:])[repeats // 2]


def main() -> None:
    """Measure and write the table to stdout."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    table = csv.writer(sys.stdout)
    table.writerow(["objective", "outputs", "peer", "usep_ms", "peer_ms", "ratio"])
    for n in (2, 3, 4, 6, 8):
        ref = torch.randn(BATCH, n, SAMPLES)
        est = ref.flip(1) + 0.3 * torch.randn_like(ref)
        mix = ref.sum(1)
        ours = milliseconds(our_pit, est, ref, mix)
        peers = {"torchmetrics": torchmetrics_pit} | ({"all pairs": naive_pit} if n <= 6 else {})
        for name, peer in peers.items():
            try:
                theirs = milliseconds(peer, est, ref, mix)
            except ImportError:
                continue
            table.writerow(["pit", n, name, f"{ours:.2f}", f"{theirs:.2f}", f"{ours / theirs:.3f}"])
    for n in (4, 6, 8):
        est = torch.randn(BATCH, n, SAMPLES)
        mixtures = torch.stack([est[:, ::2].sum(1), est[:, 1::2].sum(1)], 1)
        est = est + 0.3 * torch.randn_like(est)
        ours = milliseconds(our_mixit, est, mixtures, mixtures.sum(1))
        theirs = milliseconds(naive_mixit, est, mixtures, mixtures.sum(1), repeats=1 if n > 6 else 3)
        table.writerow(["mixit", n, "all assignments", f"{ours:.2f}", f"{theirs:.2f}", f"{ours / theirs:.4f}"])


if __name__ == "__main__":
    main()
