"""Processor time that a command takes before it does anything: help, lists, wrong lines; beside two other programs.

    python benchmarks/startup.py [--runs 7] [--usep PATH]

Not time by the wall: what a busy machine adds to that says nothing. Each line runs in a fresh process and an empty
folder, once to fill the caches and then `--runs` times; printed are the least and the median of those, and the exit
code. A program that is not installed is said to be so.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

LINES = (
    "--help", "models", "info default", "profiles", "doctor", "listen --help", "separate --nosuch",
    "separate none.wav -o lost", "separate none.wav -o out --model none", "separate none.wav -o out --format x",
    "evaluate default --metric x", "evaluate none", "evaluate default --data none", "train --profile none",
    "train --profile small_pit --set train.device=x", "remix none.wav -o x.wav", "export none --to onnx",
    "import none.pt -o x.safetensors", "pull none",
)  # fmt: skip
OTHERS = ("audio-separator --help", "demucs --help")


def processor_s(command: list[str], folder: str) -> tuple[float, int]:
    """Return the seconds of the processor that a command and its children took, and its exit code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.returncode


def row(command: list[str], runs: int) -> str:
    """Return one line of the table."""
    shown = " ".join([Path(command[0]).name, *command[1:]])
    if shutil.which(command[0]) is None:
        return f"{shown:<58}  not installed"
    with tempfile.TemporaryDirectory() as folder:
        processor_s(command, folder)
        found = [processor_s(command, folder) for _ in range(runs)]
    if "--help" in command and found[0][1]:
        return f"{shown:<58}  installed, but cannot start"
    times = [seconds for seconds, _ in found]
    return f"{shown:<58}  {min(times):7.2f}  {statistics.median(times):7.2f}  {found[0][1]:4}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--usep", default=str(Path(sys.executable).with_name("usep")), help="by default this Python's")
    asked = parser.parse_args()
    print(f"{'command':<58}  {'min s':>7}  {'median':>7}  {'exit':>4}")
    for command in [*([asked.usep, *line.split()] for line in LINES), *(line.split() for line in OTHERS)]:
        print(row(command, asked.runs), flush=True)


if __name__ == "__main__":
    main()
