"""The scores of all released models, in one run: clean, noisy and reverberant mixtures, other languages, one talker.

    usep prepare-data SPEECH -o data/two16 --corpus speakers --rate 16000
    usep prepare-data SPEECH -o data/noise10 --corpus speakers --rate 16000 --noise NOISE --noise-snr 10 10 \\
        --train 2 --valid 2 --test 200
    usep prepare-data SPEECH -o data/reverberant --corpus wsj-mix --rate 16000 --rooms 20 \\
        --train 2 --valid 2 --test 200
    usep prepare-data SPEECH2 -o data/languages --corpus speakers --rate 16000 --train 2 --valid 2 --test 200
    usep prepare-data SPEECH -o data/alone --corpus speakers --rate 16000 --n-src 1 --train 2 --valid 2 --test 100
    usep prepare-data SPEECH -o data/three --corpus speakers --rate 16000 --n-src 3 --train 2 --valid 2 --test 100
    python benchmarks/released.py --data data -o scores [--cards]

The sets of sounds and of noise around one talker are scored where they are there. Scores are improvements over the
mixture in dB, means with 95 % intervals; models of 8 kHz are scored at 16 kHz with the band that they lack. `alone`: by
how much the louder output of a talker alone lies above the other. `three`: the SI-SNRi of the talker who is alone in an
output, where two outputs hold three talkers, by the better assignment (MixIT's). --cards writes the scores into the
models' cards.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from study import figures, machine, read, summary, write

from usepcli import Separator
from usepcli.dsp.decibels import si_snr_db
from usepcli.weights import cards, reach


class Asked(NamedTuple):
    """A set, what it holds, the score that counts there, and further words for usep evaluate."""

    folder: str
    text: str
    score: str = "si-snri"
    words: tuple[str, ...] = ()


PAIRS = "two of 43 unseen talkers (LibriSpeech, speechocean762), 16 kHz, full overlap"
TALKERS = [
    Asked("two16", f"200 mixtures of {PAIRS}, 4 s, levels within +-5 dB"),
    Asked("noise10", f"200 mixtures of {PAIRS}, 4 s, beside noise 10 dB below them"),
    Asked("reverberant", f"200 mixtures of {PAIRS}, in simulated rooms of 0.2 to 1.0 s"),
    Asked("languages", "200 mixtures of two of 20 unseen talkers of other languages (Common Voice), 4 s, full overlap"),
]  # fmt: skip
SOUNDS = "300 mixtures of two and three sounds, 4 s, of recordings that no training met, each by its own words"
SETS: dict[str, list[Asked]] = {
    "default": TALKERS,
    "live": TALKERS,
    "live_5ms": TALKERS,
    "speech_unsupervised": TALKERS,
    "universal": [
        Asked("near", "200 scenes of one to four sounds in simulated rooms", "MSi", ("--protocol", "fuss-google")),
        TALKERS[0],
    ],
    "words_small": [Asked("sounds/set", SOUNDS), Asked("sounds/set", SOUNDS, "sdri")],
    "denoise": [
        Asked("noisy", "200 utterances of 43 unseen talkers in noise of unseen recordings, -5 to 15 dB",
              words=("--assign", "default")),
        Asked("hush", "200 utterances of 43 unseen talkers in noise, sounds, music of unseen recordings, -5 to 15 dB",
              words=("--assign", "default")),
    ],
}  # fmt: skip
TWO = ("default", "live", "live_5ms", "speech_unsupervised")


def scored(model: str, sha256: str, asked: Asked, data: Path, out: Path) -> dict[str, Any]:
    """Return a line with a model's score on a set, made once for its weights."""
    place = out / f"{model}_{sha256}_{asked.folder.replace('/', '_')}_{asked.score}"
    if not (place / "summary.csv").exists():
        metric = ["--metric", asked.score] if "--protocol" not in asked.words else []
        command = [sys.executable, "-m", "usepcli", "evaluate", model, "--data", data / asked.folder, "--split", "test"]
        command += ["-o", place, "--threads", 1, "-q", *metric, *asked.words]
        subprocess.run([str(word) for word in command], stdout=subprocess.DEVNULL, check=True)
    found = summary(place)
    if ("separated", asked.score) not in found:
        raise SystemExit(f"{place}/summary.csv: no {asked.score}; found {sorted(found)}")
    line = figures(found, "separated", (asked.score,))
    return {
        "model": model, "set": asked.folder, "score": asked.score, "n": line[f"{asked.score}_n"],
        "value": line[asked.score], "low": line[f"{asked.score}_low"], "high": line[f"{asked.score}_high"],
    }  # fmt: skip


def note(path: Path, asked: Asked, line: Mapping[str, Any]) -> None:
    """Write a score into a model's card, in the place of one of the same kind on the same data."""
    card, _ = cards.read_card(path)
    numbers = [round(float(line[key]), 2) for key in ("value", "low", "high")]
    score = {
        "metric": asked.score, "value": numbers[0], "ci95": numbers[1:], "n": int(line["n"]), "data": asked.text,
        "protocol": "usep evaluate" + "".join(f" {word}" for word in asked.words),
    }  # fmt: skip
    same = [(one.get("metric"), one.get("data")) == (asked.score, asked.text) for one in card.scores]
    at = same.index(True) if True in same else len(same)
    others = [one for one, known in zip(card.scores, same, strict=True) if not known]
    card.scores = [*others[:at], score, *others[at:]]
    path.write_bytes(cards.with_card(path.read_bytes(), card))


def heard(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the test mixtures (T,) of a prepared folder and their sources (N, T)."""
    import soundfile

    found = []
    for row in (row for row in read(folder / "manifest.csv") if row["split"] == "test"):
        paths = [row["mixture"], *row["sources"].split(";")]
        mix, *sources = (soundfile.read(folder / path, dtype="float64")[0] for path in paths)
        found.append((mix, np.stack(sources)))
    return found


def outputs(model: Separator, mix: np.ndarray) -> np.ndarray:
    """Return the sources (N, T) of a mixture (T,) at 16 kHz."""
    return np.asarray(model(mix, 16000).sources, np.float64)


def alone(name: str, folder: Path) -> dict[str, Any]:
    """Return by how much the louder output of one talker lies above the other, in dB: median and the least of 95 %."""
    model, gaps = Separator.load(name, "cpu", 1), []
    for mix, _ in heard(folder):
        power = np.sort((outputs(model, mix) ** 2).sum(-1))
        gaps.append(10 * np.log10(power[-1] / max(power[-2], 1e-20)))
    return {
        "model": name, "set": "alone", "score": "louder above the other, median and 5th percentile", "n": len(gaps),
        "value": float(np.median(gaps)), "low": float(np.percentile(gaps, 5)), "high": float(np.percentile(gaps, 95)),
        "kept": float(np.mean(np.array(gaps) > 25)),
    }  # fmt: skip


def three(name: str, folder: Path) -> dict[str, Any]:
    """Return what two outputs make of three talkers: how often one is alone in an output, and their SI-SNRi then."""
    model, gains, split = Separator.load(name, "cpu", 1), [], 0
    items = heard(folder)
    for mix, talkers in items:
        est, best = outputs(model, mix), (np.inf, ())
        for where in itertools.product(range(2), repeat=3):  # the output of each talker
            sums = np.stack([talkers[np.equal(where, n)].sum(0) for n in range(2)])
            best = min(best, (float(((est - sums) ** 2).sum()), where))
        where = best[1]
        if len(set(where)) == 2:
            split += 1
            one = next(k for k in range(3) if where.count(where[k]) == 1)
            gains.append(float(si_snr_db(est[where[one]], talkers[one]) - si_snr_db(mix, talkers[one])))
    mean = float(np.mean(gains))
    spread = 1.96 * float(np.std(gains, ddof=1)) / len(gains) ** 0.5
    return {
        "model": name, "set": "three", "score": "SI-SNRi of the talker who is alone in an output", "n": len(gains),
        "value": mean, "low": mean - spread, "high": mean + spread, "kept": split / len(items),
    }  # fmt: skip


def markdown(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return the table for people."""
    text = ["| model | size | scored on | items | score | value | interval |", "|---|---|---|---|---|---|---|"]
    for line in lines:
        size = reach.released()[line["model"]].stat().st_size / 1e6
        value = f"{float(line['value']):.2f} dB"
        spread = f"{float(line['low']):.2f} to {float(line['high']):.2f}"
        what = f"`{line['model']}` | {size:.1f} MB | {line['set']} | {line['n']} | {line['score']}"
        text.append(f"| {what} | {value} | {spread} |")
    return "\n".join([*text, "", f"Means with 95 % intervals; {machine()}.", ""])


def main() -> None:
    """Score every released model on its sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the sets")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--cards", action="store_true", help="write the scores into the models' cards")
    parser.add_argument("--model", action="append", help="these alone; all by default")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, Any]] = []
    for model, path in reach.released().items():
        if given.model and model not in given.model:
            continue
        sha256 = cards.read_header(path).sha256[:16]
        for asked in SETS[model]:
            if (given.data / asked.folder).exists():
                lines.append(scored(model, sha256, asked, given.data.resolve(), given.out.resolve()))
                if given.cards:
                    note(path, asked, lines[-1])
        for kind in (alone, three):
            folder = given.data / kind.__name__
            if model in TWO and folder.exists():
                place = given.out / f"{model}_{sha256}_{kind.__name__}.json"
                if not place.exists():
                    place.write_text(json.dumps(kind(model, folder)), encoding="utf-8")
                lines.append(json.loads(place.read_text(encoding="utf-8")))
        for line in lines:
            line.setdefault("weights", sha256)
            print(line, file=sys.stderr)
    write(given.out / "released.csv", lines)
    (given.out / "released.md").write_text(markdown(lines), encoding="utf-8")
    print(markdown(lines))


if __name__ == "__main__":
    main()
