"""What the campaigns of faults.py share: a tiny corpus, tiny profiles, runs of `usep`, and a look at processes."""

from __future__ import annotations

import csv
import multiprocessing.util
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

RATE = 8000
ENV = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
PROFILE = """\
about: a tiny run for faults
licence: CC0
data: {{manifest: {manifest}, segment_s: 0.25}}
model: {{name: conformer_mask, preset: tiny, n_src: {n_src}, sample_rate: 8000, dropout: 0.1}}
objective: {objective}
optim: {{lr: 1e-3}}
schedule: {{name: warmup_hold_decay, warmup_steps: 4, hold_epochs: 1, decay: 0.9}}
train: {{epochs: 3, batch_size: 4, log_every: 1, ema: 0.9, threads: 1, checkpoint_every_s: 0.3, worker_timeout_s: 5}}
valid: {{keep_best: 2, average: 2, mom_pairs: 0}}
"""
OBJECTIVES = {
    "pit": "{name: pit}",
    "mixit": "{name: mixit}",
    "remixit": "{name: remixit, teacher: ema_step, ema: 0.5}",
}


@dataclass
class Trial:
    """One fault. code: None where the run hung. left: processes alive after its end. None: does not apply."""

    case: str
    code: int | None
    seconds: float
    left: int
    good: bool
    went_on: bool | None = None
    same: bool | None = None
    said: str = ""

    def __str__(self) -> str:
        code = "hang" if self.code is None else self.code
        marks = "" if self.good else "  NOT GOOD"
        return (
            f"{self.case}: {code} after {self.seconds:.1f} s, {self.left} left, went on: {self.went_on}, "
            f"same: {self.same}{marks}  {self.said}"
        )


def corpus(root: Path, train: int = 16, valid: int = 3, seconds: float = 0.5) -> Path:
    """Write two-voice mixtures with their sources and return the manifest."""
    from usepcli.audio import io
    from usepcli.data.manifest import Manifest, Row

    draw, rows, t = np.random.default_rng(0), [], np.arange(round(RATE * seconds)) / RATE
    for split, count in {"train": train, "valid": valid}.items():
        for i in range(count):
            at = f"{split}/{i:03d}"
            (root / at).mkdir(parents=True)
            low, high = (
                0.1 * sum(np.sin(2 * np.pi * k * draw.uniform(*band) * t + draw.uniform(0, 6)) / k for k in range(1, 6))
                * (np.sin(2 * np.pi * draw.uniform(0.5, 2) * t) > -0.5)
                for band in ((90, 140), (200, 300))
            )  # fmt: skip
            for name, wave in {"mix": low + high, "s1": low, "s2": high}.items():
                io.write(root / at / f"{name}.wav", wave.astype(np.float32), RATE)
            sources = (f"{at}/s1.wav", f"{at}/s2.wav")
            own: dict[str, Any] = {"id": f"{split}-{i:03d}", "split": split, "mixture": f"{at}/mix.wav"}
            rows.append(Row(**own, sources=sources, sample_rate=RATE, frames=t.size, n_src=2, licence="CC0"))
    Manifest(rows, root, root / "manifest.csv").write(root / "manifest.csv")
    return root / "manifest.csv"


def profiles(folder: Path) -> dict[str, Path]:
    """Write a corpus and a profile for each of OBJECTIVES below `folder`, once, and return the profiles."""
    manifest = folder / "data" / "manifest.csv"
    if not manifest.exists():
        corpus(manifest.parent)
    found = {}
    for name, objective in OBJECTIVES.items():
        found[name] = folder / f"faults_{name}.yaml"
        n_src = 4 if name == "mixit" else 2
        found[name].write_text(PROFILE.format(manifest=manifest, objective=objective, n_src=n_src))
    return found


def usep(*arguments: str) -> list[str]:
    """Return a command line of usep with this Python."""
    return [sys.executable, "-m", "usepcli", *arguments]


class Run:
    """A command under way in a session of its own, so that whatever it starts can be told and ended."""

    warm = False  # fork usep's lines from this process, in which torch is imported once, in place of a new Python

    def __init__(self, line: Sequence[str], log: Path, **env: str) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log, self.code = log, None
        if self.warm:
            _warm()
        self.pid = os.fork()
        if not self.pid:
            self._become(list(line), {**ENV, **env})

    def _become(self, line: list[str], env: dict[str, str]) -> NoReturn:
        try:
            os.setsid()
            handle = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            for stream in (1, 2):
                os.dup2(handle, stream)
            os.environ.update(env)
            if not self.warm or line[: len(usep())] != usep():
                os.execvp(line[0], line)
            from usepcli.cli import app

            sys.argv = ["usep", *line[len(usep()) :]]
            app.main()
            sys.exit(0)
        except SystemExit as end:
            multiprocessing.util._exit_function()  # as at the end of a Python of its own
            os._exit(end.code if isinstance(end.code, int) else 1)
        finally:
            os._exit(99)

    def poll(self) -> int | None:
        """Return the exit code, -N after signal N; None while it runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def until(self, condition: Callable[[], Any], patience_s: float = 120.0) -> Any:
        """Return the condition's value once it is true; None if the run ends before, or patience does."""
        end = time.monotonic() + patience_s
        while self.poll() is None and time.monotonic() < end:
            if value := condition():
                return value
            time.sleep(0.002)
        return None

    def end(self, patience_s: float) -> int | None:
        """Return the exit code; None where patience ended before the run."""
        end = time.monotonic() + patience_s
        while self.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        return self.code

    def left(self, patience_s: float = 5.0) -> int:
        """Return how many processes of the session still live after at most `patience_s`; kill them."""
        end = time.monotonic() + patience_s
        while (alive := session(self.pid)) and time.monotonic() < end:
            time.sleep(0.05)
        for pid in alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(alive)

    def kill(self) -> None:
        """End what is left of it."""
        self.left(0.0)
        self.end(60.0)

    def said(self) -> str:
        """Return its last line that is no progress."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if "items/s" not in line]
        return lines[-1] if lines else ""


def _warm() -> None:
    import torch._dynamo  # noqa: F401

    import usepcli.engine.training.train  # noqa: F401

    sys.modules.setdefault("matplotlib", None)  # type: ignore[arg-type]  # no curves: half of a tiny run's time


def _stat(pid: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def session(leader: int) -> list[int]:
    """Return the living processes of a session."""
    stats = {pid: _stat(pid) for pid in os.listdir("/proc") if pid.isdecimal()}
    return [int(pid) for pid, s in stats.items() if len(s) > 3 and s[0] not in "ZX" and int(s[3]) == leader]


def children(pid: int) -> list[int]:
    """Return the living children of a process."""
    found = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(word) for word in listed.read_text().split()]
        except OSError:
            continue
    return [child for child in found if (s := _stat(str(child))) and s[0] not in "ZX"]


def steps(run: Path) -> int:
    """Return how many steps a run has logged."""
    try:
        return max((run / "train.csv").read_bytes().count(b"\n") - 1, 0)
    except OSError:
        return 0


def curve(run: Path) -> list[tuple[str, ...]]:
    """Return step, loss and gradient norm of every row as they stand in train.csv."""
    with open(run / "train.csv", newline="", encoding="utf-8") as file:
        return [(row["step"], row["loss"], row["grad_norm"]) for row in csv.DictReader(file)]


def debris(run: Path) -> list[str]:
    """Return the files of a run folder that are half written."""
    return [path.name for path in run.rglob("*") if ".tmp" in path.name]
