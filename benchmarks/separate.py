"""Real-time factor and peak memory of `usep separate` beside torchaudio's Conv-TasNet over the whole file.

Every case runs in a process of its own, one after the other; ratios within one run mean something, figures of
two machines do not.

    python benchmarks/separate.py --minutes 1 --minutes 30 --threads 2 -o separate.csv
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RATE = 8000
COLUMNS = ["system", "minutes", "seconds", "x_real_time", "peak_mib", "idle_mib", "threads", "machine"]


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def make_recording(path: Path, minutes: float) -> None:
    """Write noise in bursts: what it sounds like changes neither time nor memory."""
    import numpy as np

    from usepcli.audio import io

    draw = np.random.default_rng(0)
    with io.Writer(path, RATE, 1, "PCM_16") as file:
        for _ in range(round(minutes * 6)):
            burst = draw.standard_normal((1, 10 * RATE)) * (draw.uniform(size=(1, 10)).repeat(RATE, 1) > 0.3)
            file.write((0.05 * burst).astype(np.float32))


def run_usep(path: Path, model: str, threads: int) -> tuple[float, float]:
    """Return (seconds, idle MiB) of separating a file with a released model, a file, or a registered preset."""
    from usepcli.engine import build, device, jobs
    from usepcli.engine.separate import Separator
    from usepcli.engine.separate_files import separate_files

    if ":" in model:
        name, preset = model.split(":")
        device.keep_heap()
        device.set_threads(threads)
        separator = Separator(build.model({"name": name, "preset": preset, "n_src": 2, "sample_rate": RATE}))
    else:
        separator = Separator.load(model, "cpu", threads)
    idle, out = peak_mib(), path.parent / "out"
    plan = jobs.plan(jobs.find_sources([path], out), out, separator.n_src, overwrite=True)

    def fail(job: jobs.Job, fault: Exception) -> None:
        raise fault

    begin = time.perf_counter()
    for record in separate_files(separator, plan, overwrite=True, failed=fail):
        assert record.duration_s > 0
    return time.perf_counter() - begin, idle


def run_torchaudio(path: Path, threads: int) -> tuple[float, float]:
    """Return (seconds, idle MiB) of the usual way: the whole file in one tensor through one forward pass."""
    import torch
    import torchaudio

    from usepcli.audio import io

    torch.set_num_threads(threads or torch.get_num_threads())
    model = torchaudio.models.conv_tasnet_base(num_sources=2).eval()
    idle, begin = peak_mib(), time.perf_counter()
    wave, rate = io.read(path)
    with torch.inference_mode():
        sources = model(torch.from_numpy(wave)[None])[0].numpy()
    for k, source in enumerate(sources):
        io.write(path.parent / f"whole_{k}.wav", source, rate, "FLOAT", overwrite=True)
    return time.perf_counter() - begin, idle


def child(system: str, path: Path, threads: int) -> None:
    seconds, idle = run_torchaudio(path, threads) if system == "torchaudio" else run_usep(path, system, threads)
    print(json.dumps({"seconds": seconds, "idle_mib": idle, "peak_mib": peak_mib()}))


def machine() -> str:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return f"{names[0] if names else cpu}, {os.cpu_count()} cores, {platform.system()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", action="append", help="released name, .safetensors, run folder or architecture:preset"
    )
    parser.add_argument("--minutes", action="append", type=float)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("-o", "--out", default="separate.csv")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        return child(asked.child[0], Path(asked.child[1]), asked.threads)
    minutes = asked.minutes or [1.0, 30.0]
    # The whole file at once needs gigabytes beyond a few minutes, so that peer runs on the shortest one.
    cases = [("torchaudio", min(minutes))] + [
        (m, t) for m in asked.model or ["default", "convtasnet:paper"] for t in minutes
    ]
    with tempfile.TemporaryDirectory() as folder, open(asked.out, "w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for system, length in cases:
            path = Path(folder) / f"{length:g}.wav"
            if not path.exists():
                make_recording(path, length)
            command = [sys.executable, __file__, "--child", system, str(path), "--threads", str(asked.threads)]
            row = json.loads(
                subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
            )
            row |= {"system": system, "minutes": length, "x_real_time": row["seconds"] / length / 60}
            row |= {"threads": asked.threads or "default", "machine": machine()}
            table.writerow({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
            file.flush()
            print({k: row[k] for k in ("system", "minutes", "x_real_time", "idle_mib", "peak_mib")}, flush=True)


if __name__ == "__main__":
    main()
