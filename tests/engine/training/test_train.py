"""Training end to end: learning, resuming bit by bit, signals, faults, two processes."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from usepcli import guard
from usepcli.engine.training import runfolder, states, status
from usepcli.engine.training.train import Trainer
from usepcli.errors import BadInput, ConfigError, Diverged, OutputError, Stopped, WorkerDied
from usepcli.objectives.pit import PIT
from usepcli.profile.load import load_profile
from usepcli.profile.schema import Profile
from usepcli.weights import store

ENV = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
Until = Callable[..., Any]


def curve(run: Path) -> list[tuple[str, str, str]]:
    with open(run / "train.csv", newline="") as file:
        return [(row["step"], row["loss"], row["grad_norm"]) for row in csv.DictReader(file)]


def command(profile: Path, run: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "usepcli", "train", "--profile", str(profile), "-o", str(run), *more]


@contextmanager
def at_step(until: Until, step: int, line: list[str], run: Path, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a training and give its process once it has logged the step; kill what is left of it in the end."""
    log = run / "train.csv"

    def reached() -> bool:
        assert process.poll() is None, "training ended before it could be interrupted"
        return log.exists() and log.read_bytes().count(b"\n") > step

    with subprocess.Popen(line, env=ENV, **more) as process:
        try:
            until(reached, f"step {step}")
            assert status.read(run)["state"] == "running"
            yield process
        finally:
            process.kill()


def test_train_writes_the_run_folder(profile_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    Trainer(load_profile(str(profile_file)), run).fit()
    names = {p.name for p in run.iterdir()}
    assert {"run.json", "train.csv", "valid.csv", "last.ckpt", "prev.ckpt", "best.safetensors"} <= names
    assert (status.read(run)["state"], status.read(run)["code"]) == ("finished", 0)
    assert [row[0] for row in curve(run)] == [str(i) for i in range(1, 19)]
    model, card = store.load_model(run)
    assert (card.objective, card.licence, card.sample_rate, card.n_src) == ("pit", "CC0", 8000, 2)
    assert card.scores[0]["metric"] == "si-snri"
    assert model(torch.randn(1, 999)).shape == (1, 2, 999)
    assert not list(run.glob("*.tmp.*"))


def test_train_twice_gives_the_same_curve(profile_file: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        Trainer(load_profile(str(profile_file)), tmp_path / name).fit()
    assert curve(tmp_path / "a") == curve(tmp_path / "b")


def test_kill_9_and_the_same_command_give_the_same_curve(profile_file: Path, tmp_path: Path, until: Until) -> None:
    """With two data workers, and what they give is what the process itself would have read."""
    Trainer(load_profile(str(profile_file)), tmp_path / "whole").fit()
    sets = ["train.workers=2", "train.checkpoint_every_s=0.2"]
    line = command(profile_file, run := tmp_path / "killed", *(word for one in sets for word in ("--set", one)))
    for step in (5, 11):
        with at_step(until, step, line, run, stderr=subprocess.DEVNULL):
            pass
        assert status.read(run)["state"] == "killed"
    Trainer(load_profile(str(profile_file), sets), run).fit()
    assert curve(run) == curve(tmp_path / "whole")
    weights = [store.read_weights(tmp_path / n / "best.safetensors") for n in ("whole", "killed")]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signal_to_the_whole_group_saves_and_exits_75(
    profile_file: Path, tmp_path: Path, until: Until, patience_s: int, number: int
) -> None:
    run = tmp_path / "run"
    line = command(profile_file, run, "--set", "train.workers=1", "--set", "train.epochs=100000")
    with at_step(until, 3, line, run, stderr=subprocess.PIPE, start_new_session=True) as process:
        os.killpg(process.pid, number)
        _, said = process.communicate(timeout=patience_s)
    assert process.returncode == 75, said.decode()
    assert b"run the same command to resume" in said and b"Traceback" not in said
    how = status.read(run)
    assert (how["state"], how["code"]) == ("stopped", 75) and how["reason"].encode() in said
    assert states.load_state(run / "last.ckpt")["step"] == int(curve(run)[-1][0])


@pytest.mark.parametrize("moment", ["step", "validation"])
def test_a_lost_data_worker_loses_no_step(
    profile_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: Until, moment: str
) -> None:
    sets = ["train.workers=2", "train.epochs=2", "train.checkpoint_every_s=600", "valid.mom_pairs=0"]
    Trainer(load_profile(str(profile_file), sets), tmp_path / "whole").fit()
    trainer = Trainer(load_profile(str(profile_file), sets), tmp_path / "run")
    hurt, name = (trainer, "_one_step") if moment == "step" else (trainer.validator, "_referenced")
    usual = getattr(hurt, name)

    def kill(*given: Any) -> Any:
        hands = trainer.feed._hands
        if trainer.step == (3 if moment == "step" else 6) and not hands.fault:
            os.kill(hands._workers[1].process.pid, signal.SIGKILL)
            until(lambda: hands.fault, "the death was seen")
        return usual(*given)

    monkeypatch.setattr(hurt, name, kill)
    with pytest.raises(WorkerDied, match="killed by SIGKILL, most likely for lack of memory"):
        trainer.fit()
    reached = 4 if moment == "step" else 6
    assert states.load_state(tmp_path / "run" / "last.ckpt")["step"] == reached == len(curve(tmp_path / "run"))
    Trainer(load_profile(str(profile_file), sets), tmp_path / "run").fit()
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")


def test_damaged_checkpoint_falls_back_to_the_previous(
    profile_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    Trainer(load_profile(str(profile_file), ["train.epochs=2"]), run).fit()
    raw = bytearray((run / "last.ckpt").read_bytes())
    raw[len(raw) // 2] ^= 1
    (run / "last.ckpt").write_bytes(raw)
    trainer = Trainer(load_profile(str(profile_file), ["train.epochs=2"]), run)
    said = capsys.readouterr().err
    assert "last.ckpt: damaged" in said and trainer.resumed
    trainer.folder.release()
    (run / "prev.ckpt").write_bytes(b"")
    with pytest.raises(BadInput, match="no readable checkpoint is left"):
        Trainer(load_profile(str(profile_file), ["train.epochs=2"]), run)


def test_other_settings_in_the_same_folder_are_refused(profile_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    Trainer(load_profile(str(profile_file), ["train.epochs=1"]), run).fit()
    with pytest.raises(ConfigError, match=r"optim\.lr"):
        Trainer(load_profile(str(profile_file), ["optim.lr=1e-4"]), run)
    Trainer(load_profile(str(profile_file), ["train.epochs=2"]), run).fit()
    assert curve(run)[-1][0] == "12"


def test_a_start_that_learned_nothing_binds_no_settings(profile_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(ConfigError, match="batch_size"):
        Trainer(load_profile(str(profile_file), ["train.batch_size=1000"]), run)
    # What a killed run of another objective logged before its first checkpoint.
    (run / "train.csv").write_text("step,epoch,loss,other\n1,0,2.5,3.5\n")
    Trainer(load_profile(str(profile_file), ["train.batch_size=4", "train.max_steps=1"]), run).fit()
    assert [row[0] for row in curve(run)] == ["1"]
    assert "other" not in (run / "train.csv").read_text()
    # A model without its checkpoints is still work that another run must not replace.
    for name in ("last.ckpt", "prev.ckpt"):
        (run / name).unlink(missing_ok=True)
    with pytest.raises(ConfigError, match=r"train\.batch_size: 4 then, 2 now"):
        Trainer(load_profile(str(profile_file), ["train.batch_size=2"]), run)


def test_a_second_process_in_one_folder_is_refused(profile_file: Path, tmp_path: Path) -> None:
    held = Trainer(load_profile(str(profile_file)), tmp_path / "run")
    with pytest.raises(OutputError, match=f"pid {os.getpid()}"):
        Trainer(load_profile(str(profile_file)), tmp_path / "run")
    held.folder.release()


class Poisoned(PIT):
    """PIT whose loss is not a number from the fourth step on."""

    calls = 0

    def losses(self, batch):  # type: ignore[no-untyped-def]
        out = super().losses(batch)
        self.calls += 1
        if self.calls >= 4:
            out = {name: value * float("nan") for name, value in out.items()}
        return out


def test_non_finite_steps_are_skipped_counted_and_end_in_exit_3(
    profile_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usepcli.objectives.pit.PIT", Poisoned)
    trainer = Trainer(load_profile(str(profile_file), ["train.nonfinite_patience=5"]), tmp_path / "run")
    with pytest.raises(Diverged, match="5 steps in a row"):
        trainer.fit()
    assert trainer.skipped == 5 and trainer.step == 8
    how = status.read(tmp_path / "run")
    assert (how["state"], how["code"]) == ("failed", 3) and how["reason"].startswith("5 steps in a row")
    assert all(torch.isfinite(p).all() for p in trainer.student.parameters())


def test_corrupt_file_in_mid_epoch_is_replaced_named_once_and_counted(
    profile_file: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (corpus.parent / "train/007/mix.wav").write_bytes(b"RIFF no more")
    trainer = Trainer(load_profile(str(profile_file)), tmp_path / "run")
    trainer.fit()
    said = capsys.readouterr().err
    assert said.count("train/007/mix.wav: unreadable") == 2, "when the data are looked at, and where it is first drawn"
    assert said.count("another example takes its place") == 1
    assert trainer.step == 18 and list(trainer.feed.bad.values()) == [3]
    assert "train/007/mix.wav" in (tmp_path / "run/bad_files.csv").read_text()


def test_too_many_bad_files_end_the_run(profile_file: Path, corpus: Path, tmp_path: Path) -> None:
    for i in range(6):
        (corpus.parent / f"train/{i:03d}/mix.wav").write_bytes(b"")
    with pytest.raises(BadInput, match=r"data\.max_bad"):
        Trainer(load_profile(str(profile_file)), tmp_path / "run").fit()


def test_accumulated_micro_batches_equal_one_batch(profile_file: Path, tmp_path: Path) -> None:
    losses = []
    for n in (1, 2):
        sets = [f"train.accumulate={n}", "train.epochs=1", "model.dropout=0.0"]
        Trainer(load_profile(str(profile_file), sets), tmp_path / str(n)).fit()
        losses.append([float(row[1]) for row in curve(tmp_path / str(n))])
    assert losses[0] == pytest.approx(losses[1], abs=2e-3)


def test_micro_batches_are_differentiated_one_by_one_and_all_are_logged(profile_file: Path, tmp_path: Path) -> None:
    run = Trainer(load_profile(str(profile_file), ["train.accumulate=2", "train.max_steps=1"]), tmp_path / "run")
    asked, held = run.objective.losses, []
    figures: list[float] = []

    def losses(batch):
        # Whoever asks for the second micro-batch has given the graph of the first away.
        held.append([p.grad is not None and bool(p.grad.any()) for p in run.student.parameters()])
        found = asked(batch)
        figures.append(float(run.objective.step_logs["snr_db"]))
        return found

    run.objective.losses = losses  # type: ignore[method-assign]
    run.fit()
    assert not any(held[0]) and any(held[1])
    with open(tmp_path / "run" / "train.csv", newline="") as file:
        row = next(csv.DictReader(file))
    assert figures[0] != figures[1]
    assert float(row["snr_db"]) == pytest.approx(sum(figures) / 2)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_autocast_trains_and_stays_near_full_precision(profile_file: Path, tmp_path: Path, precision: str) -> None:
    losses = []
    for name in ("fp32", precision):
        sets = [f"train.precision={name}", "train.epochs=1", "model.dropout=0.0"]
        Trainer(load_profile(str(profile_file), sets), tmp_path / name).fit()
        losses.append([float(row[1]) for row in curve(tmp_path / name)])
    assert losses[0] == pytest.approx(losses[1], abs=0.3) and losses[0] != losses[1]


def validations(run: Path) -> list[list[str]]:
    with open(run / "valid.csv", newline="") as file:
        return [[row["step"], row["si-snri"], row["best"]] for row in csv.DictReader(file)]


@pytest.mark.parametrize("when", ["before the row", "after the row"])
def test_a_validation_that_fails_costs_nothing_of_what_was_learned(
    profile_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    Trainer(load_profile(str(profile_file)), tmp_path / "whole").fit()
    name = "score" if when == "before the row" else "lines"
    with monkeypatch.context() as patch:

        def fails(*_: object) -> None:
            raise RuntimeError("the validation set is gone")

        patch.setattr(f"usepcli.engine.training.validate.Validator.{name}", fails)
        with pytest.raises(RuntimeError, match="is gone"):
            Trainer(load_profile(str(profile_file)), tmp_path / "run").fit()
    state = states.load_state(tmp_path / "run" / "last.ckpt")
    assert (state["step"], state["epoch"], state["due"]) == (6, 1, True)
    Trainer(load_profile(str(profile_file)), tmp_path / "run").fit()
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")
    assert validations(tmp_path / "run") == validations(tmp_path / "whole")


def test_too_little_memory_in_a_step_is_told_and_loses_no_saved_step(profile_file: Path, tmp_path: Path) -> None:
    sets = ["train.epochs=2", "valid.mom_pairs=0"]
    Trainer(load_profile(str(profile_file), sets), tmp_path / "whole").fit()
    trainer = Trainer(load_profile(str(profile_file), sets), tmp_path / "run")
    step, kept = trainer._one_step, b""

    def large(micro: list[Any]) -> None:
        nonlocal kept
        if trainer.step > trainer.total // 2:
            kept = (tmp_path / "run" / "last.ckpt").read_bytes()
            torch.empty(2**50)
        step(micro)

    trainer._one_step = large  # type: ignore[method-assign]
    with pytest.raises(RuntimeError) as fault:
        trainer.fit()
    line, code = guard.explain(fault.value)
    assert code == 70 and "lower train.batch_size or data.segment_s" in line
    assert status.read(tmp_path / "run")["code"] == 70
    assert kept and (tmp_path / "run" / "last.ckpt").read_bytes() == kept
    Trainer(load_profile(str(profile_file), sets), tmp_path / "run").fit()
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")


def test_a_stop_in_the_last_step_leaves_the_validation_to_the_next_start(profile_file: Path, tmp_path: Path) -> None:
    Trainer(load_profile(str(profile_file)), tmp_path / "whole").fit()
    trainer = Trainer(load_profile(str(profile_file)), tmp_path / "run")
    step = trainer._one_step

    def stopped(micro: list[Any]) -> None:
        step(micro)
        if trainer.step == trainer.total:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer._one_step = stopped  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        trainer.fit()
    Trainer(load_profile(str(profile_file)), tmp_path / "run").fit()
    assert validations(tmp_path / "run") == validations(tmp_path / "whole")


def test_pit_learns_to_separate(profile_file: Path, tmp_path: Path) -> None:
    sets = [
        "train.epochs=60",
        "optim.lr=3e-3",
        "model.dropout=0.0",
        "valid.every_epochs=60",
        "train.log_every=50",
    ]
    trainer = Trainer(load_profile(str(profile_file), sets), tmp_path / "run")
    trainer.fit()
    assert trainer.best > 3.0


def test_every_setting_that_may_change_or_came_later_is_one_there_is() -> None:
    known = runfolder.flatten(Profile().as_dict())
    assert known.keys() >= runfolder.FREE | runfolder.BEFORE.keys()
