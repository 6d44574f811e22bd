"""The training loop: one for every objective.

An objective yields updates; each is a group of parameters and its losses. The trainer alone zeroes, scales,
differentiates, averages over ranks, clips, steps, schedules, logs and saves. A run is a folder; the same
command goes on from its last checkpoint.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from usepcli import device
from usepcli.data.batch import Batch, collate
from usepcli.data.sampling import EpochBatches, torch_seed
from usepcli.engine import tables
from usepcli.engine.training import beginning, parts, states
from usepcli.engine.training.average import MovingAverage
from usepcli.engine.training.distributed import Ranks
from usepcli.engine.training.runfolder import RunFolder
from usepcli.engine.training.schedule import Schedule
from usepcli.engine.training.signals import StopFlag, ignore_in_worker
from usepcli.engine.training.validate import Validator
from usepcli.errors import BadInput, ConfigError, Diverged, Stopped, WorkerDied
from usepcli.models.separator import SeparationModel
from usepcli.objectives.base import Update
from usepcli.weights import build, fitting

# Seconds between progress lines where stderr is no terminal.
PLAIN_LINE_S = 20.0
PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Trainer:
    """Trains a profile in a run folder; `fit` returns when done and raises Stopped after a signal."""

    def __init__(self, profile: Any, folder: Path, force: bool = False) -> None:
        self.p, self.t = profile, profile.train
        self.ranks = Ranks(self.t.worker_timeout_s * 2)
        self.threads = device.set_threads(self.t.threads)
        device.keep_heap()
        self.device = device.pick(self.t.device)
        self.folder = RunFolder(folder) if self.ranks.main else None
        self.path = folder
        self.step = self.epoch = self.in_epoch = self.skipped = self.in_row = 0
        self.window: dict[str, float] = {}
        self.seconds = 0.0
        self._shown = -PLAIN_LINE_S
        self.bad: dict[str, int] = {}
        self.best = -float("inf")
        try:
            self._prepare(force)
        except BaseException:
            self._close()
            raise

    def _prepare(self, force: bool) -> None:
        if self.folder:
            self.folder.begin(self.p.as_dict(), force)
        torch.manual_seed(torch_seed(self.p.seed, 0x5EED))
        self._build()
        self._resume()

    def _close(self) -> None:
        if self.folder:
            self.folder.release()

    def _build(self) -> None:
        share = self.ranks.world * self.t.accumulate
        if self.t.batch_size % share:
            raise ConfigError(
                f"train.batch_size: {self.t.batch_size} is not a multiple of {share} (ranks x train.accumulate)"
            )
        student = build.model(self.p.model)
        beginning.first_weights(self.p, student)
        self.objective = parts.objective(self.p, student)
        beginning.teacher(self.p, self.objective)
        self.objective.to(self.device)
        self.objective.check(self.t.batch_size // share)
        self.ranks.same_start(self.objective)
        self.student = self.objective.student
        self.groups = self.objective.groups()
        self.optimizers = parts.optimizers(self.p, self.groups)
        # Losses in dB have gradients far above 1: the usual first scale of 65 536 would overflow for several steps.
        self.scaler = torch.amp.GradScaler(self.device.type, init_scale=256.0, enabled=self.t.precision == "fp16")
        self.data = parts.training_data(self.p, self.student.sample_rate, self.objective.needs)
        self.batches = EpochBatches(
            len(self.data), self.t.batch_size, self.t.accumulate, self.p.seed, self.ranks.rank, self.ranks.world
        )
        if not self.batches.steps_per_epoch:
            raise ConfigError(
                f"train.batch_size: {self.t.batch_size} is more than the {len(self.data)} mixtures of an epoch"
            )
        self.objective.on_start(self.batches.steps_per_epoch)
        self.total = self.t.epochs * self.batches.steps_per_epoch
        self.total = min(self.total, self.t.max_steps) if self.t.max_steps else self.total
        self.schedule = Schedule(self.p.optim.lr, self.p.schedule.model_dump(), self.total)
        self.average = MovingAverage(self.student, self.t.ema) if self.t.ema > 0 else None
        self.validator = Validator(self.p, self.path, self.device)

    # State

    def state(self) -> dict[str, Any]:
        """Return all that resuming bit by bit needs, in types that a weights_only load accepts."""
        return {
            "objective": self.objective.state_dict(),
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
            "scaler": self.scaler.state_dict(),
            "schedule": self.schedule.state(),
            "average": None if self.average is None else {"state": self.average.state, "steps": self.average.steps},
            "best_states": [list(pair) for pair in self.validator.best.scores],
            "at_start": self.validator.at_start,
            "best": self.best,
            "step": self.step,
            "epoch": self.epoch,
            "in_epoch": self.in_epoch,
            "skipped": self.skipped,
            "in_row": self.in_row,
            "window": self.window,
            "seconds": self.seconds,
            "bad": self.bad,
            "rng": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
        }

    def _resume(self) -> None:
        state, warning = states.load_last(self.path)
        self.resumed = state is not None
        if self.folder:
            # Rows after the checkpoint, or all of them where a kill came before the first one, are run again.
            self.folder.cut_logs(0 if state is None else state["step"])
        if state is None:
            return
        fitting.load_into(self.objective, state["objective"], str(self.path / "last.ckpt"))
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.scaler.load_state_dict(state["scaler"])
        self.schedule.load(state["schedule"])
        if self.average and state["average"]:
            self.average.state = {k: v.to(self.device) for k, v in state["average"]["state"].items()}
            self.average.steps = state["average"]["steps"]
        self.validator.best.scores = [(score, step) for score, step in state["best_states"]]
        self.validator.at_start = state.get("at_start", {})
        for key in ("best", "step", "epoch", "in_epoch", "skipped", "in_row", "window", "seconds", "bad"):
            setattr(self, key, state[key])
        torch.set_rng_state(state["rng"])
        if self.device.type == "cuda" and state["rng_cuda"]:
            torch.cuda.set_rng_state_all(state["rng_cuda"])
        self.say((f"warning: {warning}; " if warning else "") + f"going on from step {self.step}, epoch {self.epoch}")

    def save(self) -> None:
        """Write last.ckpt (rank 0)."""
        if self.ranks.main:
            states.save_state(self.path / "last.ckpt", self.state())
        self._saved = time.monotonic()

    def say(self, line: str) -> None:
        """Write one line to stderr (rank 0)."""
        if self.ranks.main:
            clear = "\r\033[K" if sys.stderr.isatty() else ""
            print(f"{clear}usep: {line}", file=sys.stderr, flush=True)

    def _live(self, line: str) -> None:
        """Show progress: on a terminal in one line that is rewritten, elsewhere a plain line now and then."""
        if not self.ranks.main:
            return
        if sys.stderr.isatty():
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\033[K{line[:width]}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self._shown >= PLAIN_LINE_S:
            self._shown = time.monotonic()
            self.say(line)

    # Loop

    def fit(self) -> None:
        """Train to the end of the profile; Stopped after a signal, Diverged after too many bad steps."""
        flag = StopFlag()
        self._saved = self._since = self._logged = time.monotonic()
        try:
            for line in self.validator.start(self.step, self._teacher()) if self.ranks.main else ():
                self.say(line)
            while self.epoch < self.t.epochs and self.step < self.total and not self._out_of_time():
                self._epoch(flag)
        finally:
            flag.close()
            self.ranks.barrier()
            self.ranks.close()
            self._close()

    def _out_of_time(self) -> bool:
        spent = self.seconds + time.monotonic() - self._since
        return bool(self.t.max_hours) and self.ranks.any(spent > self.t.max_hours * 3600, self.device)

    def _epoch(self, flag: StopFlag) -> None:
        self.objective.train()
        done = False
        for micro in self._steps():
            self._one_step(micro)
            done = self.step >= self.total or self._out_of_time()
            if self.ranks.any(bool(flag.by), self.device):
                self._bank_time()
                self.save()
                raise Stopped(
                    f"{flag.by or 'a signal'}: saved at step {self.step} in {self.path}; run the same command to resume"
                )
            if done:
                break
            if time.monotonic() - self._saved > self.t.checkpoint_every_s:
                self._bank_time()
                self.save()
        if not done or self.in_epoch == self.batches.steps_per_epoch:
            self._end_epoch()
        if done or self.epoch % self.p.valid.every_epochs == 0:
            self._validate()
        self._bank_time()
        self.save()

    def _end_epoch(self) -> None:
        self.objective.on_epoch_end()
        self.schedule.epoch_end(self.epoch)
        self.epoch, self.in_epoch = self.epoch + 1, 0

    def _steps(self) -> Iterator[list[Batch]]:
        """Yield the micro-batches of each step from the present place in the epoch on."""
        self.batches.start(self.epoch, self.in_epoch)
        workers = self.t.workers
        loader: torch.utils.data.DataLoader[Batch] = torch.utils.data.DataLoader(
            self.data,  # type: ignore[arg-type]
            batch_sampler=self.batches,
            num_workers=workers,
            collate_fn=collate,
            worker_init_fn=ignore_in_worker if workers else None,
            timeout=self.t.worker_timeout_s if workers else 0,
            # Its own generator: otherwise every new iterator draws from the global one, and a resumed run departs.
            generator=torch.Generator().manual_seed(torch_seed(self.p.seed, self.epoch, 0x10AD)),
        )
        held: list[Batch] = []
        try:
            for batch in loader:
                held.append(batch)
                if len(held) == self.t.accumulate:
                    yield held
                    held = []
        except (RuntimeError, ConnectionError) as fault:
            if workers and ("DataLoader" in str(fault) or isinstance(fault, ConnectionError)):
                raise WorkerDied(
                    f"a data worker died or hung ({str(fault).splitlines()[0]}); likely out of memory or a slow "
                    "disk: lower train.workers or train.batch_size, and run the same command again"
                ) from fault
            raise

    def _one_step(self, micro: list[Batch]) -> None:
        self.step, self.in_epoch = self.step + 1, self.in_epoch + 1
        lr = self.schedule.at(self.step)
        self.objective.rng.manual_seed(torch_seed(self.p.seed, self.epoch, self.step, self.ranks.rank))
        for batch in micro:
            self._count_bad(batch)
        # One generator for each micro-batch: all of them reach an update before it is applied.
        streams = [self.objective.updates(batch.to(self.device)) for batch in micro]
        figures: dict[str, float] = {}
        finite: bool | None = True
        while finite:
            finite = self._update(streams, lr, figures)
        self._after_step(finite is None, lr, figures)

    def _update(self, streams: list[Iterator[Update]], lr: float, figures: dict[str, float]) -> bool | None:
        """Step a group by the next update of each micro-batch; None where none is left, False if not finite."""
        group = ""
        total: Tensor = torch.zeros((), device=self.device)
        # One after the other, so that the activations of one micro-batch alone are held at a time.
        for stream in streams:
            with self._autocast():
                update = next(stream, None)
            if update is None:
                return None
            if not group:
                group = update.group
                self.optimizers[group].zero_grad(set_to_none=True)
            total = total + self._differentiate(update, len(streams), figures)
        return self._apply(group, total, lr, figures)

    def _autocast(self) -> torch.autocast:
        kind = PRECISIONS.get(self.t.precision)
        return torch.autocast(self.device.type, kind, enabled=kind is not None)

    def _differentiate(self, update: Update, count: int, figures: dict[str, float]) -> Tensor:
        """Add the gradient of one of `count` micro-batches to the parameters; return its share of the loss."""
        loss = torch.stack([value.float() for value in update.losses.values()]).sum() / count
        self.scaler.scale(loss).backward()
        for name, value in {**update.losses, **update.logs, **self.objective.step_logs}.items():
            value = float(value.detach()) if isinstance(value, Tensor) else value
            figures[name] = figures.get(name, 0.0) + value / count
        return loss.detach()

    def _apply(self, group: str, total: Tensor, lr: float, figures: dict[str, float]) -> bool:
        """Step the group with the gradients that it holds; False if anything was not finite."""
        optimizer, parameters = self.optimizers[group], list(self.groups[group].parameters())
        self.scaler.unscale_(optimizer)
        self.ranks.average_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.t.clip_norm or float("inf"))
        total = self.ranks.mean(total)
        key = "loss" if group == "model" else f"loss_{group}"
        figures[key] = float(total)
        figures["grad_norm" if group == "model" else f"grad_norm_{group}"] = float(norm)
        # The norm alone decides: one bad gradient makes it non-finite, on every rank, and clipping would spread it.
        finite = bool(torch.isfinite(norm)) and bool(torch.isfinite(total))
        if finite:
            for slot in optimizer.param_groups:
                slot["lr"] = lr
            self.scaler.step(optimizer)
        self.scaler.update()
        return finite

    def _after_step(self, finite: bool, lr: float, figures: dict[str, float]) -> None:
        if finite:
            self.in_row = 0
            self.objective.on_step_end()
            if self.average:
                self.average.update(self.student)
            for name, value in figures.items():
                self.window[name] = self.window.get(name, 0.0) + value
            self.window["n"] = self.window.get("n", 0) + 1
        else:
            self.skipped, self.in_row = self.skipped + 1, self.in_row + 1
            self.say(f"warning: step {self.step}: loss or gradient not finite, step skipped ({self.skipped} so far)")
            if self.in_row >= self.t.nonfinite_patience:
                raise Diverged(
                    f"{self.in_row} steps in a row were not finite (train.nonfinite_patience); the last good "
                    f"checkpoint is {self.path / 'last.ckpt'}; lower optim.lr, or audit the data: prepare-data --check"
                )
        if self.step % self.t.log_every == 0:
            self._log(lr)

    def _log(self, lr: float) -> None:
        n = self.window.pop("n", 0)
        means = {k: v / n for k, v in self.window.items()} if n else {}
        self.window = {}
        now = time.monotonic()
        speed = self.t.log_every * self.t.batch_size / max(now - self._logged, 1e-9)
        self._logged = now
        if not self.ranks.main:
            return
        row = {
            "step": self.step,
            "epoch": self.epoch,
            "loss": means.pop("loss", float("nan")),
            "lr": lr,
            "grad_norm": means.pop("grad_norm", float("nan")),
            "items_per_s": round(speed, 2),
            "skipped": self.skipped,
            "seconds": round(self.seconds + now - self._since, 1),
            **means,
        }
        tables.append_row(self.path / "train.csv", row)
        left = (self.total - self.step) * self.t.batch_size / max(speed, 1e-9)
        self._live(
            f"epoch {self.epoch} step {self.step}/{self.total} loss {row['loss']:.3f} lr {lr:.2e} "
            f"grad {row['grad_norm']:.2f} {speed:.1f} items/s, {left / 60:.0f} min left"
        )

    def _bank_time(self) -> None:
        now = time.monotonic()
        self.seconds, self._since = self.seconds + now - self._since, now

    def _count_bad(self, batch: Batch) -> None:
        for line in batch.bad_files:
            if line not in self.bad:
                self.say(f"warning: {line}; another example takes its place")
                if self.ranks.main:
                    tables.append_row(self.path / "bad_files.csv", {"step": self.step, "fault": line})
            self.bad[line] = self.bad.get(line, 0) + 1
        if len(self.bad) > max(self.p.data.max_bad * len(self.data), 1):
            raise BadInput(
                f"{len(self.bad)} of {len(self.data)} training items are unusable (data.max_bad), the last: "
                f"{batch.bad_files[-1] if batch.bad_files else ''}; run usep prepare-data --check"
            )

    def _validate(self) -> None:
        started = time.monotonic()
        score = 0.0
        if self.ranks.main:
            weights = self.average.state if self.average else self.student.state_dict()
            score = self.validator.score(weights, self.step, self._teacher(), self.skipped)
        score = self.ranks.share(score, self.device)
        self.schedule.validated(score)
        better = score > self.best
        self.best = max(self.best, score)
        if self.ranks.main:
            self.validator.record(self.epoch, self.step, score, self.best, time.monotonic() - started)
            for line in self.validator.lines(self.best, better):
                self.say(f"epoch {self.epoch} step {self.step}: {line}")

    def _teacher(self) -> SeparationModel | None:
        return getattr(self.objective, "teacher", None)
