"""How `usep separate --live` keeps up: latency and work per block of every live model, and memory over an hour.

    python benchmarks/live.py                     # the models at a size for one core, in steps of about 10 ms
    python benchmarks/live.py --hour              # also an hour of noise through the command
    python benchmarks/live.py --model runs/live   # a model of your own

One thread; work is processor time on one block, whose median, p99 and longest are told, and the share of real time.
Memory is the peak of the whole process after so many seconds of sound, with all that Python and torch take.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from usepcli.engine.separation.live_pace import Times
from usepcli.engine.tables import render
from usepcli.models.separator import SeparationModel
from usepcli.separator.separator import Separator
from usepcli.weights import build, cards, store

CAUSAL = {"causal": True, "input_norm": "none", "sample_rate": 16000, "n_src": 2}
MODELS = {
    "convtasnet": {"preset": "small", "norm": "cumln", "kernel": 32},
    "convtasnet, narrow": {
        "preset": "small", "norm": "channel", "kernel": 64, "filters": 256, "blocks": 5, "repeats": 2,
    },
    "upit": {"preset": "small", "n_fft": 512, "win": 512, "hop": 256, "hidden": 256},
    "tasnet": {"preset": "small", "kernel": 80, "filters": 256, "hidden": 256},
    "dprnn": {"preset": "small", "norm": "channel", "kernel": 32, "chunk": 32},
    "band_path": {"preset": "small"},
    "conformer_mask": {
        "preset": "small", "n_fft": 512, "win": 512, "hop": 256, "ffn": 256, "mask": "sigmoid", "levelled": True,
        "look_back": 250, "max_offset": 250,
    },
}  # fmt: skip
HOUR_S, MINUTE_S = 3600, 60


def made(name: str, settings: dict) -> SeparationModel:
    torch.manual_seed(0)
    return build.model({"name": name.split(",")[0], **CAUSAL, **settings}).eval()


def row(name: str, separator: Separator, block_ms: float, seconds: float, rate: int = 0) -> dict:
    """Time blocks of a stream at `rate` Hz, 0 for the model's own, in whose strides blocks then are."""
    model, rate = separator.model, rate or separator.rate
    stride = model.live_stride if rate == separator.rate else 1
    size = max(1, -(-round(block_ms / 1000 * rate) // stride)) * stride
    live, times = separator.live(rate), Times()
    draw = np.random.default_rng(0)
    for number in range(20 + round(seconds * rate / size)):
        block = 0.1 * draw.standard_normal(size).astype(np.float32)
        begin = time.process_time()
        live.push(block)
        if number >= 20:
            times.add(time.process_time() - begin)
    return {
        "model": name,
        "parameters": model.n_params,
        "latency ms": 1e3 * live.latency_s,
        "block ms": 1e3 * size / rate,
        "work ms": 1e3 * times.quantile(0.5),
        "p99": 1e3 * times.quantile(0.99),
        "longest": 1e3 * times.most,
        "x real time": times.sum / (times.count * size / rate),
    }


def peak_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM")


def hour(seconds: int) -> dict:
    """Feed noise to the command, faster than it sounds, and look at its peak after a minute and at the end."""
    with tempfile.TemporaryDirectory() as place:
        model = build.model({"name": "convtasnet", "preset": "tiny", "norm": "cumln", **CAUSAL, "sample_rate": 8000})
        card = cards.Card(name="tiny", model=model.config, sample_rate=8000, n_src=2, cost=build.cost_of(model))
        store.save_model(Path(place, "tiny.safetensors"), model.state_dict(), card)
        words = ["-", "--live", "--pcm", "8000", "-m", "tiny.safetensors", "-o", "out", "--subtype", "PCM_16", "-q"]
        run = subprocess.Popen(
            [sys.executable, "-m", "usepcli", "separate", *words], cwd=place, stdin=subprocess.PIPE, bufsize=0
        )
        noise = (3000 * np.random.default_rng(0).standard_normal(8000)).astype("<i2").tobytes()
        assert run.stdin
        begin, early = time.monotonic(), 0.0
        for second in range(seconds):
            run.stdin.write(noise)
            if second == MINUTE_S:
                early = peak_mib(run.pid)
        late = peak_mib(run.pid)
        run.stdin.close()
        code = run.wait()
        spent = time.monotonic() - begin
        held = Path(place, "out", "stdin_1.wav").stat().st_size
    return {
        "sound s": seconds, "peak MiB after 60 s": early, "at the end": late, "x real time": spent / seconds,
        "exit": code, "whole": held >= 2 * 8000 * seconds,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", default=[], help="a model by name, file or run folder")
    parser.add_argument("--block-ms", type=float, default=10.0)
    parser.add_argument("--rate", type=int, default=0, help="of the stream in Hz; the model's own without")
    parser.add_argument("--seconds", type=float, default=5.0, help="of sound through each model")
    parser.add_argument("--hour", type=int, nargs="?", const=HOUR_S, default=0, help="seconds of the long stream")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    able = {name: Separator.load(name, threads=1) for name in asked.model}
    able = able or {name: Separator(made(name, settings)) for name, settings in MODELS.items()}
    print(render([row(name, each, asked.block_ms, asked.seconds, asked.rate) for name, each in able.items()], digits=2))
    if asked.hour:
        print(render([hour(asked.hour)]))


if __name__ == "__main__":
    main()
