"""Learning rate as a function of step and epoch, with the little state that two of the schedules need."""

from __future__ import annotations

import math
from typing import Any


class Schedule:
    """constant, cosine, warmup_hold_decay (Saijo & Ogawa 2023, section 3.4) or plateau; linear warm-up in all.

    warmup_hold_decay multiplies by `decay` at every `every_epochs`-th epoch end after `hold_epochs`, while the
    rate is above `min_lr`. plateau multiplies by `factor` when `patience` validations bring no improvement, those of
    the first `hold_epochs` not counted.
    cosine falls to `min_lr` at `total_steps`.
    """

    def __init__(self, lr: float, options: dict[str, Any], total_steps: int) -> None:
        self.lr, self.o, self.total = lr, options, max(total_steps, 1)
        self.scale = 1.0
        self.counted = 0
        self.best = -math.inf
        self.waited = 0

    def ramp(self, step: int) -> float:
        """Return the share of the rate that the warm-up allows at optimiser step `step`, counted from 1."""
        warmup = self.o["warmup_steps"]
        return float(min(step / warmup, 1.0)) if warmup else 1.0

    def at(self, step: int) -> float:
        """Return the rate of optimiser step `step`, counted from 1."""
        warmup, ramp = self.o["warmup_steps"], self.ramp(step)
        if self.o["name"] == "cosine":
            done = min(max(step - warmup, 0) / max(self.total - warmup, 1), 1.0)
            low = self.o["min_lr"]
            return ramp * (low + (self.lr - low) * 0.5 * (1 + math.cos(math.pi * done)))
        return ramp * self.lr * self.scale

    def epoch_end(self, epoch: int) -> None:
        """Count a finished epoch (0-based)."""
        if epoch < self.o["hold_epochs"]:
            return
        self.counted += 1
        if self.o["name"] != "warmup_hold_decay":
            return
        if self.counted % self.o["every_epochs"] == 0 and self.lr * self.scale > self.o["min_lr"]:
            self.scale *= self.o["decay"]

    def validated(self, score: float) -> None:
        """Count a validation, higher being better."""
        if self.o["name"] != "plateau":
            return
        if score > self.best:
            self.best, self.waited = score, 0
            return
        if self.o["hold_epochs"] and not self.counted:
            return
        self.waited += 1
        if self.waited >= self.o["patience"]:
            self.waited = 0
            self.scale = max(self.scale * self.o["factor"], self.o["min_lr"] / self.lr)

    def state(self) -> dict[str, float]:
        """Return what resuming needs."""
        return {"scale": self.scale, "counted": self.counted, "best": self.best, "waited": self.waited}

    def load(self, state: dict[str, float]) -> None:
        """Restore what `state` returned."""
        self.scale, self.best = state["scale"], state["best"]
        self.counted, self.waited = int(state["counted"]), int(state["waited"])
