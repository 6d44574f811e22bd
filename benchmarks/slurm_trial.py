"""Job files of `usep cluster slurm` on a real Slurm: time limit, warning, preemption, cancel, drain, array, sweep.

    python benchmarks/slurm_trial.py OUT --low PARTITION [--high PARTITION] [--times 3] [--case limit --case ...]

Prints a row a case: how many jobs, what was seen of each, and how many ended as promised. OUT is a folder that all
nodes see. `--high` is a partition that preempts `--low` by PreemptMode=REQUEUE; without it that case is left out. Two
nodes of one machine do (slurmd -N n1, slurmd -N n2, their names in /etc/hosts); a requeued job waits for the
cred_expire of AuthInfo.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from faults_runs import OBJECTIVES, PROFILE, corpus

PATIENCE_S = 1500
BIN = Path(sys.executable).parent


def called(*words: object) -> str:
    return subprocess.run([str(word) for word in words], capture_output=True, text=True).stdout


class Trial:
    """One job file, submitted; what is asked of it comes from its folder, its output and Slurm."""

    def __init__(self, place: Path, name: str, partition: str, words: list[str], *options: str) -> None:
        self.name, self.run, self.log = name, place / "runs" / name, place / f"{name}.out"
        setup = f"export PATH={shlex.quote(str(BIN))}:$PATH OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES="
        asked = ["--job-name", name, "--partition", partition, "--chdir", place, "--setup", setup, *options]
        line = [BIN / "usep", "cluster", "slurm", *asked, "--log", self.log, "--", *words]
        made = subprocess.run([str(word) for word in line], capture_output=True, text=True, check=True).stdout
        (place / f"{name}.sh").write_text(made)
        self.merge = next((line[4:] for line in made.splitlines() if line.startswith("#   sbatch")), "")
        self.id = called("sbatch", "--parsable", "--chdir", place, place / f"{name}.sh").strip()

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def status(self) -> dict[str, object]:
        try:
            return dict(json.loads((self.run / "status.json").read_text()))
        except (OSError, ValueError):
            return {}

    def state(self) -> str:
        return ",".join(sorted(set(re.findall(r"JobState=(\w+)", called("scontrol", "show", "job", self.id)))))

    def restarts(self) -> int:
        return sum(map(int, re.findall(r"Restarts=(\d+)", called("scontrol", "show", "job", self.id))))

    def trains(self) -> bool:
        rows = (self.run / "train.csv").exists() and len((self.run / "train.csv").read_text().splitlines()) > 3
        return rows and self.state() == "RUNNING"

    def ended(self) -> bool:
        return not set(self.state().split(",")) & {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED"}


def until(what: Callable[[], object], patience_s: float = PATIENCE_S) -> bool:
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(1)
    return False


def training(args: argparse.Namespace, name: str, hours: float, *options: str) -> Trial:
    profile, place = args.out / "tiny.yaml", args.out
    words = ["train", "--profile", str(profile), "-o", f"runs/{name}", "--set", "train.epochs=100000"]
    return Trial(place, name, args.low, [*words, "--set", f"train.max_hours={hours}"], *options)


def finished(trial: Trial, at_least: int = 1) -> str:
    """Wait for the end; return what was seen."""
    until(trial.ended)
    restarts, code = trial.restarts(), trial.status.get("code")
    steps = [int(n) for n in re.findall(r"going on from step (\d+)", trial.said)]
    fine = trial.state() == "COMPLETED" and code == 0 and restarts >= at_least and len(steps) >= at_least
    # torchrun prints a traceback of its own, whatever its ranks end with.
    fine = fine and steps == sorted(steps) and ("Traceback" not in trial.said or "usepcli FAILED" in trial.said)
    return f"{trial.state()}, code {code}, {'requeued and went on' if steps else 'never went on'}" + (
        "" if fine else " BAD"
    )


def limit(args: argparse.Namespace) -> list[str]:
    jobs = [training(args, f"limit{i}", 0.04, "--time", "2", "--signal-s", "45") for i in range(args.times)]
    return [finished(job) for job in jobs]


def warned(args: argparse.Namespace, *options: str, name: str = "warned", times: int = 0) -> list[str]:
    jobs = [training(args, f"{name}{i}", 0.015, "--time", "20", *options) for i in range(times or args.times)]
    for job in jobs:
        until(job.trains)
        called("scancel", "--signal=USR1", job.id)
    return [finished(job) for job in jobs]


def cancelled(args: argparse.Namespace) -> list[str]:
    jobs = [training(args, f"cancel{i}", 1, "--time", "20") for i in range(args.times)]
    for job in jobs:
        until(job.trains)
        called("scancel", job.id)
    found = []
    for job in jobs:
        until(lambda job=job: job.ended() and job.status.get("state") != "running", 120)
        time.sleep(15)  # it would be back by now
        fine = job.state() == "CANCELLED" and job.status.get("code") == 75 and (job.run / "last.ckpt").exists()
        found.append(f"{job.state()}, saved with code {job.status.get('code')}" + ("" if fine else " BAD"))
    return found


def preempted(args: argparse.Namespace) -> list[str]:
    jobs = [training(args, f"preempt{i}", 0.015, "--time", "20") for i in range(args.times)]
    for job in jobs:
        until(job.trains)
    nodes = called("sinfo", "-h", "-p", args.high, "-o", "%D").split()[0]
    called("sbatch", "-p", args.high, "-N", nodes, "--exclusive", "--time=1", "-o", "/dev/null", "--wrap", "sleep 5")
    return [finished(job) for job in jobs]


def drained(args: argparse.Namespace) -> list[str]:
    job = training(args, "drain", 0.015, "--time", "20")
    until(job.trains)
    node = re.search(r" NodeList=(\S+)", called("scontrol", "show", "job", job.id))
    called("scontrol", "update", f"nodename={node[1] if node else ''}", "state=drain", "reason=trial")
    found = finished(job, 0)
    called("scontrol", "update", f"nodename={node[1] if node else ''}", "state=resume")
    return [found]


def array(args: argparse.Namespace) -> list[str]:
    import numpy as np

    from usepcli.audio import io

    for i in range(6):
        io.write(args.out / "its here" / f"{i}.wav", 0.1 * np.random.default_rng(i).standard_normal(16000), 8000)
    job = Trial(args.out, "array", args.low, ["separate", "its here", "-o", "my out"], "--time", "20", "--array", "1-3")
    line = job.merge.replace("${id%%;*}", job.id).replace("--wrap", f"-p {args.low} -o merge.out --wrap")
    merge = subprocess.run(["bash", "-c", line], cwd=args.out, capture_output=True, text=True).stdout.split()[-1]
    until(lambda: "JobState=COMPLETED" in called("scontrol", "show", "job", merge))
    rows = len((args.out / "my out/outputs.csv").read_text().splitlines()) - 1
    waves = len(list((args.out / "my out").glob("*.wav")))
    return [f"{job.state()}, {rows} rows, {waves} files" + ("" if rows == waves == 12 else " BAD")]


def sweep(args: argparse.Namespace) -> list[str]:
    words = ["train", "--profile", str(args.out / "tiny.yaml"), "-o", "runs/sweep", "--set", "train.epochs=1"]
    job = Trial(
        args.out, "sweep", args.low, words, "--time", "20", "--sweep", "seed=0,1", "--sweep", "optim.lr=1e-3,3e-4"
    )
    until(job.ended)
    done = sorted(path.parent.name for path in (args.out / "runs/sweep").glob("*/best.safetensors"))
    return [f"{job.state()}, {len(done)} runs" + ("" if len(done) == 4 and job.state() == "COMPLETED" else " BAD")]


CASES: dict[str, Callable[[argparse.Namespace], list[str]]] = {
    "limit": limit,
    "warned": warned,
    "two ranks": lambda args: warned(args, "--ranks-per-node", "2", name="ranks"),
    "two nodes": lambda args: warned(args, "--nodes", "2", name="nodes"),
    "cancelled": cancelled,
    "preempted": preempted,
    "drained": drained,
    "array": array,
    "sweep": sweep,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--low", required=True)
    parser.add_argument("--high", default="")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--case", action="append", choices=list(CASES), default=[])
    args = parser.parse_args()
    args.out = args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    if not (args.out / "data").exists():
        manifest = corpus(args.out / "data")
        text = PROFILE.format(manifest=manifest, n_src=2, objective=OBJECTIVES["pit"])
        (args.out / "tiny.yaml").write_text(text.replace("0.3, ", "5, "))
    os.chdir(args.out)
    for case in args.case or CASES:
        if case == "preempted" and not args.high:
            continue
        seen = CASES[case](args)
        good = sum("BAD" not in each for each in seen)
        told = "; ".join(f"{count} x {what}" for what, count in Counter(seen).items())
        print(f"{case:<10} {good} of {len(seen)} as promised: {told}", flush=True)


if __name__ == "__main__":
    main()
