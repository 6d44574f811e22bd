"""Mixtures of several sets, and recordings that nobody mixed, in one folder: for models that learn without sources.

    python benchmarks/heard.py data/mine_en data/mine_all --also MEETINGS -o heard
    usep prepare-data heard -o data/heard
    usep train --profile speech_unsupervised

Of each prepared folder the mixtures of its training split; of each folder of `--also` the recordings whose names hold
--part. Hard links where the file system has them, so that nothing is stored twice.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
from pathlib import Path


def put(source: Path, place: Path) -> None:
    """Link a file, or copy it where that cannot be; FileExistsError where there is one of that name."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, place)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, place)


def main() -> None:
    """Put together what is to be heard."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path, nargs="+", help="folders that usep prepare-data wrote")
    parser.add_argument("--also", type=Path, action="append", default=[], help="a folder of recordings as they are")
    parser.add_argument("--part", default="", help="what names of these recordings hold")
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    for folder in given.prepared:
        with open(folder / "manifest.csv", newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
        for row in rows:
            path = folder / row["mixture"]
            put(path, given.out / folder.name / f"{row['id']}{path.suffix}")
    for folder in given.also:
        for path in sorted(folder.glob(f"*{given.part}*")):
            if path.suffix.lower() in (".flac", ".wav", ".ogg"):
                put(path, given.out / folder.name / path.name)
    print(given.out, sum(1 for path in given.out.rglob("*") if path.is_file()), "recordings")


if __name__ == "__main__":
    main()
