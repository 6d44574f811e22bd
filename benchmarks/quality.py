"""What `--overlap`, `--shifts` and `--speeds` gain, and what they cost: pairs of test talkers of a speech folder, 24 s.

Speech of the test talkers is joined as in image.py, at the model's rate, levels within 5 dB; or the mixtures are those
of a prepared set. SI-SDRi is the mean over sources in the better order over the whole mixture; the gain is that over
the usual settings on the same mixture, its interval 1.96 standard errors over mixtures, the time that of all mixtures
against the usual settings.

    python benchmarks/quality.py SPEECH -o quality.csv --pairs 24 --seed 7
    python benchmarks/quality.py --set data/two16 --split valid --only speeds      # instead: mixtures of a prepared set
"""

from __future__ import annotations

import argparse
import csv
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import image
import numpy as np

from usepcli import How, Separator
from usepcli.data.items import Reader
from usepcli.data.manifest import Manifest

SECONDS = 24
SETTINGS = {
    "usual": How(), "--overlap 0.5": How(overlap=0.5), "--shifts 2": How(shifts=2), "--shifts 5": How(shifts=5),
    "--speeds 3": How(speeds=3), "--speeds 5": How(speeds=5), "--speeds 3 --shifts 2": How(speeds=3, shifts=2),
}  # fmt: skip


def si_sdr(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Return the scale-invariant ratio in dB of waves (T,)."""
    target = reference * (estimate @ reference) / (reference @ reference)
    return float(10 * np.log10((target @ target) / np.sum((estimate - target) ** 2)))


def improvement(sources: np.ndarray, talkers: np.ndarray) -> float:
    """Return SI-SDRi in dB of sources (2, T), in the better order."""
    mixture = talkers.sum(0)
    before = np.mean([si_sdr(mixture, talker) for talker in talkers])
    orders = itertools.permutations(sources)
    return float(max(np.mean([si_sdr(s, t) for s, t in zip(order, talkers, strict=True)]) for order in orders) - before)


def pairs(given: argparse.Namespace, rate: int) -> Iterator[np.ndarray]:
    """Yield pairs of talkers (2, T) of a folder of speech."""
    image.SECONDS = SECONDS
    speech, draw = image.Talkers(given.speech), np.random.default_rng(given.seed)
    for _ in range(given.pairs):
        yield speech.pair(draw, rate)


def prepared(folder: Path, split: str, rate: int) -> Iterator[np.ndarray]:
    """Yield the sources (2, T) of a split of a prepared set."""
    reader = Reader(Manifest.read(folder), rate)
    for row in reader.manifest.split(split).rows:
        yield reader.sources(row, row.frames * rate // row.sample_rate).astype(np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("speech", type=Path, nargs="?")
    parser.add_argument("--set", type=Path, help="a prepared set of mixtures of two, in place of pairs")
    parser.add_argument("--split", default="test")
    parser.add_argument("--only", default="", help="settings whose name holds this, beside the usual")
    parser.add_argument("-o", "--out", type=Path, default=Path("quality.csv"))
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--model", default="default")
    given = parser.parse_args()
    separator = Separator.load(given.model, "cpu", 1)
    settings = {name: how for name, how in SETTINGS.items() if name == "usual" or given.only in name}
    scores: dict[str, list[float]] = {name: [] for name in settings}
    spent = dict.fromkeys(settings, 0.0)
    for talkers in prepared(given.set, given.split, separator.rate) if given.set else pairs(given, separator.rate):
        for name, how in settings.items():
            begin = time.process_time()
            found = separator(talkers.sum(0).astype(np.float32), separator.rate, how).sources.astype(np.float64)
            spent[name] += time.process_time() - begin
            scores[name].append(improvement(found, talkers))
    with open(given.out, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["setting", "si_sdri_db", "gain_db", "interval_db", "time", "pairs"])
        for name, values in scores.items():
            gains = np.array(values) - np.array(scores["usual"])
            half = 1.96 * gains.std(ddof=1) / np.sqrt(len(gains))
            row = [f"{x:.2f}" for x in (np.mean(values), gains.mean(), half, spent[name] / spent["usual"])]
            table.writerow([name, *row, len(gains)])


if __name__ == "__main__":
    main()
