"""The training loop: one for every objective.

An objective declares steps; each is a group of parameters and its losses, which `stepping` takes. The trainer builds,
schedules, validates and saves. A run is a folder; the same command goes on from its last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from usepcli import device, stops
from usepcli.data.batch import Batch
from usepcli.data.sampling import torch_seed
from usepcli.engine import tables
from usepcli.engine.training import beginning, look, parts, states
from usepcli.engine.training.apart import Apart
from usepcli.engine.training.average import MovingAverage
from usepcli.engine.training.distributed import Ranks
from usepcli.engine.training.feed import Feed
from usepcli.engine.training.log import TrainLog
from usepcli.engine.training.runfolder import RunFolder, flatten
from usepcli.engine.training.schedule import Schedule
from usepcli.engine.training.signals import Cut, StopFlag
from usepcli.engine.training.stepping import Stepper
from usepcli.engine.training.validate import Validator
from usepcli.engine.training.watch import Watch
from usepcli.errors import ConfigError, Diverged, Stopped, WorkerDied
from usepcli.files import show
from usepcli.objectives.base import MAIN
from usepcli.objectives.supervised import Place
from usepcli.profile.schema import BLIND
from usepcli.stops import Ended
from usepcli.weights import build, fitting

# What may differ from rank to rank, as their machines do.
OWN = ("threads", "workers", "device", "cache")


def _shared(profile: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flatten(profile).items() if key.rpartition(".")[2] not in OWN}


class Trainer:
    """Trains a profile in a run folder; `fit` returns when done and raises Stopped after a signal."""

    def __init__(self, profile: Any, folder: Path, force: bool = False, watch: Watch | None = None) -> None:
        self.p, self.t = profile, profile.train
        self.device = device.pick(self.t.device)
        self.ranks = Ranks(watch, self.t.worker_timeout_s, self.device.type)
        self.threads = device.set_threads(self.t.threads)
        device.keep_heap()
        self.folder = RunFolder(folder) if self.ranks.main else None
        self.path = folder
        self.step = self.epoch = self.in_epoch = self.skipped = self.in_row = 0
        self.due = False  # a validation of the present weights, which the saved state promises
        self.best = -float("inf")
        try:
            self._prepare(force)
        except BaseException as error:
            self._close(error)
            raise

    def _prepare(self, force: bool) -> None:
        if self.folder:
            self.ranks.record(self.path)
            self.folder.refuse_other(self.p.as_dict(), force)
            self.folder.refuse_data(self.p.data, force)
        self.ranks.agree(_shared(self.p.as_dict()), "settings")
        torch.manual_seed(torch_seed(self.p.seed, 0x5EED))
        self._build()
        last = states.load_last(self.path)
        # A file system that is slow to tell may show the ranks different states.
        self.ranks.agree({"step": last.state and last.state["step"]}, "saved states")
        lines = self._restore(last)
        if self.folder:  # nothing is written before all that lies here is found to fit
            # Rows after the checkpoint, or all of them where a kill came before the first one, are run again.
            self.folder.cut_logs(self.step, self.due)
            where = {"device": device.named(self.device), "ranks": self.ranks.world, "step": self.step}
            lines += self.folder.begin(self.p.as_dict(), force, where)
            if fixed := beginning.fixed_facts(self.objective):
                self.folder.note({"fixed": fixed})
        shares = self.ranks.shares(self.feed.batch_size, self.objective.place.parts, self.objective.mixes)
        begins = [] if self.resumed else self._begins_anew
        for line in (*begins, *self._each_start, *self.feed.notes, *shares, *lines):
            self.log.say(line)

    def _close(self, error: BaseException | None = None) -> None:
        if self.folder and isinstance(error, Apart):  # the watch finds out why, and records that
            self.folder.release()
        elif self.folder:
            self.folder.close(error)

    def _build(self) -> None:
        student = build.model(self.p.model)
        self._begins_anew = beginning.first_weights(self.p, student)
        self.objective = parts.objective(self.p, student)
        self._begins_anew += beginning.first_parts(self.p, self.objective)
        beginning.stored_models(self.p, self.objective)
        self.objective.to(self.device)
        self.objective.place = Place(parts=self.ranks.world * self.t.accumulate)
        self.ranks.same_start(self.objective)
        self.student = self.objective.student
        self._each_start = beginning.compiled(self.p, self.student, self.device)
        where = self.student.sample_rate, self.ranks.rank, self.ranks.world
        self.feed = Feed(self.p, self.objective, *where, self._unusable, lambda x: self.ranks.gathered(x, self.device))
        self.ranks.agree({"steps": self.feed.total, "items": len(self.feed.data)}, "training data")
        self.objective.on_start(self.feed.steps_per_epoch)
        self.objective.total_steps = self.feed.total
        self.total = self.feed.total
        self.schedule = Schedule(self.p.optim.lr, self.p.schedule.model_dump(), self.total)
        self.stepper = Stepper(self.p, self.objective, self.schedule, self.ranks, self.device)
        self.log = TrainLog(self.path, self.t.log_every, self.feed.batch_size, self.total, self.ranks.main)
        self.average = MovingAverage(self.student, self.t.ema) if self.t.ema > 0 else None
        self.validator = Validator(self.p, self.path, self.device, self.objective)
        # A validation may last for hours, and is over when a worker is lost.
        self.validator.model.register_forward_pre_hook(lambda *_: self.feed.check())

    # State

    def state(self) -> dict[str, Any]:
        """Return all that resuming bit by bit needs, in types that a weights_only load accepts."""
        return {
            "objective": self.objective.state_dict(),
            **self.stepper.state(),
            "fixed": beginning.fixed_facts(self.objective),
            "schedule": self.schedule.state(),
            "average": None if self.average is None else {"state": self.average.state, "steps": self.average.steps},
            **self.validator.best.state(),
            "at_start": self.validator.at_start,
            "best": self.best,
            "step": self.step,
            "epoch": self.epoch,
            "in_epoch": self.in_epoch,
            "skipped": self.skipped,
            "in_row": self.in_row,
            "due": self.due,
            "window": self.log.window,
            "seconds": self.log.seconds,
            "bad": self.feed.bad,
            "ranks": self.ranks.world,
            "batch": self.feed.batch_size,
            "micro": self.feed.batches.micro_of(self.epoch),
            "rng": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
        }

    def _restore(self, last: states.Last) -> list[str]:
        """Take over a saved state, and return what is to be said of it; BadInput where it does not fit."""
        # One that cannot be read is not to push out the one before, which could.
        self._keeps = last.path.name == states.SAVED[0]
        self.resumed = last.state is not None
        if last.state is None:
            return []
        with states.restoring(last.path):
            self._take_over(last.state, str(last.path))
        other = self._other_ranks(last.state)
        warned = f"warning: {last.warning}; " if last.warning else ""
        said = self.validator.best.lost() if self.ranks.main else []
        return [*said, f"{warned}going on from step {self.step}, epoch {self.epoch}{other}"]

    def _take_over(self, state: dict[str, Any], where: str) -> None:
        beginning.check_fixed(state.get("fixed", {}), self.objective, where)
        kept = beginning.without_fixed(state["objective"], self.objective, where)
        fitting.load_into(self.objective, kept, where)
        self.stepper.load(state)
        self.schedule.load(state["schedule"])
        if self.average and state["average"]:
            self.average.load(state["average"], where)
        elif self.average:
            self.average = MovingAverage(self.student, self.t.ema)
        self.validator.best.load(state)
        self.validator.at_start = state.get("at_start", {})
        for key in ("best", "step", "epoch", "in_epoch", "skipped", "in_row"):
            setattr(self, key, state[key])
        self.due, self.log.window, self.log.seconds = state.get("due", False), state["window"], state["seconds"]
        self.feed.bad = state["bad"]
        torch.set_rng_state(state["rng"])
        if self.device.type == "cuda" and state["rng_cuda"]:
            torch.cuda.set_rng_state_all(state["rng_cuda"])

    def _other_ranks(self, state: dict[str, Any]) -> str:
        """Go on where another number of ranks saved; return what is to be said of it."""
        before, micro, batch = (state.get(key, 0) for key in ("ranks", "micro", "batch"))
        if batch and batch != self.feed.batch_size:
            raise ConfigError(
                f"{self.path}: steps of {batch} examples then, {self.feed.batch_size} now, which {before} and "
                f"{self.ranks.world} ranks make of the data; go on with {before}, or start in another folder with -o"
            )
        if micro and self.in_epoch:
            self.feed.batches.dealt[self.epoch] = micro
        if before in (0, self.ranks.world):
            return ""
        now = f"{self.ranks.world} {'rank' if self.ranks.world == 1 else 'ranks'} in place of {before}"
        return f"; {now}: a step takes the same examples, but what is drawn at random in it is other"

    def save(self) -> None:
        """Write last.ckpt (rank 0)."""
        self.log.bank()
        if self.ranks.main:
            states.save_state(self.path / states.SAVED[0], self.state(), self._keeps)
            self._keeps = True
            self.validator.best.saved()
        self._saved = time.monotonic()

    # Loop

    def fit(self) -> None:
        """Train to the end of the profile; Stopped after a signal, Diverged after too many bad steps."""
        doing = f"finishing this step, then saving {show(self.path / states.SAVED[0])}"
        flag = self.flag = StopFlag(self.ranks.world, self.ranks.main, doing)
        self.ranks.begin(self.path, flag.ask)
        self._saved = time.monotonic()
        self.log.start()
        try:
            self.ranks.of_main(self._first_look, self._asked)
            if self.due:  # the run ended between the save of an epoch and its validation
                self._validate()
                self.save()
            while self.epoch < self.t.epochs and self.step < self.total and not self._out_of_time():
                self._epoch()
            flag.doing = f"all steps are taken: writing the model in {show(self.path)}, then ending"
            self.ranks.of_main(self._conclude, self.feed.check)
            self.feed.close()
            self._close()
            self.ranks.leave()
        except BaseException as error:
            if self.ranks.world > 1:
                stops.hold()  # whoever started the ranks may signal those that have yet to hear and tell the reason
            self.feed.close()
            self._close(error)
            if self.ranks.world == 1:  # several end by their watch, and no signal may come first
                flag.close()
            raise
        flag.close()
        self.ranks.close()

    def _asked(self) -> None:
        """Stop where this rank is asked to, or has lost a data worker, while it waits for rank 0."""
        self.feed.check()
        if self.flag.by:
            self._stop()

    def _stop(self, more: str = "") -> NoReturn:
        saved = f"saved at step {self.step} in {show(self.path)}" if self.step else "stopped before the first step"
        raise Stopped(f"{self.flag.by or 'a signal'}: {saved}{more}; run the same command to resume")

    def _stop_together(self) -> NoReturn:
        """Stop with all ranks; the folder says so before the first of them has gone, whose caller may end the rest."""
        try:
            self._stop()
        except Stopped as error:
            self._close(error)
            self.ranks.leave()
            raise

    def _first_look(self) -> float:
        """Say what is to be said before the first step of this start; a signal ends it."""
        saved = f"step {self.step} is saved in {show(self.path)}" if self.resumed else "nothing is learned yet"
        try:
            with self.flag.cutting(f"ending before the first step; {saved}"):
                return self._look()
        except Cut:
            if self.resumed or self.ranks.world > 1:
                self._stop()
            raise Ended(self.flag.number) from None

    def _look(self) -> float:
        said = [*self.objective.notes(), *self.validator.start(self.step, self.objective.teacher)]
        if not self.resumed:
            known = None if self.validator.metric in BLIND else self.validator.split.references
            said += look.look(self.p, self.feed.data, self.student.sample_rate, known)
        for line in said:
            self.log.say(line)
        return 0.0

    def _weights(self) -> dict[str, Tensor]:
        return self.average.state if self.average else self.student.state_dict()

    def _conclude(self) -> float:
        """Settle which file is the run's model, and complete it, on rank 0."""
        self.model_file, said = self.validator.conclude(self._weights(), self.step)
        for line in said:
            self.log.say(line)
        return 0.0

    def _out_of_time(self) -> bool:
        return bool(self.t.max_hours) and self.ranks.any(self.log.spent_s > self.t.max_hours * 3600, self.device)

    def _epoch(self) -> None:
        if self.ranks.any(bool(self.flag.by), self.device):  # asked for since the last save, or before the first step
            if not self.step:  # otherwise it is saved; a scheduler sees by the file whether a start got anything done
                self.save()
            self._stop_together()
        self.objective.train()
        done = False
        for micro in self._fed():
            self._one_step(micro)
            done = self.step >= self.total or self._out_of_time()
            if self.ranks.any(bool(self.flag.by), self.device):
                if done and self.in_epoch == self.feed.steps_per_epoch:
                    self._end_epoch()
                self.due = done  # the last step was taken: what is left is to validate, and the next start does
                self.save()
                self._stop_together()
            if done:
                break
            if time.monotonic() - self._saved > self.t.checkpoint_every_s:
                self.save()
        if not done or self.in_epoch == self.feed.steps_per_epoch:
            self._end_epoch()
        self.due = done or self.epoch % self.p.valid.every_epochs == 0
        # First of all: what is learned must not hang on a validation that may fail.
        self.save()
        if self.due:
            self._validate()
            self.save()

    def _fed(self) -> Iterator[list[Batch]]:
        """Yield what the feed gives; where it loses a worker, nothing of this process is lost: its state is saved."""
        try:
            yield from self.feed.steps(self.epoch, self.in_epoch)
        except WorkerDied:
            self.save()
            self.log.say(f"saved at step {self.step}")
            raise

    def _end_epoch(self) -> None:
        self.objective.on_epoch_end()
        for line in self.objective.remarks():
            self.log.say(line)
        self.schedule.epoch_end(self.epoch)
        self.epoch, self.in_epoch = self.epoch + 1, 0

    def _one_step(self, micro: list[Batch]) -> None:
        self.step, self.in_epoch = self.step + 1, self.in_epoch + 1
        self.ranks.step(self.step)
        if self.ranks.world > 1:  # each its own dropout, and the same after any interruption
            torch.manual_seed(torch_seed(self.p.seed, self.step, self.ranks.rank, 0xD120))
        self.objective.rng.manual_seed(torch_seed(self.p.seed, self.epoch, self.step, self.ranks.rank))
        broken, figures = self.stepper.take(micro, self.step)
        if not broken:
            self.in_row = 0
            self.objective.on_step_end()
            if self.average:
                self.average.update(self.student)
            self.log.add(figures)
        else:
            self._not_finite(broken)
        self.log.step(self.step, self.epoch, self.schedule.at(self.step), self.skipped)

    def _not_finite(self, group: str) -> None:
        self.skipped, self.in_row = self.skipped + 1, self.in_row + 1
        whose = "" if group == MAIN else f" of {group}"
        self.log.say(
            f"warning: step {self.step}: loss or gradient{whose} not finite, step skipped ({self.skipped} so far)"
        )
        if self.in_row < self.t.nonfinite_patience:
            return
        rows, self.in_row = self.in_row, 0
        self.save()  # such a step moves nothing: these are the weights of the last good one
        rate = "optim.lr" if group == MAIN else f"optim.groups.{group}.lr"
        raise Diverged(
            f"{rows} steps{whose} in a row were not finite (train.nonfinite_patience); what was learned before them is "
            f"in {show(self.path / states.SAVED[0])}; lower {rate}, or audit the data: prepare-data --check"
        )

    def _unusable(self, line: str) -> None:
        self.log.say(f"warning: {line}; another example takes its place")
        if self.ranks.main:
            tables.append_row(self.path / "bad_files.csv", {"step": self.step, "fault": line})

    def _score(self) -> float:
        try:
            with self.flag.cutting(f"leaving the validation; step {self.step} is saved in {show(self.path)}"):
                return self.validator.score(self._weights(), self.step, self.objective.teacher, self.skipped)
        except Cut:
            self._stop(", the next start validates it")

    def _validate(self) -> None:
        started = time.monotonic()
        score = self.ranks.of_main(self._score, self._asked)
        self.schedule.validated(score)
        better = score > self.best
        self.best = max(self.best, score)
        if self.ranks.main:
            if self.validator.chosen == self.step:
                others = {name: part for name, part in self.objective.groups().items() if name != MAIN}
                self.validator.keep_parts(others, self.step)
            self.validator.record(self.epoch, self.step, score, self.best, time.monotonic() - started)
            for line in self.validator.lines(self.best, better):
                self.log.say(f"epoch {self.epoch} step {self.step}: {line}")
        self.due = False
