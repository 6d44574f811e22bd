"""Campaigns against a training of two ranks: one is killed or stopped, or signals come by way of torchrun.

`ranks`: at a random moment (in the start, in a step, around a validation) one of two ranks gets SIGKILL, every tenth
time SIGSTOP, started by `usep train --ranks 2` and by torchrun in turn. Good is a status of 70 with one line of reason
(75 or none in the start, where there is nothing to lose), nobody left, and the same command going on.

`torchrun`: SIGTERM, SIGUSR1, SIGINT and SIGHUP to torchrun, to its whole group, and to one rank; SIGKILL to torchrun.
Good is a status of 75, whatever torchrun itself ends with, nobody left, and the same command going on.

`slurm`: what Slurm sends a step below torchrun, before its limit, at scancel and at preemption. Good is the same.

Several faults in a row hit one run, until it ends; its losses and weights are then those of an undisturbed run with two
ranks, to the last bit, or none of its trials is `same`. The exit code of a trial is what the caller of the ranks saw.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from faults_runs import Run, Trial, curve, debris, profiles, steps, usep
from faults_workers import ALL

CHAIN = 4  # faults that hit one run
STOPPED_AFTER_S = 5.0  # train.worker_timeout_s of the profiles
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)


class Fault(NamedTuple):
    """A signal, to whom, and the status codes that are right for it."""

    number: signal.Signals
    to: str  # launcher, group, rank
    by: str  # torchrun, usep
    codes: tuple[int, ...]
    before: signal.Signals | None = None  # sent just before
    then: signal.Signals | None = None  # sent a second later
    kill_after_s: float = 0.0  # after which all that is left gets SIGKILL

    @property
    def name(self) -> str:
        """Return what the table calls it."""
        told = [one.name for one in (self.before, self.number, self.then) if one is not None]
        return f"{self.by}: {', '.join(told)} to {self.to}"


def _line(profile: Path, run: Path, by: str) -> list[str]:
    asked = ["train", "--profile", str(profile), "-o", str(run)]
    if by == "usep":
        return usep(*asked, "--ranks", "2")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port]
    return [*torchrun, "-m", "usepcli", *asked]


def ranks_of(run: Path) -> list[int]:
    """Return the processes whose command line trains in a run folder, workers too, launchers not."""
    found = []
    for entry in os.listdir("/proc"):
        with suppress(OSError, ValueError):
            words = Path(f"/proc/{int(entry)}/cmdline").read_bytes().split(b"\0")
            launcher = b"--ranks" in words or b"torch.distributed.run" in words
            if str(run).encode() in words and not launcher:
                found.append(int(entry))
    return sorted(found)


def undisturbed(folder: Path, profile: Path) -> Path:
    """Return a run with two ranks that nobody disturbs."""
    run = folder / "undisturbed_ranks"
    if steps(run) < ALL:
        shutil.rmtree(run, ignore_errors=True)
        process = Run(_line(profile, run, "usep"), folder / "undisturbed_ranks.log")
        if process.end(900) != 0:
            raise SystemExit(f"the undisturbed run failed: {process.said()}")
    return run


def _wait(process: Run, run: Path, draw: random.Random) -> str:
    """Wait for a random moment; return its name, '' where the run ended first."""
    process.until(lambda: ranks_of(run))
    if draw.random() < 0.2:
        time.sleep(draw.uniform(0, 4))
        return "start" if process.poll() is None else ""
    begun = steps(run)
    after = min(begun + draw.randrange(1, 4), ALL - 1)
    # Rows after the last save are taken back at the start, so that the count falls first.
    process.until(lambda: steps(run) < begun, 3.0)
    process.until(lambda: steps(run) > after)
    time.sleep(draw.uniform(0, 0.3))
    return "step" if process.poll() is None else ""


def _send(fault: Fault, process: Run, run: Path, draw: random.Random) -> None:
    with suppress(ProcessLookupError):
        if fault.to == "launcher":
            os.kill(process.pid, fault.number)
        elif fault.to == "group":
            if fault.before is not None:
                os.killpg(process.pid, fault.before)
            os.killpg(process.pid, fault.number)
            if fault.then is not None:
                time.sleep(1.0)
                os.killpg(process.pid, fault.then)
        elif alive := ranks_of(run):
            os.kill(draw.choice(alive), fault.number)


def _status(run: Path) -> tuple[int | None, str]:
    from usepcli.engine.training import status

    found = status.read(run)
    return found.get("code"), str(found.get("reason", ""))


def _hit(fault: Fault, line: list[str], run: Path, draw: random.Random, patience: float) -> Trial | None:
    """Start the ranks, send the signal, wait until all have ended; None where the run came to its end first."""
    process = Run(line, run.with_suffix(".log"))
    try:
        moment = _wait(process, run, draw)
        if not moment:
            return None
        _send(fault, process, run, draw)
        at = time.monotonic()
        code = process.end(fault.kill_after_s or patience)
        if code is None and fault.kill_after_s:
            os.killpg(process.pid, signal.SIGKILL)
            code = process.end(patience)
        while (alive := ranks_of(run)) and time.monotonic() < at + patience:
            time.sleep(0.05)
        took = time.monotonic() - at
    finally:
        process.kill()
        for pid in ranks_of(run):
            os.kill(pid, signal.SIGKILL)
    told, reason = _status(run)
    said = [text for text in run.with_suffix(".log").read_text(errors="replace").splitlines() if "error: " in text]
    once = len([text for text in said if text.startswith("usep: ")]) <= 1
    good = not alive and code is not None and took < STOPPED_AFTER_S + 30
    finished = told == 0 and steps(run) >= ALL  # it had just come to its end
    good = good and once and (told in fault.codes or finished or moment == "start")
    if not good:  # the next trial writes its own
        shutil.copyfile(run.with_suffix(".log"), run.with_suffix(f".bad{at:.0f}.log"))
    return Trial(f"{fault.name}, {moment}", code, took, len(alive), good, said=f"status {told}: {reason[:90]}")


def _campaign(asked: argparse.Namespace, faults: list[Fault]) -> Iterator[Trial]:
    profile, n, chain = profiles(asked.folder)["pit"], 0, 0
    whole = undisturbed(asked.folder, profile)
    faults = [fault for fault in faults if asked.only in fault.name]
    while n < asked.trials:
        run, held = asked.folder / f"ranks_{asked.campaign}_{chain}", list[Trial]()
        shutil.rmtree(run, ignore_errors=True)
        while len(held) < min(CHAIN, asked.trials - n):
            fault, draw = faults[(n + len(held)) % len(faults)], random.Random(f"{asked.seed} {chain} {len(held)}")
            trial = _hit(fault, _line(profile, run, fault.by), run, draw, asked.patience)
            if trial is None:
                break
            print(f"    {trial}", file=sys.stderr, flush=True)
            held.append(trial)
        done = Run(_line(profile, run, "usep"), run.with_suffix(".again.log")).end(900) == 0
        same = done and curve(run) == curve(whole) and not debris(run) and _weights(run) == _weights(whole)
        for trial in held:
            trial.went_on, trial.same = done, same
            trial.good = trial.good and same
        yield from held
        n, chain = n + len(held), chain + 1


def _weights(run: Path) -> dict[str, bytes]:
    from usepcli.weights import store

    return {name: value.numpy().tobytes() for name, value in store.read_weights(run / "best.safetensors").items()}


def ranks(asked: argparse.Namespace) -> Iterator[Trial]:
    """Kill or stop one of two ranks."""
    # torchrun tells a rank that is left at once, which may end by its word before it misses the other.
    kill = [Fault(signal.SIGKILL, "rank", by, codes) for by, codes in (("usep", (70,)), ("torchrun", (70, 75)))]
    stop = [Fault(signal.SIGSTOP, "rank", by, (70,)) for by in ("usep", "torchrun")]
    return _campaign(asked, [*kill * 4, stop[0], *kill * 4, stop[1]])


def torchrun(asked: argparse.Namespace) -> Iterator[Trial]:
    """Send what schedulers and people send, by way of torchrun, and kill it."""
    faults = [Fault(number, to, "torchrun", (75,)) for to in ("launcher", "group", "rank") for number in SIGNALS]
    return _campaign(asked, [*faults, Fault(signal.SIGKILL, "launcher", "torchrun", (75,))])


def slurm(asked: argparse.Namespace) -> Iterator[Trial]:
    """Send the processes of a step below torchrun what Slurm does, in its order and at its intervals.

    Before the limit SIGUSR1 goes to every process of the step; at scancel, preemption and the limit itself SIGCONT and
    SIGTERM do, and KillWait later SIGKILL, to all at once.
    """
    limit = Fault(signal.SIGUSR1, "group", "torchrun", (75,))
    cancel = Fault(signal.SIGTERM, "group", "torchrun", (75,), before=signal.SIGCONT, kill_after_s=30.0)
    both = Fault(signal.SIGUSR1, "group", "torchrun", (75,), then=signal.SIGTERM, kill_after_s=30.0)
    return _campaign(asked, [limit, cancel, both])
