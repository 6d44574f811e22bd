"""Damage to what separate, evaluate, listen, remix and prepare-data leave behind; what going on with it says.

    python benchmarks/damage_results.py [--seed 0] [--share 0.2] [--only NAME]

Each folder is made once. Each of its small files is damaged in the ways of `damage.py`, and the commands that go on
from the folder, or read it, run on the copy. The script ends with 1 where one met a bug (exit 1), or changed a file
though it refused.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import damage

MOST = 1 << 20  # bytes of a file that is damaged; sound is left as it is
SCORE = ["--data", "data", "--split", "train", "--metric", "si-snri"]
MADE = {
    "separated": [["separate", "talks", "-o", "FOLDER", "--model", "toy"]],
    "shared": [["separate", "talks", "-o", "FOLDER", "--model", "toy", "--shard", f"{i}/2"] for i in (1, 2)],
    "scores": [["evaluate", "toy", *SCORE, "-o", "FOLDER"]],
    "half": [["evaluate", "toy", *SCORE, "-o", "FOLDER", "--shard", "1/2"]],
    "prepared": [["prepare-data", "talks", "-o", "FOLDER", "--corpus", "folder"]],
    "shuffled": [["remix", "--shuffle", "data", "--batch", "2", "-o", "FOLDER"]],
    "listened": [["listen", "make", "toy", "--data", "data", "--split", "train", "-n", "4", "-o", "FOLDER"]],
    "models": [],
}
TRIED = {
    "separated": [MADE["separated"][0], [*MADE["separated"][0], "--report"], ["remix", "FOLDER/outputs.csv", "--file",
                  "0.wav", "-o", "new.wav", "--overwrite"], ["separate", "FOLDER", "-o", "other", "--model", "toy"]],
    "shared": [[*MADE["separated"][0], "--merge"], MADE["separated"][0]],
    "scores": [MADE["scores"][0], ["evaluate", "toy", *SCORE, "-o", "other", "--versus", "FOLDER", "--overwrite"],
               [*MADE["scores"][0], "--compare", "small_pit"]],
    "half": [MADE["scores"][0], [*MADE["scores"][0], "--merge"]],
    "prepared": [MADE["prepared"][0], ["prepare-data", "FOLDER", "--check", "-o", "other", "--overwrite"],
                 ["train", "--profile", "prepared.yaml", "-o", "other", "--dry-run"]],
    "shuffled": [MADE["shuffled"][0], ["prepare-data", "FOLDER", "--check", "-o", "other", "--overwrite"]],
    "listened": [["listen", "score", "FOLDER", "-o", "other", "--overwrite"]],
    "models": [["info", "FOLDER/toy.safetensors"], ["separate", "talks/0.wav", "-o", "other", "--overwrite", "--model",
               "FOLDER/toy.safetensors"], ["models"]],
}  # fmt: skip


def prepared() -> None:
    """Write data, a model and a profile into the working folder."""
    import numpy as np

    from usepcli.audio import io as audio

    for name in ("data", "talks", "models"):
        Path(name).mkdir()
    damage.corpus(Path("data"))
    Path("tiny.yaml").write_text(damage.PROFILE.format(data="data"))
    code, said = damage.usep("train", "--profile", "tiny.yaml", "-o", "run")
    assert code == 0, said
    shutil.copy("run/best.safetensors", "models/toy.safetensors")
    draw = np.random.default_rng(0)
    for i in range(3):
        audio.write(Path("talks") / f"{i}.wav", (0.1 * draw.standard_normal(4000)).astype(np.float32), 8000)
    mixit = damage.PROFILE.format(data="now").replace("metric: si-snri", "metric: momi")
    Path("prepared.yaml").write_text(mixit + "objective: {name: mixit}\n")


def lines_of(lines: list[list[str]], folder: str) -> list[list[str]]:
    """Return command lines with the name of the folder."""
    return [[word.replace("FOLDER", folder) for word in line] for line in lines]


def answered(folder: Path) -> None:
    """Leave answers to a listening test in its folder, as its page saves them."""
    import csv

    with open(folder / "key.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    table = [["test", "listener", "trial", "answer", "seconds"]]
    table += [[row["test"], "ann", row["trial"], "A", "3.5"] for row in rows]
    with open(folder / "answers_ann.csv", "w", newline="") as file:
        csv.writer(file).writerows(table)


def main() -> int:
    """Run all, and print one line for each file and command, and each thing that was wrong."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--share", type=float, default=0.2, help="of the damages, drawn")
    asked.add_argument("--only", default="", help="folders whose name holds this")
    words = asked.parse_args()
    draw, wrong = random.Random(words.seed), 0
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    with tempfile.TemporaryDirectory(prefix="damage_") as work, contextlib.chdir(work):
        prepared()
        for kind in (kind for kind in MADE if words.only in kind):
            for line in lines_of(MADE[kind], "now"):
                code, said = damage.usep(*line)
                assert code == 0, said
            if kind == "listened":
                answered(Path("now"))
            if kind == "models":
                shutil.copytree("models", "now")
            shutil.move("now", "whole")
            for path in sorted(p for p in Path("whole").rglob("*") if p.is_file()):
                if path.stat().st_size > MOST or path.suffix in (".wav", ".html", ".png", ".lock", ".js"):
                    continue
                for name, raw in damage.damages(path, draw):
                    if draw.random() > words.share:
                        continue
                    for line in lines_of(TRIED[kind], "now"):
                        for folder in ("now", "other"):
                            shutil.rmtree(folder, ignore_errors=True)
                        shutil.copytree("whole", "now")
                        (Path("now") / path.relative_to("whole")).write_bytes(raw)
                        code, fault = damage.tried(name, line, Path("now"))
                        counts[" ".join(line)[:40]][code] += 1
                        if fault:
                            wrong += 1
                            told = f"{' '.join(line)[:60]} ended with {code}: {fault[-300:]}"
                            print(f"  {path.name}, {name}: {told}", flush=True)
            print(kind, {line: dict(codes) for line, codes in counts.items()}, flush=True)
            counts.clear()
            for folder in ("whole", "now", "other"):
                shutil.rmtree(folder, ignore_errors=True)
    print(f"{wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
