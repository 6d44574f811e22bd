"""What usep takes beside its peers, in one table and one picture.

    pip install --no-deps asteroid asteroid-filterbanks speechbrain fast_bss_eval torchmetrics lightning-utilities
    pip install hyperpyyaml requests
    python benchmarks/speed.py -o benchmarks/speed.csv --figure benchmarks/figures/speed.png [--only losses]

Losses, scores, pieces of networks, training steps, what a training waits for, separation and start-up: everything is
measured in turns with those who do the same (turns.py), on one thread, and a peer that is not installed has a row that
says so. `bound` is the least that a work can take as it is done here. Read the columns of shares: seconds are those of
one machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import losses
import models
import pieces
import scores
import separate
import startup
import steps
import torch
import turns
from study import read, write

from usepcli import device

GROUPS = ["losses", "scores", "pieces", "training", "separation", "start", "waiting"]
MINUTES, SONG_MINUTES, FORWARD_S = 1.0, 3.0, 4
Run = Callable[[], float | None]
USEP = str(Path(sys.executable).with_name("usep"))
SAMPLE = Path(__file__).resolve().parents[1] / "usepcli" / "samples" / "two_talkers.flac"


def separation(folder: Path) -> Iterator[turns.Work]:
    """Yield a file through Conv-TasNet in each program, each network at published size, and a page beside its sound."""
    path = folder / "minute.wav"
    separate.make_recording(path, MINUTES, separate.RATE, 1)
    asked = Namespace(threads=1, size="small", limit_gib=16.0, peers="", patience_min=5.0)

    def through(system: str) -> Callable[[], Run]:
        def run() -> float:
            found = separate.measure(system, path, asked)
            if found["note"]:
                raise RuntimeError(found["note"])
            return float(str(found["processor_s"]))

        return lambda: run

    systems = {turns.OURS: "convtasnet", "asteroid": "asteroid", "torchaudio": "torchaudio"}
    makers = {who: through(system) for who, system in systems.items()}
    yield turns.Work("separation", f"file of {MINUTES:g} min, Conv-TasNet", makers, turns=3)
    for name, (peer, make) in models.PEERS.items():
        nets = {turns.OURS: lambda name=name: models.ours(name), peer: make}
        makers = {who: _forward(net) for who, net in nets.items()}
        yield turns.Work("separation", f"forward over {FORWARD_S} s, {name}", makers, turns=3)
    yield _page(folder)


def _page(folder: Path) -> turns.Work:
    """Return the page of a song, whose tracks are encoded in threads, beside the separation itself: by the wall."""
    song, out = folder / "song.wav", folder / "out"
    separate.make_recording(song, SONG_MINUTES, 48_000, 2)
    words = [USEP, "separate", str(song), "-q", "-o"]
    free = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}

    def seconds(*more: str) -> float:
        begin = time.perf_counter()
        subprocess.run([*words, *more], env=free, capture_output=True, check=True)
        return time.perf_counter() - begin

    def sound() -> float:
        with tempfile.TemporaryDirectory() as place:
            return seconds(place)

    def page() -> float:
        (out / "report.html").unlink(missing_ok=True)
        return seconds(str(out), "--report")

    seconds(str(out))  # all is there but the page
    name = f"page of {SONG_MINUTES:g} min, 48 kHz stereo, MP3, by the wall, all cores"
    return turns.Work("separation", name, {turns.OURS: lambda: page, "its separation": lambda: sound}, turns=3)


def _forward(make: Callable[[], Callable[[Any], Any]]) -> Callable[[], Run]:
    def made() -> Run:
        net, wave = make(), 0.1 * torch.randn(1, FORWARD_S * models.RATE)

        def run() -> None:
            with torch.inference_mode():
                net(wave)

        return run

    return made


def start() -> Iterator[turns.Work]:
    """Yield commands that are answered without torch, and what separating a short file takes beyond importing it."""
    lines: dict[str, list[str]] = {"--help": [*startup.OTHERS], "models": [], "info default": []}
    for line, others in lines.items():
        makers = {turns.OURS: _command([USEP, *line.split()])}
        makers |= {other.split()[0]: _command(other.split()) for other in others}
        yield turns.Work("start", f"usep {line}", makers, turns=5)
    words = [USEP, "separate", str(SAMPLE), "-o", "out", "-q"]
    whole, torch_alone = _command(words)(), _command([sys.executable, "-c", "import torch"])()
    makers = {turns.OURS: lambda: lambda: float(whole() or 0) - float(torch_alone() or 0)}
    yield turns.Work("start", "usep separate, 5 s, beyond importing torch", makers, turns=5)


def _command(words: list[str]) -> Callable[[], Run]:
    def made() -> Run:
        def run() -> float:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    spent, code = startup.processor_s(words, folder)
                except FileNotFoundError as fault:
                    raise ModuleNotFoundError(name=words[0]) from fault
            if code:
                raise RuntimeError(f"exit {code}")
            return spent

        return run

    return made


def picture(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw for every work the share of each contender's time that usep takes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [row for row in rows if row["usep_over_least"]]
    works = list(dict.fromkeys(row["work"] for row in shown))
    others = list(dict.fromkeys(row["contender"] for row in shown if row["contender"] != turns.BOUND))
    figure, axis = plt.subplots(figsize=(12, 0.3 * len(works) + 1.2), layout="constrained")
    for number, who in enumerate([*others, turns.BOUND]):
        found = [(float(row["usep_over_least"]), works.index(row["work"])) for row in shown if row["contender"] == who]
        if not found:
            continue
        looks: dict[str, Any] = {"marker": "os^D"[number % 4], "color": f"C{number % 10}", "s": 40}
        if who == turns.BOUND:
            looks = {"marker": "|", "color": "black", "s": 160}
        axis.scatter(*zip(*found, strict=True), label=who, zorder=3, **looks)
    axis.axvline(1, color="0.5", lw=1)
    axis.set(xscale="log", yticks=range(len(works)), yticklabels=works)
    axis.set_xlabel("time of usep / time of the other (left of 1, usep is faster)")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_ylim(len(works) - 0.5, -0.5)
    axis.grid(color="0.92")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=100)


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return a line for each work: what usep takes, which share that is of every other's time, and of the bound."""
    text = ["| work | usep | share of the time of | of the bound |", "|---|---|---|---|"]
    for work in dict.fromkeys(row["work"] for row in rows):
        own = [row for row in rows if row["work"] == work]
        shares = {row["contender"]: row["usep_over_least"] for row in own if row["usep_over_least"]}
        bound = shares.pop(turns.BOUND, "")
        took = next(
            (f"{float(row['least_s']):.3g} s" for row in own if row["contender"] == turns.OURS and row["least_s"]), ""
        )
        said = ", ".join(f"{who} {share}" for who, share in shares.items())
        notes = ", ".join(f"{row['contender']}: {row['note']}" for row in own if row["note"])
        text.append(f"| {work} | {took} | {'; '.join(filter(None, (said, notes)))} | {bound} |")
    return "\n".join(text)


def alone(group: str) -> list[dict[str, Any]]:
    """Measure one group in this process."""
    device.keep_heap()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        works: dict[str, Callable[[], Iterator[turns.Work]]] = {
            "losses": losses.works, "scores": scores.works, "pieces": pieces.works, "training": steps.works,
            "separation": lambda: separation(Path(folder)), "start": start,
        }  # fmt: skip
        rows = steps.waiting() if group == "waiting" else turns.table(works[group]())
    return [{**row, "threads": _threads(row), "machine": turns.machine()} for row in rows]


def _threads(row: Mapping[str, Any]) -> int:
    return os.cpu_count() or 1 if "all cores" in row["work"] else 1


def apart(group: str, out: Path) -> list[dict[str, Any]]:
    """Measure one group in a process of its own, which gives its memory back."""
    subprocess.run([sys.executable, "-W", "ignore", __file__, "--only", group, "-o", str(out)], check=True)
    return list(read(out))


def main() -> None:
    """Measure, write the table, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=Path("speed.csv"))
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--only", action="append", choices=GROUPS)
    asked = parser.parse_args()
    wanted = asked.only or GROUPS
    if len(wanted) == 1:
        rows = alone(wanted[0])
        write(asked.out, rows)
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for name in wanted for row in apart(name, Path(folder) / f"{name}.csv")]
    write(asked.out, rows)
    print(markdown(rows))
    if asked.figure:
        picture(rows, asked.figure)


if __name__ == "__main__":
    main()
