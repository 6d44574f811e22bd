"""Learning from mixtures alone, at equal budget: every objective on the same mixtures, with the same small network.

    python benchmarks/from_mixtures.py speech SPEECH NOISE -o out --updates 1500 --longer 4000
    python benchmarks/from_mixtures.py events EVENTS -o out_events --updates 1000

Noisy mixtures of two talkers, or mixtures of one to four sound events, are prepared; the rows are profiles small_*,
trained by `usep train`, one thread each, --jobs of them at a time. The same command goes on where it was left;
--stage scores what is there. Rows that are not supervised read a manifest that lists no source, and nothing chooses
among their weights: the last ones (their moving average) are scored, on talkers or recordings of the test split, which
no training met. mixit_sparse takes its first two thirds from mixit. ts_mixit learns from mixit's weights: its student
has as many updates as the others, its teacher had its own.

Written to the output folder: rows.csv (a line for each row and number of updates), curves.csv (all validations, with
MoMi and the figures that need no reference), picks.csv (what choosing by them would have given), pairs.csv (every two
rows, source by source), curves.png, table.md.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STEP = "step{:08d}.safetensors"
FIRST = ("mixit", "remixit", "self_remixing", "pit")
SUPERVISED = ("pit", "sup_remixit")
COLOURS = (
    "black", "tab:blue", "tab:orange", "tab:green", "tab:purple", "tab:red", "tab:cyan", "tab:olive", "tab:pink",
    "tab:brown", "tab:gray",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of the table: a profile, settings beyond it, and how its weights depend on mixit's."""

    name: str
    profile: str
    sets: tuple[str, ...] = ()
    supervised: bool = False
    goes_on_from_mixit: bool = False
    taught_by_mixit: bool = False


@dataclass(frozen=True)
class Task:
    """What is prepared, trained and scored, and which of the summary's figures are shown."""

    prepare: tuple[str, ...]
    rows: tuple[Row, ...]
    evaluate: tuple[str, ...]
    shown: tuple[tuple[str, str], ...]


NOISY = ("--overlap", "0.2", "0.6", "--noise-snr", "10", "20", "--train", "8000", "--valid", "100", "--test", "200")
COUNTS = ("--train", "4000", "--valid", "100", "--test", "200")
TASKS = {
    "speech": Task(
        ("--corpus", "speakers", "--rate", "8000", "--seconds", "4", "--level-db", "5", "--join", *NOISY),
        (
            Row("mixit", "small_mixit"),
            Row("remixit", "small_remixit"),
            Row("self_remixing", "small_self_remixing"),
            Row("pit", "small_sup_pit", supervised=True),
            Row("mixpit", "small_mixpit"),
            Row("remixit_nocs", "small_remixit_nocs"),
            Row("self_remixing_nocs", "small_self_remixing_nocs"),
            Row("self_remixing_free", "small_self_remixing_free"),
            Row("mixit_sparse", "small_mixit_sparse", goes_on_from_mixit=True),
            Row("ts_mixit", "small_ts_mixit", taught_by_mixit=True),
            Row("sup_remixit", "small_sup_remixit", supervised=True),
        ),
        ("--metric", "si-snri", "--metric", "stoi", "--metric", "pesq"),
        (("si-snri", "SI-SNRi (dB)"), ("stoi", "STOI"), ("pesq", "PESQ")),
    ),
    "events": Task(
        ("--corpus", "events", "--rate", "8000", "--seconds", "4", *COUNTS),
        (
            Row("mixit", "small_mixit", ("model.n_src=8", "objective.normalize_mom=true")),
            Row("remixit", "small_remixit", ("model.n_src=4",)),
            Row("self_remixing", "small_self_remixing", ("model.n_src=4",)),
            Row("pit", "small_sup_pit", ("model.n_src=4",), supervised=True),
        ),
        ("--protocol", "saijo2023"),
        (("1S", "1S (dB)"), ("MSi", "MSi (dB)"), ("TRF", "TRF (dB)")),
    ),
}  # fmt: skip


class Bench:
    """A task in its output folder."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.task, self.out = TASKS[args.task], args.out.resolve()
        self.sources = [path.resolve() for path in args.sources]
        self.updates, self.longer, self.jobs = args.updates, args.longer, args.jobs
        self.rows = [row for row in self.task.rows if not args.rows or row.name in args.rows]
        self.data, self.mixtures = self.out / "data", self.out / "mixtures"
        self.done = {row.name: threading.Event() for row in self.task.rows}

    def usep(self, *words: object, log: str = "") -> None:
        """Run a usep command on one thread, its lines appended to OUT/logs/`log`."""
        env = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
        command = [sys.executable, "-m", "usepcli", *map(str, words)]
        (self.out / "logs").mkdir(parents=True, exist_ok=True)
        with open(self.out / "logs" / f"{log or words[0]}.log", "a", encoding="utf-8") as file:
            code = subprocess.run(command, env=env, stdout=file, stderr=subprocess.STDOUT, cwd=self.out).returncode
        if code:
            raise SystemExit(f"{' '.join(command)}: exit {code}; see {file.name}")

    # Data

    def prepare(self) -> None:
        """Make the mixtures, and beside them a manifest of train and valid that knows no source."""
        if not (self.data / "manifest.csv").exists():
            noise = ["--noise", self.sources[1]] if len(self.sources) > 1 else []
            self.usep("prepare-data", self.sources[0], "-o", self.data, *self.task.prepare, *noise)
        self.mixtures.mkdir(exist_ok=True)
        with open(self.data / "manifest.csv", newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] != "test"]
        for row in rows:
            row.update(mixture=f"../data/{row['mixture']}", sources="", noise="", speakers="", n_src="0")
        write(self.mixtures / "manifest.csv", rows)

    # Training

    def train(self) -> None:
        """Train every row to --updates, then the first ones to --longer."""
        for goal in sorted({self.updates, self.longer or self.updates}):
            rows = [row for row in self.rows if goal == self.updates or row.name in FIRST]
            # Rows that wait for mixit come last: no job waits for a row that has not begun.
            rows.sort(key=lambda row: row.goes_on_from_mixit or row.taught_by_mixit)
            with ThreadPoolExecutor(self.jobs) as pool:
                list(pool.map(lambda row, goal=goal: self.train_row(row, goal), rows))  # type: ignore[misc]

    def train_row(self, row: Row, goal: int) -> None:
        """Train one row to `goal` updates in all, its first stage included."""
        sets = [f"data.manifest={self.data if row.supervised else self.mixtures}", "train.threads=1", *row.sets]
        sets += ["valid.keep_best=1000", "valid.average=1"]
        if not row.supervised:
            sets += ["valid.also=[]"]
        if row.goes_on_from_mixit or row.taught_by_mixit:
            self.done["mixit"].wait()
        if row.goes_on_from_mixit:
            sets.append(f"init_from={self.state('mixit', goal * 2 // 3)}")
            goal -= self.step_of(self.state("mixit", goal * 2 // 3))
        if row.taught_by_mixit:
            sets.append(f"objective.teacher_model={self.state('mixit', goal)}")
        # mixit stops where mixit_sparse begins, so that its weights there are kept.
        stops = [goal * 2 // 3, goal] if row.name == "mixit" and goal == self.updates else [goal]
        try:
            for stop in (stop for stop in stops if self.last(row.name) < stop):
                options = [word for value in (*sets, f"train.max_steps={stop}") for word in ("--set", value)]
                place = self.out / "runs" / row.name
                self.usep("train", "--profile", row.profile, "-o", place, "--force", *options, log=row.name)
        finally:
            self.done[row.name].set()

    def states(self, name: str) -> list[Path]:
        """Return the weights kept at the validations of a row, in order."""
        return sorted((self.out / "runs" / name / "best").glob("step*.safetensors"))

    def state(self, name: str, at: int) -> Path:
        """Return the latest weights of a row at or before `at` updates."""
        return [path for path in self.states(name) if self.step_of(path) <= at][-1]

    @staticmethod
    def step_of(path: Path) -> int:
        """Return the update that a file of weights was kept at."""
        return int(path.name[4:12])

    def last(self, name: str) -> int:
        """Return the number of updates behind a row's last weights, 0 without any."""
        return max((self.step_of(path) for path in self.states(name)), default=0)

    # Scores

    def score(self) -> None:
        """Score the rows on the test split at --updates and at their end, and every kept state without references."""
        table = []
        for row in self.rows:
            if not self.states(row.name):
                continue
            ends = {at for at in (self.updates, self.longer) if 0 < at <= self.last(row.name)} or {self.last(row.name)}
            for at in sorted(ends):
                table.append({**self.score_state(row, at), "goal": self.updates if row.goes_on_from_mixit else at})
        table.append(
            {**table[0], "row": "unprocessed", "updates": "", **self.figures(self.scores(table[0]), "unprocessed")}
        )
        table[-1]["loudest_share"] = ""
        write(self.out / "rows.csv", table)
        self.pairs(table[:-1])
        self.curves()
        (self.out / "table.md").write_text(self.markdown(table), encoding="utf-8")

    def scores(self, line: dict[str, Any]) -> Path:
        """Return the folder of the scores of one line of the table."""
        return self.out / "scores" / f"{line['row']}_{line['updates']}"

    def score_state(self, row: Row, at: int) -> dict[str, Any]:
        """Return the line of a row after `at` updates."""
        from usepcli.data.manifest import Manifest
        from usepcli.engine.training import health
        from usepcli.weights import store

        state = self.state(row.name, at)
        line: dict[str, Any] = {"row": row.name, "supervised": row.supervised, "updates": at}
        if row.goes_on_from_mixit:
            line["updates"] = f"{self.step_of(self.state('mixit', self.updates * 2 // 3))}+{at}"
        if not (self.scores(line) / "summary.csv").exists():
            self.usep(
                "evaluate", state, "--data", self.data, "--split", "test", *self.task.evaluate, "--unprocessed",
                "-o", self.scores(line), log="evaluate",
            )  # fmt: skip
        model, _ = store.load_model(state)
        shares = health.from_mixtures(model, Manifest.read(self.data).split("test"))
        line |= {"loudest_share": round(shares["loudest_share"], 3), "silent_share": round(shares["silent_share"], 3)}
        return line | self.figures(self.scores(line), "separated") | {"parameters": model.n_params}

    def figures(self, folder: Path, system: str) -> dict[str, Any]:
        """Return the shown metrics with their intervals from a summary."""
        with open(folder / "summary.csv", newline="", encoding="utf-8") as file:
            rows = {line["metric"]: line for line in csv.DictReader(file) if line["system"] == system}
        found: dict[str, Any] = {}
        for name, _ in self.task.shown:
            for key in ("mean", "ci95_low", "ci95_high"):
                found[f"{name} {key}"] = rows.get(name, {}).get(key, "")
        return found

    def pairs(self, table: list[dict[str, Any]]) -> None:
        """Compare every two rows after as many updates, source by source: pairs.csv."""
        from usepcli.engine.scoring import versus

        found = []
        for ours in table:
            for theirs in table:
                if ours["goal"] == theirs["goal"] and str(ours["row"]) < str(theirs["row"]):
                    here, there = versus.read(self.scores(ours)), versus.read(self.scores(theirs))
                    rows, names = versus.columns(here.rows, here.record.get("protocol") or {})
                    for line in versus.differences(rows, names, there):
                        line.pop("versus")
                        found.append({"row": ours["row"], "against": theirs["row"], "updates": ours["goal"], **line})
        write(self.out / "pairs.csv", found)

    def curves(self) -> None:
        """Score every kept state on the valid split: curves.csv, picks.csv, curves.png."""
        from usepcli.data.manifest import Manifest
        from usepcli.engine.scoring import evaluate, momi
        from usepcli.engine.training import health
        from usepcli.weights import store

        valid, place = Manifest.read(self.data).split("valid"), self.out / "curves.csv"
        known = {(line["row"], line["step"]): line for line in read(place)} if place.exists() else {}
        pairs, lines = momi.mom_pairs(len(valid), 50, 0), []
        for row in self.rows:
            for state in self.states(row.name):
                step = self.step_of(state)
                line: dict[str, Any] | None = known.get((row.name, str(step)))
                if line is None:
                    model, _ = store.load_model(state)
                    moms = momi.score_moms(model, valid, pairs, sources=False)
                    single = evaluate.score_model(model, valid, ["si-snri"]) if self.scored(model, valid) else []
                    truth = evaluate.summary(single, ["si-snri"])[0]["mean"] if single else float("nan")
                    line = {"row": row.name, "step": step, "si-snri": truth}
                    line["momi"] = sum(mom["momi"] for mom in moms) / len(moms)
                    line |= health.from_mixtures(model, valid)
                before = self.step_of(self.state("mixit", self.updates * 2 // 3)) if row.goes_on_from_mixit else 0
                lines.append({**line, "updates": step + before})
            write(place, lines)
        picks = []
        for row in self.rows:
            mine = [line for line in lines if line["row"] == row.name]
            if len(mine) > 2:
                write(self.out / "curve.tmp.csv", mine)
                for metric in ("momi", "loudest_share", "activity_entropy"):
                    picks.append({"row": row.name, **health.picks(self.out / "curve.tmp.csv", metric, "si-snri")})
                (self.out / "curve.tmp.csv").unlink()
        write(self.out / "picks.csv", picks)
        draw(lines, self.out / "curves.png")

    @staticmethod
    def scored(model: Any, valid: Any) -> bool:
        """Say whether SI-SNRi means something: every item has as many sounding sources as outputs, at most."""
        return max(len(row.sources) for row in valid.rows) <= model.n_src

    def markdown(self, table: list[dict[str, Any]]) -> str:
        """Return the table for people, supervised rows last."""
        names = [label for _, label in self.task.shown]
        text = [f"| row | updates | {' | '.join(names)} | loudest output |", "|---" * (len(names) + 3) + "|"]
        for line in sorted(table, key=lambda line: (line["row"] == "unprocessed", line["supervised"])):
            cells = []
            for name, _ in self.task.shown:
                mean, low, high = (line[f"{name} {key}"] for key in ("mean", "ci95_low", "ci95_high"))
                cells.append(f"{float(mean):.2f} ({float(low):.2f} to {float(high):.2f})" if mean else "")
            share = line["loudest_share"]
            text.append(f"| {line['row']} | {line['updates']} | {' | '.join(cells)} | {share} |")
        text.append(f"\nMeans with 95 % intervals; {machine()}.")
        return "\n".join(text) + "\n"


def draw(lines: list[dict[str, Any]], path: Path) -> None:
    """Draw SI-SNRi and MoMi over the updates, a line for each row, named at its end."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = [("si-snri", "SI-SNRi of the valid split (dB)"), ("momi", "MoMi, no reference (dB)")]
    figure, axes = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    last = {line["row"]: float(line["si-snri"]) for line in lines}
    for name, colour in zip(sorted(last, key=lambda name: -last[name]), COLOURS, strict=False):
        style = "--" if name in SUPERVISED else "-"
        for axis, (key, label) in zip(axes, panels, strict=True):
            points = [(int(line["updates"]), float(line[key])) for line in lines if line["row"] == name]
            axis.plot(*zip(*points, strict=True), style, marker="o", ms=3.5, color=colour, label=name)
            axis.set(xlabel="updates", ylabel=label)
    for axis in axes:
        axis.axhline(0, color="0.6", lw=0.8, zorder=0)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_title("dashed: learned from references", fontsize=9, loc="left")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=110)


def machine() -> str:
    """Return what the figures were measured on."""
    import torch

    return f"{platform.machine()}, {os.cpu_count()} cores, one thread a row, torch {torch.__version__}"


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a CSV file."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as CSV, with all columns that any of them has."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Run the stages asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("sources", nargs="+", type=Path, help="folder of speech and of noise, or of sound events")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--updates", type=int, default=3000, help="of every row")
    parser.add_argument("--longer", type=int, default=0, help=f"of {', '.join(FIRST)} after that")
    parser.add_argument("--rows", nargs="*", default=[], help="only these rows")
    parser.add_argument("--jobs", type=int, default=2, help="rows trained side by side")
    parser.add_argument("--stage", choices=["all", "prepare", "train", "score"], default="all")
    args = parser.parse_args()
    bench = Bench(args)
    bench.out.mkdir(parents=True, exist_ok=True)
    if args.stage in ("all", "prepare"):
        bench.prepare()
    if args.stage in ("all", "train"):
        bench.train()
    if args.stage in ("all", "score"):
        bench.score()


if __name__ == "__main__":
    main()
