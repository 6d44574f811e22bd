"""Swaps that remain of swaps injected: usep's tracking of sources over chunks beside the naive neighbour rule.

Long recordings of two talkers are built from a folder of real speech with labelled talkers: utterances and pauses of
up to `--pause` seconds, several pairs, of equal and of different voices. Every chunk's estimates are put into an order
drawn by a seed before they are joined. The estimates are the released model's, or the true talkers with leaks
("leak:8" leaks at -8 dB, the share of every bin drawn anew for each chunk). Counted per recording: seams; chunks
inside which the estimates keep one order against the true talkers (`steady`; in the others the model itself exchanges
them, or nobody can be told); changes of order from one steady chunk to the next before the tracker (`injected`) and
after it (`remaining`); and the share of seconds that are not in the usual order, into which go the exchanges inside
chunks. For the tracker of usep, for the naive rule, which compares neighbours alone by the sum of raw correlations on
the overlap, and for an oracle that knows the talkers. `sure`: seams of confidence >= 0.9. A seam between two steady
chunks is `judged`, and wrong where the order changes across it: those of the sure and of the other seams are counted
apart. usep's tracker was tuned on the pairs of `--seed 100`.

    python benchmarks/seams.py SPEECH --minutes 10 --pairs 6 --model default --model leak:8 -o seams.csv
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

RATE = 8000
CLEAR = 0.2  # share of the power by which one order must fit better than all others
HUSH = 1e-3 * 0.05**2  # 30 dB below the talkers' level
COLUMNS = [
    "estimates", "pair", "pause_s", "chunk_s", "overlap_s", "tracker", "seams", "steady", "injected", "remaining",
    "share_in_wrong_order", "sure", "sure_judged", "sure_wrong", "unsure_judged", "unsure_wrong",
]  # fmt: skip


def voices(folder: Path, least_s: float, splits: list[str] | None = None) -> dict[str, list[Path]]:
    """Return the utterances of every labelled talker who has at least `least_s` seconds."""
    with (folder / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["label"]]
    rows = [row for row in rows if splits is None or row["split"] in splits]
    lasts: dict[str, float] = {}
    for row in rows:
        lasts[row["label"]] = lasts.get(row["label"], 0.0) + float(row["duration_s"])
    kept = sorted(label for label, length in lasts.items() if length >= least_s)
    return {label: [folder / row["path"] for row in rows if row["label"] == label] for label in kept}


def talk(paths: list[Path], seconds: float, pause_s: float, draw: np.random.Generator) -> np.ndarray:
    """Return one talker (T,): utterances in random order with pauses drawn from 0 to 2, or sometimes `pause_s`."""
    from usepcli.audio import io
    from usepcli.audio.resample import resample

    out, count = np.zeros(round(seconds * RATE), np.float32), 0
    known: dict[Path, np.ndarray] = {}
    while count < len(out):
        longest = pause_s if draw.random() < 0.3 else min(2.0, pause_s)
        count += int(draw.uniform(0, longest) * RATE)
        path = paths[draw.integers(len(paths))]
        if path not in known:
            wave, rate = io.read(path)
            known[path] = resample(wave[0], rate, RATE)
            known[path] *= np.float32(0.05 / np.sqrt(np.square(known[path]).mean() + 1e-12))
        part = known[path][: max(0, len(out) - count)]
        out[count : count + len(part)] = part
        count += len(part)
    return out


def leaky(true: np.ndarray, leak_db: float, draw: np.random.Generator) -> np.ndarray:
    """Return the sources (N, L) leaking into each other bin by bin, adding up to their sum."""
    import torch

    from usepcli.dsp.stft import STFT

    stft, share = STFT(512, 512, 128), 10 ** (leak_db / -10)
    spectrum = stft(torch.from_numpy(true))
    part = torch.from_numpy(draw.beta(0.5, 0.5 / share - 0.5, (len(true), *spectrum.shape[1:]))).float()
    given = part * spectrum
    rest = spectrum - given + (given.sum(0) - given) / max(1, len(true) - 1)
    return stft.inverse(rest, true.shape[1]).numpy()


def estimates(name: str, true: np.ndarray, spans: list[tuple[int, int]], seed: int) -> Iterator[np.ndarray]:
    """Yield the estimates (N, L) of every chunk, by a model or leaking."""
    from usepcli.separator.separator import Separator

    draw = np.random.default_rng(seed)
    separator = None if name.startswith("leak:") else Separator.load(name, "cpu", 1)
    for start, stop in spans:
        part = true[:, start:stop]
        if separator is None:
            yield leaky(part, float(name[5:]), draw)
        else:
            yield separator.rows(part.sum(0)[None])[0]


def order_of(est: np.ndarray, true: np.ndarray) -> tuple[int, ...] | None:
    """Return which talker each of est (N, L) is, or None where too little sounds, or too alike, to tell."""
    power = float(np.square(true, dtype=np.float64).sum())
    if power < HUSH * true.shape[1]:
        return None
    score = est.astype(np.float64) @ true.T.astype(np.float64)
    ways = {p: sum(score[i, k] for i, k in enumerate(p)) for p in itertools.permutations(range(len(true)))}
    first, second = sorted(ways, key=ways.__getitem__, reverse=True)[:2]
    return first if ways[first] - ways[second] > CLEAR * power else None


def in_wrong_order(est: np.ndarray, true: np.ndarray) -> float:
    """Return the share of the seconds of est (N, T) that are not in the most frequent order."""
    parts = range(0, true.shape[1] - RATE + 1, RATE)
    found = [order_of(est[:, at : at + RATE], true[:, at : at + RATE]) for at in parts]
    clear = [order for order in found if order is not None]
    return 1 - max(clear.count(order) for order in set(clear)) / len(clear)


class Oracle:
    """The best order of every chunk as a whole, from the true talkers: what no tracker of chunks can surpass."""

    def __init__(self, true: np.ndarray) -> None:
        self.true = true

    def push(self, start: int, new: np.ndarray) -> tuple[int, ...]:
        """Return the order of chunk estimates (N, L)."""
        score = self.true[:, start : start + new.shape[1]].astype(np.float64) @ new.T
        ways = itertools.permutations(range(len(new)))
        return max(ways, key=lambda p: sum(score[i, k] for i, k in enumerate(p)))


class Naive:
    """The neighbour rule: the order with the largest sum of raw correlations on the overlap, without memory."""

    def __init__(self) -> None:
        self.old: np.ndarray | None = None
        self.stop = 0

    def push(self, start: int, new: np.ndarray) -> tuple[int, ...]:
        """Return the order of chunk estimates (N, L)."""
        order = tuple(range(len(new)))
        if self.old is not None:
            shared = self.stop - start
            score = self.old[:, -shared:].astype(np.float64) @ new[:, :shared].T.astype(np.float64)
            ways = itertools.permutations(order)
            order = max(ways, key=lambda p: sum(score[i, k] for i, k in enumerate(p)))
        self.old, self.stop = new[list(order)], start + new.shape[1]
        return order


class Tracked:
    """The tracker of `usep separate`."""

    def __init__(self, overlap: int) -> None:
        from usepcli.separator.stitch import Stitcher

        self.stitcher = Stitcher(overlap, RATE)

    def push(self, start: int, new: np.ndarray) -> tuple[int, ...]:
        """Return the order of chunk estimates (N, L)."""
        self.stitcher.push(start, new[:, None])
        seams = self.stitcher.seams
        return seams[-1].order if seams else tuple(range(len(new)))


def count_swaps(name: str, true: np.ndarray, chunk: int, overlap: int, seed: int) -> Iterator[dict[str, object]]:
    """Yield one row per tracker for a recording of known talkers (N, T)."""
    from usepcli.dsp import overlap as ola

    spans, draw = ola.spans(true.shape[1], chunk, overlap), np.random.default_rng(seed)
    mixed = [est[draw.permutation(len(true))] for est in estimates(name, true, spans, seed)]
    steady = steady_orders(mixed, spans, true)
    trackers: dict[str, Tracked | Naive | Oracle]
    trackers = {"usep": Tracked(overlap), "naive": Naive(), "oracle": Oracle(true)}
    for who, tracker in trackers.items():
        placed = [est[list(tracker.push(start, est))] for (start, _), est in zip(spans, mixed, strict=True)]
        whole = np.zeros_like(true)
        for (start, stop), est in zip(spans, placed, strict=True):
            whole[:, start:stop] = est
        row: dict[str, object] = {"tracker": who, "seams": len(spans) - 1}
        row["steady"] = sum(order is not None for order in steady)
        kept = steady_orders(placed, spans, true)
        row |= {"injected": changes(steady), "remaining": changes(kept)}
        row["share_in_wrong_order"] = round(in_wrong_order(whole, true), 4)
        if isinstance(tracker, Tracked):
            row |= judged([seam.confidence >= 0.9 for seam in tracker.stitcher.seams], kept)
        yield row


def judged(sure: list[bool], kept: list[tuple[int, ...] | None]) -> dict[str, object]:
    """Return how many seams are sure, and how many of the sure and of the others are wrong as far as one can tell."""
    wrong = [None if None in pair else pair[0] != pair[1] for pair in itertools.pairwise(kept)]
    row: dict[str, object] = {"sure": sum(sure)}
    for name, said in (("sure", True), ("unsure", False)):
        told = [bad for bad, yes in zip(wrong, sure, strict=True) if yes == said and bad is not None]
        row |= {f"{name}_judged": len(told), f"{name}_wrong": sum(told)}
    return row


def steady_orders(
    placed: list[np.ndarray], spans: list[tuple[int, int]], true: np.ndarray
) -> list[tuple[int, ...] | None]:
    """Return the order of every chunk in which all seconds that can be told have one and the same, else None."""
    found: list[tuple[int, ...] | None] = []
    for est, (start, stop) in zip(placed, spans, strict=True):
        parts = range(start, stop - RATE + 1, RATE)
        seconds = {order_of(est[:, at - start :][:, :RATE], true[:, at : at + RATE]) for at in parts} - {None}
        found.append(seconds.pop() if len(seconds) == 1 else None)
    return found


def changes(orders: list[tuple[int, ...] | None]) -> int:
    """Return how often the order changes from one known one to the next."""
    return sum(a != b for a, b in itertools.pairwise(order for order in orders if order is not None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "speech", type=Path, metavar="SPEECH", help="folder with manifest.csv (path, label, duration_s)"
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=100, help="of the first pair; the next pairs count on from it")
    parser.add_argument("--split", default="test,valid", help="talkers of these splits; empty for all")
    parser.add_argument("--least-s", type=float, default=9.0, help="talkers with at least so many seconds")
    parser.add_argument("--model", action="append", help="released name, model file or leak:DB")
    parser.add_argument("--pause", type=float, action="append", help="longest pause in seconds")
    parser.add_argument("--chunk-s", type=float, action="append")
    parser.add_argument("--overlap-s", type=float, default=2.0)
    parser.add_argument("-o", "--out", type=Path, default=Path("seams.csv"))
    asked = parser.parse_args()
    known = voices(asked.speech, asked.least_s, asked.split.split(",") if asked.split else None)
    with asked.out.open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, restval="")
        table.writeheader()
        cases = itertools.product(
            asked.model or ["default", "leak:8"], asked.pause or [2.0, 15.0], asked.chunk_s or [10.0]
        )
        for model, pause_s, chunk_s in cases:
            for number in range(asked.seed, asked.seed + asked.pairs):
                draw = np.random.default_rng(number)
                pair = draw.choice(sorted(known), 2, replace=False)
                true = np.stack([talk(known[label], asked.minutes * 60, pause_s, draw) for label in pair])
                case = {"estimates": model, "pair": " ".join(pair), "pause_s": pause_s, "chunk_s": chunk_s}
                case["overlap_s"] = min(asked.overlap_s, chunk_s / 4)
                for row in count_swaps(model, true, round(chunk_s * RATE), round(case["overlap_s"] * RATE), number):
                    table.writerow(case | row)
                    print(case | row, flush=True)
                file.flush()


if __name__ == "__main__":
    main()
