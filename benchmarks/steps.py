"""What a training step takes, in turns with asteroid, and what a training waits for: its data and its validations.

    python benchmarks/steps.py                  # steps of Conv-TasNet at two sizes
    python benchmarks/steps.py --waiting        # shares of a training's time, with 0 and with 2 data workers

Steps: forward, SI-SNR with the best permutation, backward, AdamW; 2 x 4 s at 8 kHz, the same network in both, one
thread. Waiting: the profile small_pit on talkers of noise, some steps and one validation; of an epoch as the profile
has it, the share in which the loop waits for a batch, and the share of the validation.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import turns
from separate import RATE, SIZES, asteroid_net

from usepcli import device
from usepcli.losses.scale_invariant import SISNR
from usepcli.objectives.pit import match
from usepcli.weights import build

BATCH, SECONDS = 2, 4
STEPS = 12  # of the measured training


def our_step(size: str) -> Callable[[], None]:
    model = build.model({"name": "convtasnet", "n_src": 2, "sample_rate": RATE, **SIZES[size]})
    return _step(model, lambda est, ref: match(SISNR(), est, ref, ref.sum(1)).loss.mean())


def asteroid_step(size: str) -> Callable[[], None]:
    from asteroid.losses import PITLossWrapper, pairwise_neg_sisdr

    return _step(asteroid_net(size), PITLossWrapper(pairwise_neg_sisdr, pit_from="pw_mtx"))


def _step(model: torch.nn.Module, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[[], None]:
    torch.manual_seed(0)
    ref = 0.1 * torch.randn(BATCH, 2, SECONDS * RATE)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)

    def run() -> None:
        loss(model(ref.sum(1)), ref).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        optimiser.zero_grad()

    return run


def works() -> Iterator[turns.Work]:
    """Yield a step at each size, then the waiting of a training."""
    for size in ("small", "paper"):
        params = build.model({"name": "convtasnet", "n_src": 2, "sample_rate": RATE, **SIZES[size]}).n_params
        makers = {turns.OURS: lambda size=size: our_step(size), "asteroid": lambda size=size: asteroid_step(size)}
        yield turns.Work(
            "training", f"step, Conv-TasNet of {params / 1e6:.2f} M, {BATCH} x {SECONDS} s", makers, turns=5
        )


def waiting() -> list[dict[str, Any]]:
    """Return rows for the shares of a training's time in which it waits for data, and in which it validates."""
    rows = []
    for workers in (0, 2):
        command = [sys.executable, __file__, "--child", str(workers)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        base = dict.fromkeys(turns.COLUMNS, "") | {"group": "waiting", "contender": turns.OURS, "turns": 1}
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            rows.append(base | {"work": f"small_pit, {workers} workers", "note": last[:120]})
            continue
        shares = json.loads(done.stdout.splitlines()[-1])
        for what in ("data", "validation"):
            note = f"{100 * shares[what]:.1f} % of an epoch"
            rows.append(base | {"work": f"small_pit, {workers} workers: {what}", "note": note})
    for row in rows:
        print(turns.line(row), flush=True)
    return rows


def child(workers: int) -> None:
    """Train for some steps, and print the shares of an epoch as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        _talkers(Path(folder) / "speech")
        words = ["prepare-data", "speech", "-o", "two", "--corpus", "speakers", "-q"]
        subprocess.run([sys.executable, "-m", "usepcli", *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        print(json.dumps(_shares(Path(folder), workers)))


def _talkers(folder: Path) -> None:
    """Write two files of ten seconds of noise in bursts for each of forty talkers."""
    import numpy as np

    from usepcli.audio import io

    draw = np.random.default_rng(0)
    for talker in range(40):
        for take in range(2):
            wave = draw.standard_normal((1, 10 * RATE)) * (draw.uniform(size=(1, 20)) > 0.2).repeat(RATE // 2, 1)
            io.write(folder / f"t{talker:02}" / f"{take}.wav", (0.05 * wave).astype(np.float32), RATE)


def _shares(folder: Path, workers: int) -> dict[str, float]:
    from usepcli.engine.training.train import Trainer
    from usepcli.profile.load import load_profile

    sets = [f"data.manifest={folder}/two", f"data.pool=[{folder}/two]", f"train.workers={workers}"]
    sets += [f"train.max_steps={STEPS}", "train.epochs=1", "train.threads=1"]
    waits, works, validations = list[float](), list[float](), list[float]()

    class Watched(Trainer):
        def _fed(self) -> Iterator[Any]:
            begin = time.monotonic()
            for micro in super()._fed():
                got = time.monotonic()
                yield micro
                waits.append(got - begin)
                begin = time.monotonic()
                works.append(begin - got)

        def _validate(self) -> None:
            begin = time.monotonic()
            super()._validate()
            validations.append(time.monotonic() - begin)

    profile = load_profile("small_pit")
    trainer = Watched(load_profile("small_pit", sets=sets), folder / "run")
    steps = profile.data.epoch_items // trainer.feed.batch_size
    trainer.fit()
    # The first batches find the disk, the workers and the memory cold.
    wait, work = (statistics.mean(each[2:]) * steps for each in (waits, works))
    valid = sum(validations)
    whole = wait + work + valid
    return {"data": wait / whole, "validation": valid / whole}


def main() -> None:
    """Measure and print; benchmarks/speed.py writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waiting", action="store_true")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child is not None:
        return child(asked.child)
    if asked.waiting:
        waiting()
    else:
        device.keep_heap()
        torch.set_num_threads(1)
        turns.table(works())
    print(turns.machine())


if __name__ == "__main__":
    main()
