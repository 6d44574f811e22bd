"""A set of two-source items scored from its files, on all cores, beside what asteroid and museval do with them.

    pip install --no-deps asteroid asteroid-filterbanks pb_bss_eval einops cached-property pytorch_lightning \\
        torchmetrics lightning-utilities torch_optimizer julius huggingface_hub requests museval simplejson jsonschema
    python benchmarks/evaluated.py --items 3000 --peers 100

asteroid (`get_metrics`, one item after the other as its recipes do) gives SI-SDR, SDR, STOI and PESQ of every source
and of the mixture, museval what it knows, the SDR and its parts for every second; usep is asked for the SDR alone, for
four scores, and for these of the mixture as well, and writes its tables. The peers score the first `--peers` items,
since all would take them a quarter of an hour; told are seconds of the wall per item. Everyone may use all cores; each
has one item first to load what it needs, but for usep, whose start is in its time. museval imports musdb for the data
set of that name; where that cannot be imported, since it wants ffmpeg, an empty module stands in: no score needs it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))  # before `scores` says one
os.environ.setdefault("OPENBLAS_NUM_THREADS", str(os.cpu_count()))

import numpy as np
import scores
import turns

from usepcli.audio import io

FOUR = ("si-snri", "sdr", "stoi", "pesq")
ASKED = {"SDR": ("sdr",), "four scores": FOUR, "four, the mixture's too": (*FOUR, "sdri", "stoii", "pesqi")}
Item = tuple[np.ndarray, np.ndarray, np.ndarray]  # mixture (T,), references and estimates (N, T)


def write(folder: Path, items: int) -> None:
    """Write estimates, references and mixtures as files, 4 s at 8 kHz."""
    for number, (est, ref) in enumerate(scores.draw(items)):
        name = f"{number:05d}.wav"
        for k in range(scores.SOURCES):
            io.write(folder / "est" / f"s{k + 1}" / name, est[k], scores.RATE)
            io.write(folder / "ref" / f"s{k + 1}" / name, ref[k], scores.RATE)
        io.write(folder / "mix" / name, ref.sum(0), scores.RATE)


def read(folder: Path, number: int) -> Item:
    """Return one item."""
    name = f"{number:05d}.wav"
    sides = [
        np.stack([io.read_mono(folder / side / f"s{k + 1}" / name)[0] for k in range(scores.SOURCES)]).astype(float)
        for side in ("ref", "est")
    ]
    return io.read_mono(folder / "mix" / name)[0].astype(float), sides[0], sides[1]


def ours(folder: Path, metrics: Sequence[str]) -> float:
    """Return the seconds that `usep evaluate` takes, start and tables included."""
    with tempfile.TemporaryDirectory() as out:
        words = [str(Path(sys.executable).with_name("usep")), "evaluate", "-q", "-o", f"{out}/scores"]
        for name, side in (("--estimates", "est"), ("--references", "ref"), ("--mixtures", "mix")):
            words += [name, str(folder / side)]
        for metric in metrics:
            words += ["--metric", metric]
        begin = time.perf_counter()
        code = subprocess.run(words, capture_output=True, check=False).returncode
        if code not in (0, 4):  # 4: PESQ finds no utterance in some
            raise RuntimeError(f"usep evaluate: exit {code}")
        return time.perf_counter() - begin


def asteroid() -> Callable[[Item], object]:
    """Return asteroid's scores of an item."""
    from asteroid.metrics import get_metrics

    names = ["si_sdr", "sdr", "stoi", "pesq"]
    # PESQ finds no utterance in one item of some twenty: a note for both, which asteroid prints with its stack.
    return lambda item: get_metrics(*item, sample_rate=scores.RATE, metrics_list=names, ignore_metrics_errors=True)


def museval() -> Callable[[Item], object]:
    """Return museval's scores of an item."""
    try:
        import musdb  # noqa: F401
    except Exception:  # it wants ffmpeg; the scores do not
        sys.modules["musdb"] = types.ModuleType("musdb")
    import museval

    window = scores.RATE
    return lambda item: museval.evaluate(item[1][..., None], item[2][..., None], win=window, hop=window)


def peer(folder: Path, make: Callable[[], Callable[[Item], object]], items: int) -> float:
    """Return the seconds that a peer takes for the first items, read from their files."""
    score = make()
    score(read(folder, 0))
    begin = time.perf_counter()
    with redirect_stderr(StringIO()):
        for number in range(items):
            score(read(folder, number))
    return time.perf_counter() - begin


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--peers", type=int, default=100)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write(folder, asked.items)
        took = {}
        for who, make in {"asteroid": asteroid, "museval": museval}.items():
            try:
                took[who] = peer(folder, make, asked.peers) / asked.peers
            except Exception as fault:
                print(f"{who:<10} {turns.absent(fault)}")
        for what, metrics in ASKED.items():
            own = ours(folder, metrics) / asked.items
            shares = "".join(f", {own / seconds:.2f} of {who}" for who, seconds in took.items())
            print(f"usep       {own:.3f} s an item, of {asked.items}, {what}{shares}", flush=True)
        for who, seconds in took.items():
            print(f"{who:<10} {seconds:.3f} s an item, of {asked.peers}")
    print(turns.machine())


if __name__ == "__main__":
    main()
