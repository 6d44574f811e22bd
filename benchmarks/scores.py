"""Metrics in turns with the libraries that others score with, on noise in the shape of speech: two sources of 4 s.

    python benchmarks/scores.py [--only BSS]

SI-SNR beside fast_bss_eval and torchmetrics, BSS-eval (SDR, SIR and SAR, 512 taps) beside fast_bss_eval and mir_eval,
STOI and PESQ, which usep asks of pystoi and pesq, beside those and torch_stoi. What usep adds to the two, looking for
silence and for what the libraries cannot take, is in its time.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import scipy.signal
import turns

from usepcli.metrics import bss_eval, pesq, stoi
from usepcli.metrics.base import FloatArray, Metric
from usepcli.metrics.signal import SI_SNR

RATE, SECONDS, SOURCES = 8000, 4, 2
Signals = tuple[FloatArray, FloatArray]  # estimates and references, (N, T) each
Scorer = Callable[[FloatArray, FloatArray], object]


def draw(pairs: int) -> list[Signals]:
    """Return pairs of estimates and references at about 10 dB: red noise in bursts of half a second."""
    rng, found = np.random.default_rng(0), []
    for _ in range(pairs):
        noise = rng.standard_normal((SOURCES, RATE * SECONDS))
        loud = (rng.uniform(size=(SOURCES, 2 * SECONDS)) > 0.25).repeat(RATE // 2, 1)
        ref = 0.05 * scipy.signal.lfilter([1.0], [1.0, -0.9], noise) * loud
        found.append((ref + 0.3 * ref.std() * rng.standard_normal(ref.shape), ref))
    return found


def ours(metric: Metric) -> Callable[[], Scorer]:
    return lambda: lambda est, ref: metric(est, ref, rate=RATE)


def our_bss() -> Scorer:
    return lambda est, ref: bss_eval.bss_eval(est, ref)


def mir_eval_bss() -> Scorer:
    import warnings

    from mir_eval import separation

    warnings.filterwarnings("ignore", category=FutureWarning)
    return lambda est, ref: separation.bss_eval_sources(ref, est, compute_permutation=False)


def fast_bss() -> Scorer:
    import fast_bss_eval

    # Without permutations it fails under numpy 2.
    return lambda est, ref: fast_bss_eval.bss_eval_sources(ref, est, compute_permutation=True)


def fast_si_sdr() -> Scorer:
    import fast_bss_eval

    return lambda est, ref: fast_bss_eval.si_sdr(ref, est)


def torchmetrics_si_snr() -> Scorer:
    import torch
    from torchmetrics.functional.audio import scale_invariant_signal_noise_ratio

    return lambda est, ref: scale_invariant_signal_noise_ratio(torch.from_numpy(est), torch.from_numpy(ref))


def pystoi_stoi() -> Scorer:
    from pystoi import stoi as one

    return lambda est, ref: [one(r, e, RATE) for e, r in zip(est, ref, strict=True)]


def torch_stoi_stoi() -> Scorer:
    import torch
    from torch_stoi import NegSTOILoss

    loss = NegSTOILoss(sample_rate=RATE)
    return lambda est, ref: loss(torch.from_numpy(est).float(), torch.from_numpy(ref).float())


def pesq_pesq() -> Scorer:
    from pesq import pesq as one

    return lambda est, ref: [one(RATE, r, e, "nb") for e, r in zip(est, ref, strict=True)]


KINDS: dict[str, tuple[int, dict[str, Callable[[], Scorer]]]] = {
    "SI-SNR": (20, {turns.OURS: ours(SI_SNR), "fast_bss_eval": fast_si_sdr, "torchmetrics": torchmetrics_si_snr}),
    "BSS-eval": (5, {turns.OURS: lambda: our_bss(), "fast_bss_eval": fast_bss, "mir_eval": mir_eval_bss}),
    "STOI": (5, {turns.OURS: ours(stoi.STOI), "pystoi": pystoi_stoi, "torch_stoi": torch_stoi_stoi}),
    "PESQ": (5, {turns.OURS: ours(pesq.PESQ), "pesq": pesq_pesq}),
}  # fmt: skip


def works() -> Iterator[turns.Work]:
    """Yield each kind of score on a few pairs, which are others in every turn: results are kept for a while."""
    for kind, (pairs, contenders) in KINDS.items():
        makers = {who: _maker(make, pairs) for who, make in contenders.items()}
        yield turns.Work("scores", f"{kind}, {pairs} pairs of 2 x {SECONDS} s", makers)


def _maker(make: Callable[[], Scorer], pairs: int) -> Callable[[], Callable[[], None]]:
    def made() -> Callable[[], None]:
        scorer, signals = make(), draw(pairs)
        turn = iter(range(10**6))

        def run() -> None:
            gain = 1 + 1e-3 * next(turn)
            for est, ref in signals:
                scorer(gain * est, gain * ref)

        return run

    return made


def main() -> None:
    """Measure and print; benchmarks/speed.py writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="works whose name holds this")
    asked = parser.parse_args()
    turns.table(work for work in works() if asked.only in work.name)
    print(turns.machine())


if __name__ == "__main__":
    main()
