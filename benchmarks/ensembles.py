"""What models that are joined by + gain over the best of them, and what it costs: pairs of test talkers.

Speech of the test talkers is joined as in image.py, levels within 5 dB, at 8 kHz, by default 40 pairs of 24 s. SI-SDRi
is the mean over sources in the better order over the whole mixture; the gain of an ensemble is that over the best of
its models on the same mixtures, its interval 1.96 standard errors over mixtures; time is processor time over duration.
Beside each ensemble stands the mean of what its models give alone, brought into one order once for the whole file
instead of chunk by chunk (`whole file`).

    python benchmarks/ensembles.py SPEECH -o ensembles.csv --models default+live default+speech_unsupervised
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import defaultdict
from pathlib import Path

import image
import numpy as np
from quality import improvement

from usepcli import Separator
from usepcli.dsp.overlap import best_order, similarity

RATE = 8000
COLUMNS = ["model", "si_sdri_db", "interval_db", "over", "gain_db", "gain_interval_db", "time", "pairs", "seconds"]


def half(values: np.ndarray) -> float:
    """Return 1.96 standard errors of values (Q,)."""
    return float(1.96 * values.std(ddof=1) / np.sqrt(len(values)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("speech", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("ensembles.csv"))
    parser.add_argument("--models", nargs="+", default=["default+live"])
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--seconds", type=int, default=24)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    image.SECONDS = given.seconds
    speech, draw = image.Talkers(given.speech), np.random.default_rng(given.seed)
    single = list(dict.fromkeys(name for joined in given.models for name in joined.split("+")))
    models = {name: Separator.load(name, "cpu", 1) for name in (*single, *given.models)}
    scores, spent = defaultdict(list), defaultdict(float)
    for _ in range(given.pairs):
        talkers, found = speech.pair(draw, RATE), {}
        for name, separator in models.items():
            begin = time.process_time()
            found[name] = separator(talkers.sum(0).astype(np.float32), RATE).sources.astype(np.float64)
            spent[name] += time.process_time() - begin
        for joined in given.models:
            first, *others = (found[name] for name in joined.split("+"))
            lined = [first, *(other[best_order(similarity(first, other))[0]] for other in others)]
            found[f"{joined}, whole file"] = np.mean(lined, axis=0)
        for name, sources in found.items():
            scores[name].append(improvement(sources, talkers))
    means = {name: np.array(values) for name, values in scores.items()}
    with open(given.out, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for name, values in means.items():
            row = [name, f"{values.mean():.2f}", f"{half(values):.2f}", "", "", ""]
            if "+" in name:
                best = max(name.split(",")[0].split("+"), key=lambda one: means[one].mean())
                gains = values - means[best]
                row[3:] = [best, f"{gains.mean():.2f}", f"{half(gains):.2f}"]
            took = spent[name] / (given.pairs * given.seconds)
            table.writerow([*row, f"{took:.3f}" if took else "", given.pairs, given.seconds])


if __name__ == "__main__":
    main()
