"""What another engine gains: `usep separate --engine` beside torch, for every released model.

    pip install 'usepcli[export]' 'usepcli[openvino]'
    python benchmarks/engines.py -o benchmarks/engines.csv [--models default,live --minutes 1,10 --threads 1,2 --memory]

A recording of two talkers, over and over, goes through each engine in turns (turns.py), with everything but writing and
loading; beside the shares of time stands how far the sources are from those of torch. --memory asks for the peak of a
process of its own instead, at each length. Graphs come from the cache, and are written before where they are not there.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# As `usep` has it: threads that wait sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import turns

MODELS = ("default", "live", "live_5ms", "speech_unsupervised", "universal")
COLUMNS = [*turns.COLUMNS, "sdr_db", "peak_mib", "machine"]
WORDS = {1: "1 thread", 2: "2 threads"}


def recording(path: Path, minutes: float, rate: int) -> Path:
    """Write a recording of two talkers that is so long, where there is none yet."""
    from usepcli.audio import io, sample

    if not path.exists():
        talkers = sample.two_talkers(rate)
        with io.Writer(path, rate, 1, "PCM_16") as file:
            for at in range(0, round(minutes * 60 * rate), 10 * rate):
                file.write(sample.cut(talkers, min(10 * rate, round(minutes * 60 * rate) - at), at))
    return path


def told_db(lines: list[str]) -> str:
    """Return how far an engine says that it is from torch, in dB; "" of torch."""
    return lines[-1].split("sources are ")[1].split(" dB")[0] if lines else ""


def rows(asked: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield a row for each engine, model, length and number of threads."""
    from usepcli import device
    from usepcli.separator.engines import NAMES, TORCH
    from usepcli.separator.separator import Separator

    for threads in asked.threads:
        for name in asked.models:
            told: dict[str, list[str]] = {engine: [] for engine in NAMES}
            held: dict[str, Separator] = {}

            def through(
                engine: str,
                minutes: float,
                name: str = name,
                threads: int = threads,
                told: Any = told,
                held: Any = held,
            ) -> Callable[[], Callable[[], None]]:
                def make() -> Callable[[], None]:
                    if engine not in held:
                        del told[engine][:]
                        held[engine] = Separator.load(name, "cpu", threads, engine=engine, say=told[engine].append)
                    path = recording(folder / f"{name}_{minutes:g}.wav", minutes, held[engine].rate)

                    def run() -> None:
                        device.set_threads(threads)
                        for _ in held[engine].file(path):
                            pass

                    return run

                return make

            for minutes in asked.minutes:
                makers = {turns.OURS if engine == TORCH else engine: through(engine, minutes) for engine in NAMES}
                work = turns.Work(
                    WORDS.get(threads, f"{threads} threads"), f"{name}, {minutes:g} min", makers, asked.turns
                )
                for row in turns.measure(work):
                    print(turns.line(row), told_db(told.get(row["contender"], [])), flush=True)
                    yield {**row, "sdr_db": told_db(told.get(row["contender"], []))}


def peaks(asked: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the peak memory of a process of its own for each engine, model and length, on one thread."""
    from usepcli.separator.engines import NAMES, TORCH
    from usepcli.weights import ensembles

    for name in asked.models:
        for minutes in asked.minutes:
            path = recording(folder / f"{name}_{minutes:g}.wav", minutes, ensembles.find(name).card.sample_rate)
            for engine in NAMES:
                line = [sys.executable, __file__, "--alone", name, engine, str(path)]
                done = subprocess.run(line, capture_output=True, text=True, check=False)
                row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
                row |= {"group": "memory", "work": f"{name}, {minutes:g} min"}
                row |= {"contender": turns.OURS if engine == TORCH else engine, "turns": 1}
                row["peak_mib"] = done.stdout.strip()
                row["note"] = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["failed"])[-1][:120]
                print(row["work"], row["contender"], row["peak_mib"], row["note"], flush=True)
                yield row


def alone(name: str, engine: str, path: Path) -> None:
    """Separate a file and print the peak memory of this process in MiB."""
    from usepcli.separator.separator import Separator

    for _ in Separator.load(name, "cpu", 1, engine=engine).file(path):
        pass
    print(round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--models", type=lambda text: text.split(","), default=list(MODELS))
    parser.add_argument("--minutes", type=lambda text: [float(part) for part in text.split(",")], default=[1.0, 10.0])
    parser.add_argument("--threads", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.alone:
        alone(asked.alone[0], asked.alone[1], Path(asked.alone[2]))
        return
    kept: dict[tuple[str, ...], dict[str, Any]] = {}
    if asked.out and asked.out.exists():  # rows of other models, lengths and threads stay
        with open(asked.out, newline="", encoding="utf-8") as file:
            kept = {(row["group"], row["work"], row["contender"]): row for row in csv.DictReader(file)}
    with tempfile.TemporaryDirectory() as place:
        for row in (peaks if asked.memory else rows)(asked, Path(place)):
            row["machine"] = turns.machine()
            kept[row["group"], row["work"], row["contender"]] = row
            if asked.out:
                with open(asked.out, "w", newline="", encoding="utf-8") as file:
                    table = csv.DictWriter(file, COLUMNS)
                    table.writeheader()
                    table.writerows(kept.values())


if __name__ == "__main__":
    main()
