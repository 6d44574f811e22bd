"""Forward and backward time of PIT and MixIT, in turns with peers and with the least that each can take.

    python benchmarks/losses.py [--turns 40] [--memory]

The peers are asteroid, torchmetrics and SpeechBrain, where they are installed, the textbook formulation (every
assignment on waveforms) and, for MixIT, the least-squares one of Self-Remixing's code, which is not exact. The bound is
a search on float32 inner products over the whole length, which errs at high ratios, then one evaluation of the winner.
--memory adds the most that tensors take beyond those given: forward, and with the backward pass.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
import turns
from torch import Tensor

from usepcli import device
from usepcli.dsp import assign, ratios
from usepcli.losses.base import Products
from usepcli.losses.scale_invariant import SISNR
from usepcli.losses.thresholded import SNR
from usepcli.objectives.dealing import deal
from usepcli.objectives.pit import match

BATCH, SAMPLES = 16, 32_000
TAU, EPS = 1e-3, 1e-8
Objective = Callable[[Tensor, Tensor, Tensor], Tensor]


def our_pit(est: Tensor, ref: Tensor, mix: Tensor) -> Tensor:
    """PIT of usepcli."""
    return match(SISNR(), est, ref, mix).loss.mean()


def bound_pit(est: Tensor, ref: Tensor, mix: Tensor) -> Tensor:
    """PIT that chooses by float32 inner products."""
    del mix
    with torch.no_grad():
        cross, energy = ref @ est.mT, ratios.energy(ref)
        found = Products(energy[..., None], ratios.energy(est)[:, None], cross, None, SAMPLES)
        chosen = assign.permutation(SISNR().from_products(found))
    taken = est.gather(1, chosen[..., None].expand(-1, -1, SAMPLES))
    return SISNR().direct(taken, ref, energy, None).mean()


def asteroid_pit() -> Objective:
    from asteroid.losses import PITLossWrapper, pairwise_neg_sisdr

    wrapper = PITLossWrapper(pairwise_neg_sisdr, pit_from="pw_mtx")
    return lambda est, ref, mix: wrapper(est, ref)


def torchmetrics_pit() -> Objective:
    from torchmetrics.functional import audio

    loss, ratio = audio.permutation_invariant_training, audio.scale_invariant_signal_noise_ratio
    return lambda est, ref, mix: -loss(est, ref, ratio)[0].mean()


def speechbrain_pit() -> Objective:
    from speechbrain.nnet.losses import get_si_snr_with_pitwrapper

    return lambda est, ref, mix: get_si_snr_with_pitwrapper(ref.mT, est.mT).mean()


def our_mixit(est: Tensor, mixtures: Tensor, mom: Tensor) -> Tensor:
    """MixIT of usepcli."""
    return deal(SNR(), est, mixtures, mom).loss.mean()


def bound_mixit(est: Tensor, mixtures: Tensor, mom: Tensor) -> Tensor:
    """MixIT that searches in a float32 Gram matrix."""
    loss = SNR()
    ref_energy, mom_energy = ratios.energy(mixtures), ratios.energy(mom)[:, None]
    with torch.no_grad():

        def cost(energy: Tensor, inner: Tensor) -> Tensor:
            return loss.from_products(Products(ref_energy[..., None], energy, inner, mom_energy[..., None], SAMPLES))

        owner = assign.mixit(est @ est.mT, mixtures @ est.mT, cost)
        matrix = (owner[:, None] == torch.arange(2)[:, None]).to(est.dtype)
    return loss.direct(matrix @ est, mixtures, ref_energy, mom_energy).mean()


def thresholded(est: Tensor, ref: Tensor) -> Tensor:
    """Negative SNR with its soft limit, on waveforms, as toolkits write it."""
    energy = ref.square().sum(-1)
    return 10 * torch.log10(((est - ref).square().sum(-1) + TAU * energy + EPS) / (energy + EPS))


def least_squares(est: Tensor, mixtures: Tensor, mom: Tensor) -> Tensor:
    """MixIT that gives every output to the mixture of its largest least-squares weight."""
    del mom
    with torch.no_grad():
        weights = torch.linalg.lstsq(est.mT, mixtures.mT).solution.mT
        matrix = (weights.argmax(1)[:, None] == torch.arange(2)[:, None]).to(est.dtype)
    return thresholded(matrix @ est, mixtures).mean()


def every_assignment(est: Tensor, mixtures: Tensor, mom: Tensor) -> Tensor:
    """MixIT that evaluates every assignment on waveforms."""
    del mom
    losses = []
    for owner in itertools.product((0.0, 1.0), repeat=est.shape[1]):
        second = torch.tensor(owner)
        losses.append(thresholded(torch.stack([1 - second, second]) @ est, mixtures).mean(-1))
    return torch.stack(losses).min(0).values.mean()


def asteroid_mixit() -> Objective:
    from asteroid.losses import MixITLossWrapper

    wrapper = MixITLossWrapper(lambda est, ref: thresholded(est, ref).mean(-1))
    return lambda est, mixtures, mom: wrapper(est, mixtures)


PIT: dict[str, Callable[[], Objective]] = {
    turns.OURS: lambda: our_pit, turns.BOUND: lambda: bound_pit, "asteroid": asteroid_pit,
    "torchmetrics": torchmetrics_pit, "SpeechBrain": speechbrain_pit,
}  # fmt: skip
MIXIT: dict[str, Callable[[], Objective]] = {
    turns.OURS: lambda: our_mixit, turns.BOUND: lambda: bound_mixit, "least squares": lambda: least_squares,
    "asteroid": asteroid_mixit, "every assignment": lambda: every_assignment,
}  # fmt: skip


def pit_signals(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return estimates, references and mixtures at 10 dB."""
    ref = torch.randn(BATCH, n, SAMPLES)
    return ref.flip(1) + 0.3 * torch.randn_like(ref), ref, ref.sum(1)


def mixit_signals(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs at 10 dB, the two mixtures of which they are made, and their sum."""
    clean = torch.randn(BATCH, n, SAMPLES)
    mixtures = torch.stack([clean[:, ::2].sum(1), clean[:, 1::2].sum(1)], 1)
    return clean + 0.3 * torch.randn_like(clean), mixtures, mixtures.sum(1)


def passes(objective: Objective, est: Tensor, *others: Tensor) -> None:
    """Take one forward and one backward pass."""
    objective(est.detach().requires_grad_(), *others).backward()


def works() -> Iterator[turns.Work]:
    """Yield PIT and MixIT at each number of outputs."""
    kinds: tuple[tuple[str, Any, Any, tuple[int, ...]], ...] = (
        ("PIT", PIT, pit_signals, (2, 3, 4, 6, 8)),
        ("MixIT", MIXIT, mixit_signals, (4, 6, 8)),
    )
    for kind, contenders, draw, sizes in kinds:
        for n in sizes:
            torch.manual_seed(0)
            signals = draw(n)
            able = {who: make for who, make in contenders.items() if (who, n) != ("SpeechBrain", 8)}  # 8 s a pass
            makers = {who: _maker(make, signals) for who, make in able.items()}
            yield turns.Work("losses", f"{kind}, {n} outputs, batch 16 x 4 s", makers, turns=40)


def _maker(make: Callable[[], Objective], signals: tuple[Tensor, ...]) -> Callable[[], Callable[[], None]]:
    def made() -> Callable[[], None]:
        objective = make()
        return lambda: passes(objective, *signals)

    return made


def peak_mib(run: Callable[[], object]) -> float:
    """Return the most MiB of tensors that were alive at once during a run, beyond those alive before."""
    run()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]  # type: ignore[union-attr]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(itertools.accumulate(sizes, initial=0)) / 2**20


def memory() -> None:
    """Print what MixIT takes forward, and with the backward pass, whose gradient is as large as the outputs."""
    print(f"{'MixIT, MiB of tensors':<28} {'mixtures':>9} {'outputs':>9} {'forward':>9} {'both':>9}")
    for n in (4, 6, 8):
        est, mixtures, mom = mixit_signals(n)
        for who in (turns.OURS, turns.BOUND, "least squares"):
            objective, leaf = MIXIT[who](), est.clone().requires_grad_()
            forward = peak_mib(lambda: objective(leaf, mixtures, mom))  # noqa: B023
            both = peak_mib(lambda: passes(objective, est, mixtures, mom))  # noqa: B023
            given = [4 * x.numel() / 2**20 for x in (mixtures, est)]
            print(f"{n} outputs, {who:<17} " + " ".join(f"{mib:9.1f}" for mib in (*given, forward, both)))


def main() -> None:
    """Measure and print; benchmarks/speed.py writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--only", default="", help="works whose name holds this, such as MixIT")
    parser.add_argument("--memory", action="store_true")
    asked = parser.parse_args()
    device.keep_heap()
    torch.set_num_threads(1)
    if asked.memory:
        memory()
    turns.table(work._replace(turns=asked.turns) for work in works() if asked.only in work.name)
    print(turns.machine())


if __name__ == "__main__":
    main()
