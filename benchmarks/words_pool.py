"""Sounds for a model that is asked in words: labelled recordings, each under the phrases that people ask for it with.

    python benchmarks/words_pool.py EVENTS MUSIC NOISE SPEECH -o data/sounds --rate 16000
    usep train --profile words_small

Every folder has a manifest.csv (path, label, split, source_repo, licence), or holds speech where it is named so.
sounds_in_words.csv joins labels that people would not tell apart, and gives each class its phrases; labels that it
lacks are left out. `usep prepare-data --corpus labelled` makes the test mixtures and the pool, in which each recording
then stands once for each of its phrases, as its class's voice: dynamic mixing never adds a class to itself.
source/roles.csv lists the same recordings for `--corpus fuss-mix` (profile `universal`): all of noise is background.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from pathlib import Path

TABLE = Path(__file__).with_name("sounds_in_words.csv")


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict[str, str]]) -> None:
    """Write rows as CSV."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def listed(folders: list[Path], leave_out: list[str]) -> tuple[list[dict[str, str]], set[str]]:
    """Return the recordings of folders by class, and the labels that no class has."""
    classes = {label: row["class"] for row in read(TABLE) for label in row["labels"].split(";")}
    rows, unknown = [], set()
    for folder in folders:
        for row in read(folder / "manifest.csv"):
            label = "speech" if folder.name.startswith("speech") else row["label"]
            if label not in classes:
                unknown.add(label)
            elif not any(part in row["path"] for part in leave_out):
                rows.append(
                    {
                        "path": f"{folder.name}/{row['path']}", "label": classes[label], "split": row["split"],
                        "source_repo": row["source_repo"], "licence": row["licence"],
                        "role": "background" if folder.name == "noise" or row["role"] == "background" else "foreground",
                    }
                )  # fmt: skip
    return rows, unknown


def phrased(pool: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return every row of a pool once for each phrase of its class."""
    phrases = {row["class"]: row["phrases"].split(";") for row in read(TABLE)}
    return [
        {**row, "id": f"{row['id']}_{k}", "query": phrase}
        for row in pool
        for k, phrase in enumerate(phrases[row["speaker"].partition("/")[2] or row["speaker"]])
    ]


def asked(mixtures: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return the rows of a manifest with the first phrase of each source's class as its query."""
    phrases = {row["class"]: row["phrases"].split(";")[0] for row in read(TABLE)}
    return [
        {**row, "queries": ";".join(phrases[label] if label else "" for label in row["label"].split(";"))}
        for row in mixtures
    ]


def main() -> None:
    """Make the set and its pool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--rate", type=int, default=16000)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--leave-out", action="append", default=[], help="recordings with this in their path")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=False)
    rows, unknown = listed(given.folders, given.leave_out)
    source = given.out / "source"
    source.mkdir()
    for folder in given.folders:
        os.symlink(folder.resolve(), source / folder.name)
    write(source / "roles.csv", rows)
    write(source / "list.csv", [{key: value for key, value in row.items() if key != "role"} for row in rows])
    command = [sys.executable, "-m", "usepcli", "prepare-data", source, "-o", given.out / "set", "--corpus", "labelled"]
    command += ["--csv", "list.csv", "--sources", "2", "3", "--rate", given.rate, "--seconds", given.seconds]
    subprocess.run([str(word) for word in [*command, "--train", 1, "--valid", 150, "--test", 300]], check=True)
    pool, manifest = given.out / "set" / "pool.csv", given.out / "set" / "manifest.csv"
    write(pool, phrased(read(pool)))
    write(manifest, asked(read(manifest)))
    print(
        f"{pool}: {len(read(pool))} rows of {len({row['label'] for row in rows})} classes; left out: {sorted(unknown)}"
    )


if __name__ == "__main__":
    main()
