"""What critics cost: seconds and memory of one training step of `fuss_advpit` at the paper's size, as a table and CSV.

    python benchmarks/critics.py -o critics.csv [--seconds 2 10] [--accumulate 1 8] [--rounds 3] [--batch 1]

Every case is a process of its own with one thread: the separator of 46.9 M parameters with PIT alone, with the critic
ctx_wave_3, and with six, ctx and inst on waveforms, spectra and masks, also at half their channels. A step is all that
a training does between two batches: the critics' own steps, the separator's, clipping, Adam. The scenes are noise that
starts somewhere, of one to four sources in turn, as FUSS has them. Seconds are processor time, the median over the
steps of all rounds, in which the cases take turns; ratios are to PIT alone at the same seconds and accumulation. MiB is
the most that a process held (VmHWM). GFLOP counts products and convolutions of one micro-batch.

What was found on an Intel Xeon with AVX-512, one thread beside other work, ratios to PIT alone (2 s, 1 / 2 s, 8 / 10 s,
1 / 10 s, 8 micro-batches; single steps, whose ratios move by a quarter between runs):
    one critic      1.3 / 2.0 / 2.3 / 2.7        39 and 195 GFLOP beside 21 and 103 of PIT alone
    six             3.1 / 4.7 / 6.6 / 9.7        117 and 586
    six, half wide  2.0 / 2.7 / 4.1 / 4.9        46 and 227
in at most 3.0 GiB. Six published critics cannot cost 2.5 times PIT alone at this size: they have 5.7 times its
products in all (inst_wave alone three times those of the U-Net: it hears four sources, real and estimated, and the
estimates again in the separator's step), and in 1.5 times the time of PIT theirs would have to run at about 1.4 times
the speed of the fastest matrix product there. At half width (objective.critic_width: 0.5) short segments come near
it. Where several micro-batches are accumulated, the separator is run once more for the critics' steps, as no graph is
kept, and Adam, a third of PIT alone at 2 s, is run once for all. Spared are the gradients of critics' weights in the
separator's step, a second look at silent references, and, by one matrix product for each layer of a wave critic in
place of conv1d, much of the memory that its gradients went through: the latter two save 31 % of the step of six
critics at 10 s (15.7 to 10.8 s, three turns each) and 12 % at 2 s. channels_last gains nothing; spectra, made anew
for each critic, take 2 %.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SIX = ("ctx_wave_3", "ctx_stft_3", "ctx_mask_3", "inst_wave", "inst_stft", "inst_mask")
# Names, and their width as a share of the published channels.
CRITICS: dict[str, tuple[tuple[str, ...], float]] = {
    "0": ((), 1.0), "1": (("ctx_wave_3",), 1.0), "6": (SIX, 1.0), "6half": (SIX, 0.5),
}  # fmt: skip
COLUMNS = ("seconds", "accumulate", "critics", "step_s", "ratio", "MiB", "GFLOP", "steps")
RATE, SOURCES = 16000, 4


def scenes(batch: int, seconds: float, first: int) -> Any:
    """Return a batch of scenes of one to four sources in turn, beginning with number `first`."""
    import torch

    from usepcli.data.batch import Batch

    length = round(RATE * seconds)
    draw = torch.Generator().manual_seed(first)
    sources = 0.1 * torch.randn(batch, SOURCES, length, generator=draw)
    for b in range(batch):
        count = 1 + (first + b) % SOURCES
        for k in range(SOURCES):
            start = 0 if k == 0 else int(torch.randint(length // 2, (1,), generator=draw))
            sources[b, k, : length if k >= count else start] = 0
    return Batch(sources.sum(1), sources, [str(first + b) for b in range(batch)])


def measure(
    critics: tuple[str, ...], width: float, seconds: float, accumulate: int, batch: int, steps: int
) -> dict[str, Any]:
    """Return processor seconds of each step after one to warm up, the peak in MiB, and GFLOP of a micro-batch."""
    import torch

    from usepcli.engine.training import parts
    from usepcli.engine.training.distributed import Ranks
    from usepcli.engine.training.schedule import Schedule
    from usepcli.engine.training.stepping import Stepper
    from usepcli.profile.load import load_profile
    from usepcli.weights import build

    torch.set_num_threads(1)
    torch.manual_seed(0)
    profile = load_profile(
        "fuss_advpit",
        sets=[
            f"objective.critics=[{', '.join(critics)}]", f"objective.critic_width={width}",
            f"objective.critic_s={seconds}", f"data.segment_s={seconds}",
            f"train.batch_size={batch * accumulate}", f"train.accumulate={accumulate}",
        ],
    )  # fmt: skip
    objective = parts.objective(profile, build.model(profile.model))
    objective.train()
    schedule = Schedule(profile.optim.lr, profile.schedule.model_dump(), 100)
    stepper = Stepper(profile, objective, schedule, Ranks(), torch.device("cpu"))
    times = []
    for step in range(steps + 1):
        micro = [scenes(batch, seconds, batch * (accumulate * step + k)) for k in range(accumulate)]
        objective.rng.manual_seed(step)
        began = time.process_time()
        stepper.take(micro, step + 1)
        times.append(time.process_time() - began)
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return {"times": times[1:], "MiB": int(peak.split()[1]) / 1024, "GFLOP": _gflop(stepper, batch, seconds)}


def _gflop(stepper: Any, batch: int, seconds: float) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        stepper.take([scenes(batch, seconds, 0)], 1)
    return counter.get_total_flops() / 1e9


def case(name: str, seconds: float, accumulate: int, args: argparse.Namespace) -> dict[str, Any]:
    """Measure one case in a process of its own; RuntimeError with what it said where it fails."""
    words = [sys.executable, __file__, "--case", name, "--seconds", str(seconds), "--accumulate", str(accumulate)]
    words += ["--batch", str(args.batch), "--steps", str(args.steps)]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise RuntimeError(f"{name} critics, {seconds:g} s, accumulate {accumulate}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


def main() -> None:
    """Measure all cases in turn, and print and write what they come to after every round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, nargs="+", default=[2.0, 10.0])
    parser.add_argument("--accumulate", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1, help="scenes of a micro-batch")
    parser.add_argument("--steps", type=int, default=2, help="steps of a case in each round")
    parser.add_argument("-o", "--out", type=Path, default=Path("critics.csv"))
    parser.add_argument("--case", choices=list(CRITICS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        one = measure(*CRITICS[args.case], args.seconds[0], args.accumulate[0], args.batch, args.steps)
        print(json.dumps(one))
        return
    cases = [(seconds, count, name) for seconds in args.seconds for count in args.accumulate for name in CRITICS]
    found: dict[tuple[float, int, str], list[dict[str, Any]]] = {one: [] for one in cases}
    for number in range(1, args.rounds + 1):
        for seconds, count, name in cases:
            found[seconds, count, name].append(case(name, seconds, count, args))
        print(f"round {number} of {args.rounds}", file=sys.stderr)
        write(args.out, found)


def write(out: Path, found: dict[tuple[float, int, str], list[dict[str, Any]]]) -> None:
    """Write the table so far, and print it."""
    times = {one: [t for made in of for t in made["times"]] for one, of in found.items()}
    rows = []
    for (seconds, count, name), of in found.items():
        own, alone = (statistics.median(times[seconds, count, key]) for key in (name, "0"))
        row = (f"{seconds:g}", count, name, f"{own:.2f}", f"{own / alone:.2f}")
        row += (f"{max(made['MiB'] for made in of):.0f}", f"{of[0]['GFLOP']:.1f}", len(times[seconds, count, name]))
        rows.append(row)
    with out.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    for line in (COLUMNS, *rows):
        print("  ".join(f"{value!s:>10}" for value in line), flush=True)


if __name__ == "__main__":
    main()
