"""What another query costs: seconds and memory of one query and of several on the same recording, and their ratio.

Without --model a cond_unet of --preset with random weights and ten classes: weights change neither time nor memory, and
none is calibrated, so that no file goes through twice. Each case runs in a process of its own. Seconds are those of the
processor, which other work on the machine lengthens less than those of the clock; x_a_query is processor seconds per
second of sound and query.

    python benchmarks/queries.py --minutes 1 --threads 2 -o queries.csv
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COLUMNS = ["queries", "channels", "minutes", "cpu_s", "wall_s", "x_a_query", "x_one", "peak_mib"]
CLASSES = tuple(f"sound {k}" for k in range(10))


def child(path: Path, asked: argparse.Namespace) -> None:
    """Separate the recording by so many queries, and print what it took beyond loading the model."""
    from usepcli import device
    from usepcli.audio import io
    from usepcli.separator.how import How
    from usepcli.separator.separator import Separator
    from usepcli.weights import build

    device.keep_heap()
    device.set_threads(asked.threads)
    if asked.model:
        separator, words = Separator.load(asked.model, "cpu", asked.threads), asked.query
    else:
        settings = {"name": "cond_unet", "preset": asked.preset, "classes": list(CLASSES)}
        separator, words = Separator(build.model(settings)), CLASSES
    bound = separator.ask(words[: asked.count])
    begin, spent = time.perf_counter(), time.process_time()
    with io.Writer(path.with_suffix(".out.wav"), io.info(path).rate, io.info(path).channels, "PCM_16") as file:
        for sources in bound.file(path, How()):
            file.write(sources[-1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    took = {"wall_s": time.perf_counter() - begin, "cpu_s": time.process_time() - spent, "peak_mib": peak}
    print(json.dumps(took))


def make_recording(path: Path, minutes: float, rate: int, channels: int) -> None:
    """Write noise in bursts: what it sounds like changes neither time nor memory."""
    import numpy as np

    from usepcli.audio import io

    draw = np.random.default_rng(0)
    with io.Writer(path, rate, channels, "PCM_16") as file:
        for _ in range(round(minutes * 6)):
            file.write(0.05 * draw.standard_normal((channels, 10 * rate), np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", action="append", type=int, help="of queries; default: 1, 2, 5 and 10")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--rate", type=int, default=11025)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--model", default="", help="a model by query in place of the preset, and its --query words")
    parser.add_argument("--query", action="append", default=[])
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("-o", "--out", default="queries.csv")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        asked.count = asked.count[0]
        return child(Path(asked.child), asked)
    counts = asked.count or ([1, 2, 5, 10] if not asked.model else [1, len(asked.query)])
    one = 0.0
    with tempfile.TemporaryDirectory() as folder, open(asked.out, "w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        path = Path(folder) / "in.wav"
        make_recording(path, asked.minutes, asked.rate, asked.channels)
        for count in counts:
            command = [sys.executable, __file__, *sys.argv[1:], "--child", str(path)]
            # The last --count counts alone: those of the whole run are in the same list.
            command = [*_without(command, "--count"), "--count", str(count)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            row = {"queries": count, "channels": asked.channels, "minutes": asked.minutes}
            row |= json.loads(done.stdout.splitlines()[-1])
            path.with_suffix(".out.wav").unlink()
            one = one or row["cpu_s"] / count
            row |= {"x_a_query": row["cpu_s"] / count / asked.minutes / 60, "x_one": row["cpu_s"] / one}
            row = {name: round(row[name], 4) for name in COLUMNS}
            table.writerow(row)
            print(row, flush=True)


def _without(command: list[str], option: str) -> list[str]:
    """Return a command line without an option and its values."""
    places = {at + step for at, word in enumerate(command) if word == option for step in (0, 1)}
    return [word for at, word in enumerate(command) if at not in places]


if __name__ == "__main__":
    main()
