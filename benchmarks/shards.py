"""Ten hours in tar files: read from disk and through HTTP, trained by two ranks, killed, and gone on with.

    python benchmarks/shards.py                              a quick look: a quarter of an hour of mixtures
    python benchmarks/shards.py --hours 10 --steps 200 --size 100MB [--folder DIR] [--keep]

Makes mixtures of two talkers of the speech in $USEP_SHARED_DATA (8 kHz, 16 bits; of two noises with the lengths of
read speech where there is none), writes them with `usep prepare-data --shards`, and prints a table: items a second from
files, from tars, and from tars behind a server on this machine; what padding takes with and without data.bucket;
whether two ranks hear what one hears; whether a training from tars has the losses of one from files; and whether two
ranks that learn from whole utterances sorted by length, were killed (-9) and started again, end with the weights of two
that were not. The exit code is 1 where one of these does not hold. A set that is in the folder is used again.
"""

from __future__ import annotations

import argparse
import csv
import http.server
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from io import StringIO
from pathlib import Path

import numpy as np

RATE, BATCH = 8000, 4
PROFILE = """
extends: small_pit
about: shards
data: {{manifest: {manifest}, pool: [], mixing: fixed, epoch_items: 0, join_prob: 0.0, cache: false
        {more}}}
model: {{name: convtasnet, n_src: 2, sample_rate: 8000, filters: 16, bottleneck: 8, hidden: 16, skip: 8, blocks: 2,
         repeats: 1}}
train: {{batch_size: 4, epochs: 999, max_steps: {steps}, workers: 1, log_every: 5, checkpoint_every_s: 1}}
valid: {{limit: 2, mom_pairs: 0}}
"""
PARTS = ", segment_s: 1.0"
ORDERED = ", segment_s: 0, order: shards, shard_window: 4, shard_reach: 200, bucket: 20"


def talk(data: Path) -> Callable[[np.random.Generator], np.ndarray]:
    """Return what draws two talkers of one length, (2, T) within 1: speech of a folder, or noise in place of it."""
    from usepcli.audio import io
    from usepcli.audio.resample import resample

    named = data / "speech" / "manifest.csv"
    if not named.exists():
        return noise
    with open(named, newline="") as file:
        paths = [data / "speech" / row["path"] for row in csv.DictReader(file)]

    @cache
    def clip(number: int) -> np.ndarray:
        wave, rate = io.read_mono(paths[number])
        return resample(wave, rate, RATE)

    def speech(draw: np.random.Generator) -> np.ndarray:
        pair = [clip(int(number)) for number in draw.choice(len(paths), 2, replace=False)]
        count = max(map(len, pair))
        waves = np.stack([np.pad(wave, (0, count - len(wave))) for wave in pair])
        return waves / np.abs(waves).max(1, keepdims=True) * 0.45 * np.array([[1.0], [draw.uniform(0.3, 1)]])

    return speech


def noise(draw: np.random.Generator) -> np.ndarray:
    """Return two noises that swell and fade, (2, T), about as long as what LibriSpeech's dev and test sets hold."""
    count = round(float(np.clip(draw.gamma(7, 1.8), 1.2, 24)) * RATE)
    parts = draw.integers(-9000, 9000, (2, count)) * np.array([[1.0], [draw.uniform(0.3, 1)]])
    return parts * np.abs(np.sin(np.arange(count) / draw.integers(900, 5000, (2, 1)))) / 32768


def make(folder: Path, hours: float, data: Path) -> None:
    """Write the loose files, and their list at the end."""
    from usepcli.audio import io

    draw, seconds, rows, two = np.random.default_rng(0), 0.0, list[dict[str, str]](), talk(data)
    while seconds < 3600 * hours:
        name = f"{len(rows):06d}"
        parts = np.rint(two(draw) * 32768) / 32768
        for part, wave in (("mix", parts.sum(0)), ("s1", parts[0]), ("s2", parts[1])):
            io.write(folder / "wav" / name / f"{part}.wav", wave.astype(np.float32), RATE)
        split = "train" if len(rows) % 100 else "valid"
        rows.append({part: f"wav/{name}/{part}.wav" for part in ("mix", "s1", "s2")} | {"id": name, "split": split})
        seconds += parts.shape[1] / RATE
    text = StringIO(newline="")
    table = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    (folder / "list.csv").write_text(text.getvalue())


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Serves ranges of files, which the server of the standard library does not."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.translate_path(self.path)
        if not os.path.isfile(path):
            self.send_error(404)
            return
        size, asked = os.path.getsize(path), self.headers.get("Range", "")
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, end = int(first or 0), min(int(last or size - 1), size - 1)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(end - start + 1))
        self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
        self.end_headers()
        with open(path, "rb") as file:
            file.seek(start)
            self.wfile.write(file.read(end - start + 1))

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def speed(manifest: Path, order: str, items: int) -> float:
    """Return the items a second that one process reads, mixture and sources, in segments of 4 s."""
    from usepcli.data.examples import FixedMixtures
    from usepcli.data.manifest import Manifest
    from usepcli.data.order import Order, shards
    from usepcli.data.sampling import EpochBatches

    listed = Manifest.read(manifest).split("train")
    data = FixedMixtures(listed, RATE, 4.0, 0, True)
    assert data.deal is not None
    near = Order(len(data), 0, data.deal.files, shards(listed), 4, 200) if order == "shards" else None
    keys = [key for batch in EpochBatches(len(data), BATCH, 1, 0, order=near) for key in batch][:items]
    begin = time.perf_counter()
    for key in keys:
        if data[key].bad_files:
            raise SystemExit(f"unusable: {data[key].bad_files}")
    return len(keys) / (time.perf_counter() - begin)


def heard(manifest: Path, world: int, epoch: int) -> Counter[str]:
    """Return how often each mixture comes in an epoch of so many ranks, tar by tar and sorted by length."""
    from usepcli.data.crops import seconds
    from usepcli.data.manifest import Manifest
    from usepcli.data.order import Order, shards
    from usepcli.data.sampling import EpochBatches

    listed = Manifest.read(manifest).split("train")
    places = np.arange(len(listed))
    order = Order(len(listed), 0, lambda _: places, shards(listed), 4, 200, seconds(listed.rows), 20)
    found: Counter[str] = Counter()
    for rank in range(world):
        batches = EpochBatches(len(listed), 16, 1, 0, rank, world, None, order)
        batches.start(epoch)
        found.update(listed.rows[i].id for batch in batches for _, i in batch)
    return found


def padding(manifest: Path) -> list[str]:
    """Return what padding takes of micro-batches of 8 whole utterances, by data.bucket."""
    from usepcli.data.crops import seconds
    from usepcli.data.manifest import Manifest
    from usepcli.data.order import Order, padded

    lengths = seconds(Manifest.read(manifest).split("train").rows)
    places = np.arange(len(lengths))
    orders = {n: Order(len(lengths), 0, lambda _: places, lengths=lengths, bucket=n) for n in (0, 10, 100)}
    return [f"{100 * padded(lengths, order(0, 8, 8), 8):.1f} % (bucket {n})" for n, order in orders.items()]


def below(pid: int) -> list[int]:
    """Return the processes that a process has started, and theirs."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found += [*below(child), child]
    return found


def train(
    folder: Path, name: str, manifest: Path, steps: int, ranks: int, more: str, kills: int = 0
) -> tuple[Path, int]:
    """Train to the end, killed so many times on the way; return the run's folder and the number of kills that hit."""
    profile, run, hits = folder / f"{name}.yaml", folder / name, 0
    shutil.rmtree(run, ignore_errors=True)
    profile.write_text(PROFILE.format(manifest=manifest, steps=steps, more=more))
    launch = ["--ranks", str(ranks)] if ranks > 1 else []
    line = [sys.executable, "-m", "usepcli", "train", "--profile", str(profile), "-o", str(run), *launch]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    for left in range(kills, -1, -1):
        with open(folder / f"{name}.log", "a") as log:
            done = subprocess.Popen(line, env=environ, stdout=log, stderr=log, start_new_session=True)
        if left:
            hits += killed(done, run / "last.ckpt", random.Random(left).uniform(0, 1))
        elif done.wait():
            raise SystemExit(f"{name}: ended with {done.returncode}; see {folder / name}.log")
    return run, hits


def killed(process: subprocess.Popen[bytes], saved: Path, wait_s: float) -> bool:
    """Kill a training with its ranks and workers a moment after it has saved; False where it ended before."""
    begun = saved.stat().st_mtime_ns if saved.exists() else 0
    end = time.monotonic() + 600
    while time.monotonic() < end and process.poll() is None:
        with suppress(FileNotFoundError):
            if saved.stat().st_mtime_ns > begun:
                break
        time.sleep(0.05)
    time.sleep(wait_s)
    hit = process.poll() is None
    for pid in [*below(process.pid), process.pid] if hit else []:  # ranks and workers are groups of their own
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    return hit


def same_weights(run: Path, other: Path) -> bool:
    """Whether two runs keep the same bits."""
    import torch

    from usepcli.engine.training.states import load_last

    one, two = ((load_last(path)[0] or {})["objective"] for path in (run, other))
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def losses(run: Path) -> list[str]:
    """Return the losses that a run's log holds, as text."""
    with open(run / "train.csv", newline="") as file:
        return [row["loss"] for row in csv.DictReader(file)]


def main() -> int:
    """Make, read, train and compare; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=0.25)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--items", type=int, default=400, help="read for each figure of items a second")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--size", default="3MB", help="of one tar")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("USEP_SHARED_DATA") or "/nowhere"))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--keep", action="store_true", help="leave the set and the runs where they are")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="usep-shards-"))
    try:
        return compare(folder.resolve(), asked)
    finally:
        if not asked.keep:
            shutil.rmtree(folder, ignore_errors=True)


def compare(folder: Path, asked: argparse.Namespace) -> int:
    """Print the table; return 1 where something does not hold."""
    from usepcli.engine.preparing.prepare import prepare

    files, tars, far = folder / "files", folder / "tars", folder / "far"
    if not (files / "list.csv").exists():
        make(files, asked.hours, asked.data)
    prepare(files / "list.csv", folder / "loose", "csv", quiet=True, overwrite=True)
    shutil.rmtree(tars, ignore_errors=True)
    begin = time.perf_counter()
    made = prepare(files / "list.csv", tars, "csv", quiet=True, shards=asked.size)
    packed = sorted((tars / "shards").glob("*.tar"))
    total = sum(path.stat().st_size for path in packed)
    rows = [("set", f"{sum(made.seconds.values()) / 3600:.1f} h, {len(packed)} tars, {total / 1e9:.2f} GB; packed "
             f"in {time.perf_counter() - begin:.0f} s")]  # fmt: skip
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=str(tars / "shards")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    where = f"http://127.0.0.1:{server.server_port}/train-{{000000..{len(packed) - 2:06d}}}.tar"
    prepare(where, far, "tar", quiet=True, overwrite=True)  # another port each time
    for what, place, order in (
        ("files, by chance", folder / "loose", "shuffle"), ("tars, by chance", tars, "shuffle"),
        ("tars, order: shards", tars, "shards"), ("tars through http, order: shards", far, "shards"),
    ):  # fmt: skip
        rows.append((f"items/s from {what}", f"{speed(place, order, asked.items):.0f}"))
    server.shutdown()
    rows.append(("padding of 8 whole utterances", ", ".join(padding(tars))))
    ranks = all(heard(tars, 1, epoch) == heard(tars, 2, epoch) for epoch in range(3))
    rows.append(("three epochs of one rank and of two hold the same items", str(ranks)))
    short = max(10, asked.steps // 4)
    (one, _), (other, _) = (train(folder, f"from_{p.name}", p, short, 1, PARTS) for p in (folder / "loose", tars))
    curve = losses(one) == losses(other) and same_weights(one, other)
    rows.append((f"{short} steps from tars and from files end with the same bits", str(curve)))
    whole, _ = train(folder, "whole", tars, asked.steps, 2, ORDERED)
    again, hits = train(folder, "killed", tars, asked.steps, 2, ORDERED, asked.kills)
    resumed = losses(whole) == losses(again) and same_weights(whole, again) and hits == asked.kills
    ended = f"{asked.steps} steps of two ranks, sorted by length, killed {hits} times: the bits of an undisturbed run"
    rows.append((ended, str(resumed)))
    print("\n".join(f"| {what} | {found} |" for what, found in [("", ""), ("---", "---"), *rows]))
    return 0 if ranks and curve and resumed else 1


if __name__ == "__main__":
    sys.exit(main())
