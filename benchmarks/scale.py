"""What tables of many rows cost: seconds and memory of the main process, as CSV on stdout.

    python benchmarks/scale.py --rows 100000 1000000 [--tree OTHER_CHECKOUT] [--only train-manifest ...]

Every table names a few short recordings over and over. Seconds are from the start of the process to its first row of
train.csv where a training is measured, else to its end; MiB is the most that the process held (VmHWM).
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import soundfile as sf

RATE, FRAMES = 8000, 8000
LINKS = 50_000
MOST = 999_999  # shares
PROFILE = """\
about: what a table costs
model: {name: convtasnet, n_src: 2, sample_rate: 8000, filters: 32, bottleneck: 16, hidden: 32, skip: 16, blocks: 2,
  repeats: 1}
objective: {name: pit}
data: {segment_s: 0.5, valid_split: valid}
train: {batch_size: 4, epochs: 1000, workers: 0, log_every: 1, threads: 1, checkpoint_every_s: 100000}
valid: {limit: 4}
"""
Made = Callable[[Path, int], tuple[list[str], str]]  # writes tables below a folder; returns a command and what ends it


def sounds(place: Path) -> None:
    """Write a few short recordings."""
    draw = np.random.default_rng(0)
    for k in range(4):
        one, two = draw.standard_normal((2, FRAMES)) * 0.05
        for name, wave in (("mix", one + two), ("a", one), ("b", two)):
            sf.write(place / f"{name}{k}.wav", wave, RATE)


def table(path: Path, columns: str, rows: Iterable[str]) -> None:
    """Write a CSV file."""
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{columns}\n")
        file.writelines(f"{row}\n" for row in rows)


def manifest(place: Path, count: int) -> Path:
    """Write a manifest as prepare-data does, with names as long as those of large corpora."""
    where = place.resolve()
    folder = f"{where}/" + "./" * 8
    table(
        place / "manifest.csv",
        "id,split,mixture,sources,noise,sample_rate,frames,n_src,speakers,text,label,origin,licence",
        (
            f"train-clean-360_{i:08d},{'train' if i % 50 else 'valid'},{folder}mix{i % 4}.wav,"
            f"{folder}a{i % 4}.wav;{folder}b{i % 4}.wav,,{RATE},{FRAMES},2,libri-{i % 2999};libri-{3000 + i % 2999},,"
            "read English,LibriSpeech 1116-132847-0000,CC-BY-4.0"
            for i in range(count)
        ),
    )
    return place / "manifest.csv"


def pool(place: Path, count: int, named: bool) -> Path:
    """Write a pool; named: of 3000 talkers, else of nobody known."""
    folder = f"{place.resolve()}/"
    table(
        place / "pool.csv",
        "id,split,speaker,path,sample_rate,frames,origin,licence",
        (
            f"utterance_{i:08d},train,{f'libri-{i % 2999}' if named else ''},{folder}{'./' * (i % 20)}a{i % 4}.wav,"
            f"{RATE},{FRAMES},recording {i},CC-BY-4.0"
            for i in range(count)
        ),
    )
    return place / "pool.csv"


def training(place: Path, *sets: str) -> tuple[list[str], str]:
    """Return the command that trains in a folder, and the file whose first row ends it."""
    (place / "scale.yaml").write_text(PROFILE, encoding="utf-8")
    command = ["train", "--profile", str(place / "scale.yaml"), "-o", str(place / "run")]
    return [*command, *(word for text in sets for word in ("--set", text))], "run/train.csv"


def train_manifest(place: Path, count: int) -> tuple[list[str], str]:
    """Train on a manifest of so many mixtures."""
    return training(place, f"data.manifest={manifest(place, count)}")


def train_pool(place: Path, count: int) -> tuple[list[str], str]:
    """Train on mixtures made afresh of so many utterances by 3000 talkers."""
    return training(place, *_dynamic(pool(place, count, True), manifest(place, 100)))


def train_unnamed(place: Path, count: int) -> tuple[list[str], str]:
    """Train on mixtures made afresh of so many utterances by nobody known."""
    return training(place, *_dynamic(pool(place, count, False), manifest(place, 100)))


def train_sources(place: Path, count: int) -> tuple[list[str], str]:
    """Train on mixtures made afresh of the sources that a manifest lists."""
    return training(place, *_dynamic(manifest(place, count), place / "manifest.csv"))


def _dynamic(utterances: Path, mixtures: Path) -> list[str]:
    pools = f"data.pool=[{utterances}]"
    return ["data.mixing=dynamic", pools, f"data.manifest={mixtures}", "data.epoch_items=1000"]


def check(place: Path, count: int) -> tuple[list[str], str]:
    """Look at a hundred mixtures of so many."""
    return ["prepare-data", "--check", str(manifest(place, count)), "--limit", "100", "--quiet"], ""


def evaluate(place: Path, count: int) -> tuple[list[str], str]:
    """Score the mixtures themselves, ten of so many."""
    data = ["--data", str(manifest(place, count)), "--split", "train", "--limit", "10"]
    return ["evaluate", "--est", str(place), *data, "--metric", "si-snr", "-o", str(place / "scores")], ""


def shard(place: Path, count: int) -> tuple[list[str], str]:
    """Separate what falls to one of so many shares of a list, about one file."""
    files = place / "list.txt"
    (place / "in").mkdir()
    for k in range(1000):
        (place / f"in/{k}").mkdir()
    sounding = place / "mix0.wav"
    for i in range(count):
        if i % LINKS == 0:  # a file system gives one file so many names and no more
            sounding = shutil.copyfile(place / "mix0.wav", place / f"linked{i}.wav")
        os.link(sounding, place / f"in/{i % 1000}/utterance_{i:08d}.wav")
    files.write_text("".join(f"{place}/in/{i % 1000}/utterance_{i:08d}.wav\n" for i in range(count)), encoding="utf-8")
    return [
        "separate",
        "--files-from",
        str(files),
        "-o",
        str(place / "out"),
        "--shard",
        f"1/{min(count, MOST)}",
        "--quiet",
    ], ""


def shard_of_folder(place: Path, count: int) -> tuple[list[str], str]:
    """Separate what falls to one of so many shares of a folder, about one file."""
    command, _ = shard(place, count)
    return ["separate", str(place / "in"), *command[3:]], ""


MADE: dict[str, Made] = {
    "train-manifest": train_manifest,
    "train-pool": train_pool,
    "train-pool-unnamed": train_unnamed,
    "train-pool-of-sources": train_sources,
    "check-limit-100": check,
    "separate-shard-list": shard,
    "separate-shard-folder": shard_of_folder,
}


def measure(command: list[str], tree: Path, place: Path, ends: str) -> tuple[float, float, float, int]:
    """Run usep from a checkout; return seconds, those of its CPU, the most MiB that it held, and its exit code."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    start, most, busy = time.monotonic(), 0.0, 0.0
    with (place / "said.txt").open("w") as said:
        child = subprocess.Popen(
            [sys.executable, "-m", "usepcli", *command], env=environment, cwd=place, stdout=said, stderr=said
        )
        while child.poll() is None and time.monotonic() - start < 1800:
            most, busy = max(most, held(child.pid)), max(busy, spent(child.pid))
            if ends and (place / ends).exists() and (place / ends).read_bytes().count(b"\n") > 1:
                child.kill()
                child.wait()
                return time.monotonic() - start, busy, most, 0  # ended here, as was meant
            time.sleep(0.02)
    child.kill()
    return time.monotonic() - start, busy, most, child.wait()


def spent(process: int) -> float:
    """Return the seconds of CPU that a process has taken so far, 0 where it has just gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def held(process: int) -> float:
    """Return the most MiB that a process has held so far, 0 where it has just gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


def main() -> None:
    """Measure what was asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--tree", type=Path, default=Path(__file__).resolve().parents[1], help="checkout to measure")
    parser.add_argument("--only", nargs="+", choices=list(MADE), default=list(MADE))
    asked = parser.parse_args()
    out = csv.writer(sys.stdout)
    out.writerow(["what", "rows", "seconds", "cpu_s", "peak_mib", "code", "machine"])
    machine = (
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    for what in asked.only:
        for count in asked.rows:
            place = Path(tempfile.mkdtemp(prefix="usep-scale-"))
            try:
                sounds(place)
                command, ends = MADE[what](place, count)
                seconds, busy, most, code = measure(command, asked.tree, place, ends)
                out.writerow([what, count, f"{seconds:.1f}", f"{busy:.1f}", f"{most:.0f}", code, machine])
                sys.stdout.flush()
                if code:
                    print((place / "said.txt").read_text()[-500:], file=sys.stderr)
            finally:
                shutil.rmtree(place)


if __name__ == "__main__":
    main()
