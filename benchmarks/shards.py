"""Ten hours in tar files: read from disk and through HTTP, trained by two ranks, killed, and gone on with.

    python benchmarks/shards.py [--hours 10] [--steps 120] [--folder DIR] [--keep]

Makes mixtures of two noises with the lengths of read speech (8 kHz, 16 bits), writes them with `usep prepare-data
--shards`, and prints a table: items a second from files, from tars, and from tars behind a server on this machine;
what padding takes with and without data.bucket; whether two ranks hear what one hears; whether a training from tars
has the losses of one from files; and whether two ranks that were killed (-9) and started again end with the weights of
two that were not. The exit code is 1 where one of these does not hold.
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
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

RATE, BATCH = 8000, 4
PROFILE = """
extends: small_pit
about: shards
data: {{manifest: {manifest}, pool: [], mixing: fixed, segment_s: 1.0, epoch_items: 0, join_prob: 0.0, cache: false
        {more}}}
model: {{name: convtasnet, n_src: 2, sample_rate: 8000, filters: 16, bottleneck: 8, hidden: 16, skip: 8, blocks: 2,
         repeats: 1}}
train: {{batch_size: 4, epochs: 9, max_steps: {steps}, workers: 1, log_every: 5, checkpoint_every_s: 3}}
valid: {{limit: 2, mom_pairs: 0}}
"""
ORDERED = ", order: shards, shard_window: 4, shard_reach: 200"


def make(folder: Path, hours: float) -> int:
    """Write the loose files and their list; return the number of mixtures."""
    from usepcli.audio import io

    draw, seconds, rows = np.random.default_rng(0), 0.0, list[dict[str, str]]()
    while seconds < 3600 * hours:
        length = float(np.clip(draw.gamma(7, 1.8), 1.2, 24))  # about as LibriSpeech's dev and test sets
        name, count = f"{len(rows):06d}", round(length * RATE)
        parts = draw.integers(-9000, 9000, (2, count)) * np.array([[1.0], [draw.uniform(0.3, 1)]])
        parts = np.rint(parts * np.abs(np.sin(np.arange(count) / draw.integers(900, 5000, (2, 1))))) / 32768
        for part, wave in (("mix", parts.sum(0)), ("s1", parts[0]), ("s2", parts[1])):
            io.write(folder / "wav" / name / f"{part}.wav", wave.astype(np.float32), RATE)
        split = "train" if len(rows) % 100 else "valid"
        rows.append({part: f"wav/{name}/{part}.wav" for part in ("mix", "s1", "s2")} | {"id": name, "split": split})
        seconds += length
    with open(folder / "list.csv", "w", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    return len(rows)


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


def train(folder: Path, name: str, manifest: Path, steps: int, ranks: int, more: str, kills: int = 0) -> Path:
    """Train to the end, killed so many times on the way, and return the run's folder."""
    profile, run = folder / f"{name}.yaml", folder / name
    profile.write_text(PROFILE.format(manifest=manifest, steps=steps, more=more))
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    line = [sys.executable, *launch, "-m", "usepcli", "train", "--profile", str(profile), "-o", str(run)]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    for left in range(kills, -1, -1):
        log = open(folder / f"{name}.log", "a")  # noqa: SIM115 - of the process
        done = subprocess.Popen(line, env=environ, stdout=log, stderr=log, start_new_session=True)
        if left:
            begun = (run / "last.ckpt").stat().st_mtime_ns if (run / "last.ckpt").exists() else 0
            end = time.monotonic() + 600
            while time.monotonic() < end and done.poll() is None:
                if (run / "last.ckpt").exists() and (run / "last.ckpt").stat().st_mtime_ns > begun:
                    break
                time.sleep(0.05)
            time.sleep(random.Random(left).uniform(0, 2))
            for pid in [*below(done.pid), done.pid]:  # ranks and workers are groups of their own
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            done.wait()
        elif done.wait():
            raise SystemExit(f"{name}: ended with {done.returncode}; see {folder / name}.log")
        log.close()
    return run


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
    parser.add_argument("--hours", type=float, default=10.0)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--items", type=int, default=400, help="read for each figure of items a second")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--size", default="100MB", help="of one tar")
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
        make(files, asked.hours)
    prepare(files / "list.csv", folder / "loose", "csv", quiet=True)
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
    one, other = (train(folder, f"from_{p.name}", p, short, 1, "") for p in (folder / "loose", tars))
    curve = losses(one) == losses(other) and same_weights(one, other)
    rows.append((f"{short} steps from tars and from files end with the same bits", str(curve)))
    whole = train(folder, "whole", tars, asked.steps, 2, ORDERED)
    killed = train(folder, "killed", tars, asked.steps, 2, ORDERED, asked.kills)
    resumed = losses(whole) == losses(killed) and same_weights(whole, killed)
    ended = f"{asked.steps} steps of two ranks, killed {asked.kills} times: the bits of an undisturbed run"
    rows.append((ended, str(resumed)))
    print("\n".join(f"| {what} | {found} |" for what, found in [("", ""), ("---", "---"), *rows]))
    return 0 if ranks and curve and resumed else 1


if __name__ == "__main__":
    sys.exit(main())
