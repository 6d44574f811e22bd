"""Campaigns against a training of one process: its data workers die, crash or stop; it is killed as a whole.

`workers`: at a random moment (as the workers start, at the first batch, inside an epoch, around a validation, inside a
save, as the run ends) one of 1, 2 or 4 data workers gets SIGKILL, or in some trials SIGSEGV or SIGSTOP. Good is exit 70
with a reason, nobody left, no half file, and the same command going on to the losses of an undisturbed run; or an
undisturbed end where the fault came when no more batch was wanted.

`kill9`: the whole training is killed two to four times, for pit, mixit and remixit in turn, with 0 or 2 workers.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from faults_runs import Run, Trial, children, curve, debris, profiles, steps, usep

PER_EPOCH, ALL = 4, 12  # steps, as the profiles of faults_runs have them
MOMENTS = ("start", "first batch", "epoch", "validation", "save", "end")
TIMEOUT_S = 5.0  # train.worker_timeout_s there


def _line(profile: Path, run: Path, workers: int) -> list[str]:
    return usep("train", "--profile", str(profile), "-o", str(run), "--set", f"train.workers={workers}")


def undisturbed(folder: Path, name: str) -> list[tuple[str, ...]]:
    """Return the curve of a run of one of the profiles that nobody disturbs."""
    run = folder / f"undisturbed_{name}"
    if steps(run) < ALL:
        shutil.rmtree(run, ignore_errors=True)
        process = Run(_line(profiles(folder)[name], run, 0), folder / f"undisturbed_{name}.log")
        if process.end(900) != 0:
            raise SystemExit(f"the undisturbed run failed: {process.said()}")
    return curve(run)


def _reached(moment: str, draw: random.Random, run: Path, process: Run) -> tuple[Callable[[], Any], float]:
    """Return the condition to wait for and the seconds to wait after it."""
    if moment in ("start", "first batch"):
        return (lambda: children(process.pid)), draw.uniform(0, 0.02 if moment == "start" else 0.5)
    if moment == "save":
        after = draw.randrange(1, ALL // 2)
        return (lambda: steps(run) >= after and any("last.ckpt" in name for name in debris(run))), 0.0
    if moment == "validation":
        wanted = draw.randrange(1, ALL // PER_EPOCH) * PER_EPOCH
        return (lambda: steps(run) >= wanted), draw.uniform(0, 0.6)
    wanted = draw.randrange(1, ALL - PER_EPOCH) if moment == "epoch" else ALL - draw.randrange(1, 4)
    return (lambda: steps(run) >= wanted), draw.uniform(0, 0.1)


def _faulty(run: Path, line: list[str], moment: str, number: int, draw: random.Random, patience: float) -> Trial:
    """Start a run, send the signal to one of its workers, and wait for the end."""
    process = Run(line, run.with_suffix(".log"))
    hit = at = 0
    try:
        condition, pause = _reached(moment, draw, run, process)
        process.until(condition)
        time.sleep(pause)
        if alive := process.until(lambda: children(process.pid)):
            hit = draw.choice(alive)
            with suppress(ProcessLookupError):
                os.kill(hit, number)
        at = time.monotonic()
        code = process.end(patience)
        took = time.monotonic() - at
        left = 0 if code is None else process.left()
    finally:
        process.kill()
    case = f"{signal.Signals(number).name}, {moment}" if hit else "no worker there"
    good = left == 0 and not debris(run) and code == 70 and "error" in process.said() and took < TIMEOUT_S + 10
    return Trial(case, code, took, left, good or (code == 0 and moment in ("end", "validation")), said=process.said())


def workers(asked: argparse.Namespace) -> Iterator[Trial]:
    """Kill, crash or stop a data worker; every tenth trial a crash, every eighth a stop."""
    profile, whole = profiles(asked.folder)["pit"], undisturbed(asked.folder, "pit")
    for n in range(asked.trials):
        draw, run = random.Random(f"{asked.seed} {n}"), asked.folder / f"workers_{n}"
        number = signal.SIGSEGV if n % 10 == 9 else signal.SIGSTOP if n % 8 == 7 else signal.SIGKILL
        moment = MOMENTS[n % len(MOMENTS)]
        if asked.only not in f"{number.name}, {moment}":
            continue
        count = draw.choice((1, 2, 4))
        line = _line(profile, run, count)
        shutil.rmtree(run, ignore_errors=True)
        trial = _faulty(run, line, moment, number, draw, asked.patience)
        trial.went_on = Run(line, run.with_suffix(".again.log")).end(900) == 0
        trial.same = trial.went_on and curve(run) == whole
        trial.good = trial.good and trial.same
        yield trial


def kill9(asked: argparse.Namespace) -> Iterator[Trial]:
    """Kill whole trainings at random moments, each two to four times, and let the same command end them.

    A trial is one kill; the last of a run says whether it went on and came to the same losses.
    """
    found, n = profiles(asked.folder), 0
    while n < asked.trials:
        name = list(found)[n % len(found)]
        whole = undisturbed(asked.folder, name)
        draw, run = random.Random(f"{asked.seed} {n}"), asked.folder / f"kill9_{n}"
        shutil.rmtree(run, ignore_errors=True)
        line = _line(found[name], run, draw.choice((0, 2)))
        at, kills, trials = 0, min(draw.randrange(2, 5), asked.trials - n), []
        for k in range(kills):
            at = min(at + draw.randrange(1, ALL // kills), ALL - 1)
            trials.append(_killed(line, run, name, at, draw, k))
        done = Run(line, run.with_suffix(".log")).end(900) == 0
        trials[-1].went_on, trials[-1].same = done, done and curve(run) == whole
        trials[-1].good = bool(trials[-1].good and trials[-1].same and not debris(run))
        n += kills
        yield from trials


def _killed(line: list[str], run: Path, name: str, at: int, draw: random.Random, k: int) -> Trial:
    process = Run(line, run.with_suffix(f".{k}.log"))
    try:
        process.until(lambda: steps(run) >= at)
        time.sleep(draw.uniform(0, 0.2))
        os.kill(process.pid, signal.SIGKILL)
        killed = time.monotonic()
        code = process.end(60)
        left = process.left()
    finally:
        process.kill()
    return Trial(
        f"kill -9, {name}", code, time.monotonic() - killed, left, code == -9 and not left, said=process.said()
    )
