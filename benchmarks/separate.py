"""Real-time factor and peak memory of `usep separate` on long recordings, beside the two usual ways.

The same Conv-TasNet (random weights: they change neither time nor memory) runs three times: in usep; as torchaudio's
model over the whole file in one tensor; as asteroid's model under its overlap-add, which holds the whole file. Besides,
usep's released model on 8 kHz mono and on 48 kHz stereo. Every case runs in a process of its own, one after the other,
with at most --limit-gib of memory and --patience-min of time; ratios within one run mean something, figures of two
machines do not.

    python benchmarks/separate.py --threads 2 -o separate.csv [--peers FOLDER_WITH_ASTEROID]
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import turns

RATE, WINDOW_S = 8000, 10
COLUMNS = [
    "system",
    "audio",
    "minutes",
    "seconds",
    "processor_s",
    "x_real_time",
    "peak_mib",
    "idle_mib",
    "note",
    "threads",
    "machine",
]
# One network, spelled in the arguments of each: usep's, torchaudio's, asteroid's.
SIZES = {
    "paper": {"filters": 512, "bottleneck": 128, "hidden": 512, "skip": 128, "blocks": 8, "repeats": 3},
    # torchaudio's skip and bottleneck are one number.
    "small": {"filters": 256, "bottleneck": 96, "hidden": 192, "skip": 96, "blocks": 7, "repeats": 2},
}


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def now() -> tuple[float, float]:
    """Return the time by the wall and of the processor."""
    return time.perf_counter(), time.process_time()


def make_recording(path: Path, minutes: float, rate: int, channels: int) -> None:
    """Write noise in bursts: what it sounds like changes neither time nor memory."""
    import numpy as np

    from usepcli.audio import io

    draw = np.random.default_rng(0)
    with io.Writer(path, rate, channels, "PCM_16") as file:
        for _ in range(round(minutes * 6)):
            burst = draw.standard_normal((channels, 10 * rate), np.float32)
            file.write(0.05 * burst * (draw.uniform(size=(1, 10)).repeat(rate, 1) > 0.3).astype(np.float32))


def run_usep(path: Path, model: str, size: str, threads: int) -> tuple[tuple[float, float], float]:
    """Separate a file with a released model or the network of this size; return (when it began, idle MiB)."""
    from usepcli import device
    from usepcli.engine.separation import inputs, jobs
    from usepcli.engine.separation.separate_files import separate_files
    from usepcli.separator.separator import Separator
    from usepcli.weights import build

    if model == "convtasnet":
        device.keep_heap()
        device.set_threads(threads)
        settings = {"name": "convtasnet", "n_src": 2, "sample_rate": RATE, **SIZES[size]}
        separator = Separator(build.model(settings), chunk_s=WINDOW_S)
    else:
        separator = Separator.load(model, "cpu", threads)
    idle, out = peak_mib(), path.parent / "out"
    plan = jobs.plan(inputs.find_sources([path], out), out, separator.names(), overwrite=True)

    def fail(job: jobs.Job, fault: Exception) -> None:
        raise fault

    began = now()
    for record in separate_files(separator, plan, overwrite=True, failed=fail):
        assert record.duration_s > 0
    return began, idle


def run_torchaudio(path: Path, size: str, threads: int) -> tuple[tuple[float, float], float]:
    """Send the whole file in one tensor through one forward pass; return (when it began, idle MiB)."""
    import torch
    import torchaudio

    torch.set_num_threads(threads or torch.get_num_threads())
    net = SIZES[size]
    model = torchaudio.models.ConvTasNet(
        enc_num_feats=net["filters"], msk_num_feats=net["bottleneck"], msk_num_hidden_feats=net["hidden"],
        msk_num_layers=net["blocks"], msk_num_stacks=net["repeats"],
    ).eval()  # fmt: skip
    return through(path, model)


def asteroid_net(size: str) -> Any:
    """Return asteroid's Conv-TasNet of this size."""
    from asteroid.models import ConvTasNet

    net = SIZES[size]
    return ConvTasNet(
        n_src=2, n_filters=net["filters"], bn_chan=net["bottleneck"], hid_chan=net["hidden"], skip_chan=net["skip"],
        n_blocks=net["blocks"], n_repeats=net["repeats"], sample_rate=RATE,
    )  # fmt: skip


def run_asteroid(path: Path, size: str, threads: int) -> tuple[tuple[float, float], float]:
    """Run asteroid's overlap-add with reordered chunks; return (when it began, idle MiB)."""
    import torch
    from asteroid.dsp.overlap_add import LambdaOverlapAdd

    torch.set_num_threads(threads or torch.get_num_threads())
    return through(path, LambdaOverlapAdd(asteroid_net(size).eval(), 2, WINDOW_S * RATE))


def through(path: Path, model: object) -> tuple[tuple[float, float], float]:
    """Read the whole file, run the model on it, write its sources as float files."""
    import torch

    from usepcli.audio import io

    idle, began = peak_mib(), now()
    wave, rate = io.read(path)
    with torch.inference_mode():
        sources = model(torch.from_numpy(wave)[None])[0].numpy()  # type: ignore[operator]
    for k, source in enumerate(sources):
        io.write(path.parent / f"whole_{k}.wav", source, rate, "FLOAT", overwrite=True)
    return began, idle


def child(system: str, path: Path, asked: argparse.Namespace) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (int(asked.limit_gib * 2**30),) * 2)
    if asked.peers:
        sys.path.append(asked.peers)
    if system == "torchaudio":
        began, idle = run_torchaudio(path, asked.size, asked.threads)
    elif system == "asteroid":
        began, idle = run_asteroid(path, asked.size, asked.threads)
    else:
        began, idle = run_usep(path, system, asked.size, asked.threads)
    wall, processor = (end - begin for end, begin in zip(now(), began, strict=True))
    print(json.dumps({"seconds": wall, "processor_s": processor, "idle_mib": idle, "peak_mib": peak_mib()}))


def measure(system: str, path: Path, asked: argparse.Namespace) -> dict[str, object]:
    """Run one case in its own process and return what it measured, or in `note` why there is nothing."""
    command = [sys.executable, __file__, "--child", system, str(path), "--threads", str(asked.threads)]
    command += ["--size", asked.size, "--limit-gib", str(asked.limit_gib), "--peers", asked.peers]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=asked.patience_min * 60)
    except subprocess.TimeoutExpired:
        return {"note": f"not done after {asked.patience_min:g} min"}
    if done.returncode == 0:
        return {**json.loads(done.stdout.splitlines()[-1]), "note": ""}
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    short = done.returncode == -9 or any(word in done.stderr for word in ("can't allocate memory", "MemoryError"))
    return {"note": f"out of memory at {asked.limit_gib:g} GiB" if short else last[:120]}


def cases(asked: argparse.Namespace) -> list[tuple[str, float, int, int]]:
    """Return (system, minutes, rate, channels) of every case."""
    minutes = asked.minutes or [1.0, 5.0, 60.0, 180.0]
    peers = [(system, m, RATE, 1) for m in minutes for system in ("convtasnet", "asteroid", "torchaudio")]
    return peers + [("default", m, *kind) for kind in ((RATE, 1), (48000, 2)) for m in minutes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", action="append", type=float, help="default: 1, 5, 60 and 180")
    parser.add_argument("--size", choices=sorted(SIZES), default="paper", help="of the Conv-TasNet")
    parser.add_argument("--only", action="append", help="this system only: convtasnet, asteroid, torchaudio, default")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--limit-gib", type=float, default=16.0)
    parser.add_argument("--patience-min", type=float, default=60.0, help="a case that takes longer is ended")
    parser.add_argument("--peers", default="", help="a folder with asteroid, where it is not installed")
    parser.add_argument("-o", "--out", default="separate.csv")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        return child(asked.child[0], Path(asked.child[1]), asked)
    with tempfile.TemporaryDirectory() as folder, open(asked.out, "w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for system, minutes, rate, channels in cases(asked):
            if asked.only and system not in asked.only:
                continue
            path = Path(folder) / f"{minutes:g}_{rate}_{channels}.wav"
            if not path.exists():
                make_recording(path, minutes, rate, channels)
            row = measure(system, path, asked)
            row |= {"system": system, "minutes": minutes, "audio": f"{rate // 1000} kHz x {channels}"}
            if "seconds" in row:
                row["x_real_time"] = float(str(row["seconds"])) / minutes / 60
            row |= {"threads": asked.threads or "default", "machine": turns.machine()}
            table.writerow({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
            file.flush()
            print({k: row[k] for k in COLUMNS[:-2] if k in row}, flush=True)


if __name__ == "__main__":
    main()
