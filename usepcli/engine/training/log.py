"""What a run says while it trains: train.csv, lines on stderr, and the time that is left."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from usepcli.engine import tables

# How many steps of the window had a figure stands beside its sum under this name.
_HAD = "steps with "
# Seconds between progress lines where stderr is no terminal.
PLAIN_LINE_S = 20.0
TABLE = "train.csv"


class TrainLog:
    """Means of the figures of each `every` steps, as rows of train.csv and as progress; `main` false: silent."""

    def __init__(self, folder: Path, every: int, batch_size: int, total: int, main: bool) -> None:
        self.folder, self.every, self.batch_size, self.total, self.main = folder, every, batch_size, total, main
        self.window: dict[str, float] = {}
        self.seconds = 0.0  # of earlier stretches of the run
        self._shown = -PLAIN_LINE_S
        self._since = self._logged = time.monotonic()

    def start(self) -> None:
        """Begin to count the time."""
        self._since = self._logged = time.monotonic()

    @property
    def spent_s(self) -> float:
        """Seconds of training so far, those before an interruption included."""
        return self.seconds + time.monotonic() - self._since

    def bank(self) -> None:
        """Take the time so far into `seconds`, which the state keeps."""
        now = time.monotonic()
        self.seconds, self._since = self.seconds + now - self._since, now

    def add(self, figures: Mapping[str, float]) -> None:
        """Take in the figures of one step; a log without a value, such as one of a kind of item it had not, is nan."""
        for name, value in figures.items():
            had = math.isfinite(value)
            self.window[name] = self.window.get(name, 0.0) + (value if had else 0.0)
            self.window[_HAD + name] = self.window.get(_HAD + name, 0.0) + had
        self.window["n"] = self.window.get("n", 0) + 1

    def step(self, step: int, epoch: int, lr: float, skipped: int) -> None:
        """Write a row and a progress line where one is due after optimiser step `step`."""
        if step % self.every:
            return
        n = self.window.pop("n", 0)
        had = {k.removeprefix(_HAD): self.window.pop(k) for k in list(self.window) if k.startswith(_HAD)}
        counts = {k: had.get(k, n) for k in self.window}  # the state of an earlier version counts steps alone
        means = {k: v / counts[k] if counts[k] else math.nan for k, v in self.window.items()}
        self.window = {}
        now = time.monotonic()
        speed = self.every * self.batch_size / max(now - self._logged, 1e-9)
        self._logged = now
        if not self.main:
            return
        row: dict[str, Any] = {
            "step": step,
            "epoch": epoch,
            "loss": means.pop("loss", float("nan")),
            "lr": lr,
            "grad_norm": means.pop("grad_norm", float("nan")),
            "items_per_s": round(speed, 2),
            "skipped": skipped,
            "seconds": round(self.spent_s, 1),
            **means,
        }
        tables.append_row(self.folder / TABLE, row)
        left = (self.total - step) * self.batch_size / max(speed, 1e-9)
        self._live(
            f"epoch {epoch} step {step}/{self.total} loss {row['loss']:.3f} lr {lr:.2e} "
            f"grad {row['grad_norm']:.2f} {speed:.1f} items/s, {left / 60:.0f} min left"
        )

    def say(self, line: str) -> None:
        """Write one line to stderr."""
        if self.main:
            clear = "\r\033[K" if sys.stderr.isatty() else ""
            print(f"{clear}usep: {line}", file=sys.stderr, flush=True)

    def _live(self, line: str) -> None:
        """Show progress: on a terminal in one line that is rewritten, elsewhere a plain line now and then."""
        if sys.stderr.isatty():
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\033[K{line[:width]}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self._shown >= PLAIN_LINE_S:
            self._shown = time.monotonic()
            self.say(line)
