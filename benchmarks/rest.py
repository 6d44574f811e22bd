"""What stands around one voice, for a model that takes it out: noises, sounds and notes that are no voices themselves.

    python benchmarks/rest.py NOISE EVENTS MUSIC -o data/rest --leave-out fsd_
    usep prepare-data SPEECH -o data/hush --corpus speakers --rate 16000 --n-src 1 --noise data/rest --noise-snr -5 15

Every folder has a manifest.csv (path, label, split, source_repo, licence). The new folder has links to them, and one
list of the recordings, in the splits that they had. --leave-out: not those whose file name begins so.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from words_pool import read, write

VOICES = {"baby_cry", "breathing", "laughter", "mouth_sounds", "parrot", "scream", "singing", "sneeze", "vomit"}
KEPT = ("label", "split", "source_repo", "licence", "attribution")


def main() -> None:
    """Link the folders and list what is no voice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--leave-out", action="append", default=[])
    given = parser.parse_args()
    given.out.mkdir(parents=True)
    rows = []
    for folder in given.folders:
        (given.out / folder.name).symlink_to(folder.resolve())
        for row in read(folder / "manifest.csv"):
            if row["label"] not in VOICES and not Path(row["path"]).name.startswith(tuple(given.leave_out)):
                rows.append({"path": f"{folder.name}/{row['path']}", **{key: row[key] for key in KEPT}})
    write(given.out / "manifest.csv", rows)
    print(f"{len(rows)} recordings in {given.out}")


if __name__ == "__main__":
    main()
