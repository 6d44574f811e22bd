"""Critics: a training method of several optimiser groups enters as one file and one line of the registry."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from usepcli import registry
from usepcli.cli.app import app
from usepcli.engine.training import states, stepping
from usepcli.engine.training.average import part_file
from usepcli.engine.training.train import Trainer
from usepcli.errors import ConfigError, Diverged
from usepcli.objectives.base import MAIN, Shared
from usepcli.profile import signature
from usepcli.profile.load import load_profile
from usepcli.weights import reach, store

PARTS = Path(__file__).parents[2] / "parts"
LINE = {"critics": "critics:Critics"}
MORE = """\
objective: {name: critics, width: 4}
optim:
  lr: 1.0e-3
  groups:
    wave: {lr: 2.0e-4, betas: [0.5, 0.9], weight_decay: 0.0, clip_norm: 1.0}
    mask: {lr_factor: 0.5, schedule: constant}
"""
GROUPS = (MAIN, "wave", "spectrum", "mask")


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(PARTS))
    monkeypatch.setitem(registry.OBJECTIVES, *next(iter(LINE.items())))
    yield
    signature.signature.cache_clear()
    signature.schema.cache_clear()
    sys.modules.pop("critics", None)


@pytest.fixture
def adversarial(profile_file: Path, tmp_path: Path) -> Path:
    """The tiny profile with critics; no dropout, so that a second pass through the network gives the same."""
    text = profile_file.read_text().replace("optim: {lr: 1e-3}\n", "").replace("dropout: 0.1", "dropout: 0.0")
    path = tmp_path / "critics_run.yaml"
    path.write_text(text + MORE)
    return path


def rows(run: Path) -> list[dict[str, str]]:
    with open(run / "train.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_every_group_has_its_own_settings_and_moves_once_a_step(adversarial: Path, tmp_path: Path) -> None:
    trainer = Trainer(load_profile(str(adversarial), ["train.max_steps=6"]), tmp_path / "run")
    groups = trainer.stepper.groups
    assert tuple(groups) == GROUPS
    slot = {name: group.optimizer.param_groups[0] for name, group in groups.items()}
    assert (slot["wave"]["betas"], slot["wave"]["weight_decay"], groups["wave"].clip_norm) == ((0.5, 0.9), 0.0, 1.0)
    assert (slot[MAIN]["betas"], slot[MAIN]["weight_decay"], groups[MAIN].clip_norm) == ((0.9, 0.999), 0.01, 5.0)
    start = {name: [p.detach().clone() for p in group.parameters] for name, group in groups.items()}
    trainer.fit()
    # Warm-up over four steps, held for an epoch of six, then times 0.9; `constant` follows the warm-up alone.
    lr = trainer.schedule.at(6)
    wanted = {MAIN: lr, "wave": 0.2 * lr, "spectrum": lr, "mask": 0.5e-3}
    assert {name: slot[name]["lr"] for name in GROUPS} == pytest.approx(wanted)
    for name, group in groups.items():
        assert any(not torch.equal(a, b) for a, b in zip(start[name], group.parameters, strict=True)), name


def test_figures_belong_to_their_step(adversarial: Path, tmp_path: Path) -> None:
    Trainer(load_profile(str(adversarial), ["train.max_steps=2"]), tmp_path / "run").fit()
    first = rows(tmp_path / "run")[0]
    for name in ("wave", "spectrum", "mask"):
        assert float(first[f"loss_{name}"]) == pytest.approx(float(first[f"hinge_{name}"]))
        assert float(first[f"grad_norm_{name}"]) > 0
    assert float(first["loss"]) == pytest.approx(float(first["pit"]) + float(first["fooled"]), rel=1e-5)
    # All critics log `real`: the first one under this name, the others under their own.
    assert {"real", "real_spectrum", "real_mask"} <= first.keys() and "real_wave" not in first


def test_a_step_leaves_the_gradients_of_other_groups_alone(adversarial: Path, tmp_path: Path) -> None:
    trainer = Trainer(load_profile(str(adversarial)), tmp_path / "run")
    held: dict[str, list[bool]] = {}
    apply = stepping.Stepper._apply

    def looked_at(self: stepping.Stepper, group: stepping.Group, total: torch.Tensor, step: int):
        name = next(name for name, other in self.groups.items() if other is group)
        held[name] = [any(p.grad is not None for p in other.parameters) for other in self.groups.values()]
        return apply(self, group, total, step)

    batch = next(trainer.feed.steps(0, 0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stepping.Stepper, "_apply", looked_at)
        trainer.stepper.take(batch, 1)
    assert held["wave"] == [False, True, False, False]
    assert held[MAIN] == [True, True, True, True]  # theirs from their own steps
    trainer.folder.release()


@pytest.mark.parametrize("accumulate", [1, 4])
def test_no_graph_outlives_its_micro_batch(adversarial: Path, tmp_path: Path, accumulate: int) -> None:
    sets = [f"train.accumulate={accumulate}", "train.max_steps=1"]
    trainer = Trainer(load_profile(str(adversarial), sets), tmp_path / "run")
    passes: list[bool] = []
    parts = trainer.student.parts
    trainer.student.parts = lambda *a: passes.append(torch.is_grad_enabled()) or parts(*a)  # type: ignore
    trainer.stepper.take(next(trainer.feed.steps(0, 0)), 1)
    # One micro-batch: a single pass serves critics and separator. Several: critics look without a graph.
    assert passes == ([True] if accumulate == 1 else [False] * 4 + [True] * 4)
    trainer.folder.release()


def test_accumulated_micro_batches_equal_one_batch(adversarial: Path, tmp_path: Path) -> None:
    found = []
    for n in (1, 4):
        Trainer(load_profile(str(adversarial), [f"train.accumulate={n}", "train.max_steps=5"]), tmp_path / str(n)).fit()
        found.append([[float(r[k]) for k in ("loss", "loss_wave", "loss_mask")] for r in rows(tmp_path / str(n))])
    assert torch.tensor(found[0]).allclose(torch.tensor(found[1]), atol=2e-3)


def test_the_scale_of_the_loss_moves_once_a_batch(adversarial: Path, tmp_path: Path) -> None:
    trainer = Trainer(load_profile(str(adversarial), ["train.precision=fp16"]), tmp_path / "run")
    updates = []
    trainer.stepper.scaler.update = lambda: updates.append(1)  # type: ignore[method-assign]
    trainer.stepper.take(next(trainer.feed.steps(0, 0)), 1)
    assert len(updates) == 1
    trainer.folder.release()


def test_a_step_that_is_not_finite_ends_the_batch(adversarial: Path, tmp_path: Path) -> None:
    trainer = Trainer(load_profile(str(adversarial)), tmp_path / "run")
    with torch.no_grad():
        next(trainer.objective.critics["spectrum"].parameters()).fill_(float("nan"))
    before = {name: [p.detach().clone() for p in g.parameters] for name, g in trainer.stepper.groups.items()}
    broken, _ = trainer.stepper.take(next(trainer.feed.steps(0, 0)), 1)
    assert broken == "spectrum"
    moved = {
        name: any(not torch.equal(a, b) for a, b in zip(before[name], g.parameters, strict=True))
        for name, g in trainer.stepper.groups.items()
        if name != "spectrum"
    }
    assert moved == {MAIN: False, "wave": True, "mask": False}
    trainer.folder.release()


def test_a_critic_that_diverges_is_named_and_the_separator_kept(adversarial: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "run"
    trainer = Trainer(load_profile(str(adversarial), ["train.nonfinite_patience=3", "train.max_steps=9"]), out)
    take = trainer.stepper.take

    def breaks(micro, step):
        if step == 3:
            with torch.no_grad():
                next(trainer.objective.critics["mask"].parameters()).fill_(float("nan"))
        return take(micro, step)

    trainer.stepper.take = breaks  # type: ignore[method-assign]
    with pytest.raises(Diverged, match=r"3 steps of mask in a row were not finite.*lower optim.groups.mask.lr"):
        trainer.fit()
    assert "step 3: loss or gradient of mask not finite" in capsys.readouterr().err
    state = states.load_last(out).state
    assert state is not None and state["step"] == 5 and state["skipped"] == 3
    kept = {k: v for k, v in state["objective"].items() if k.startswith("student.")}
    assert kept and all(torch.isfinite(v).all() for v in kept.values())


PROGRAM = f"""
import sys
sys.path.insert(0, {str(PARTS)!r})
from usepcli import registry
registry.OBJECTIVES.update({LINE!r})
from usepcli.cli.app import main
main()
"""
ENV = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}


def command(profile: Path, run: Path) -> list[str]:
    words = ["train", "--profile", str(profile), "-o", str(run), "--set", "train.accumulate=2"]
    return [sys.executable, "-c", PROGRAM, *words]


def test_killed_and_resumed_critics_and_all_are_equal_bit_by_bit(
    adversarial: Path, tmp_path: Path, until: Callable[..., Any]
) -> None:
    subprocess.run(command(adversarial, tmp_path / "whole"), env=ENV, check=True, capture_output=True)
    run = tmp_path / "killed"
    log = run / "train.csv"
    with subprocess.Popen(command(adversarial, run), env=ENV, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: (log.exists() and log.read_bytes().count(b"\n") > 5) or process.poll() is not None, "step 5")
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL, "training ended before it could be killed"
    subprocess.run(command(adversarial, run), env=ENV, check=True, capture_output=True)
    ends = [states.load_state(tmp_path / name / "last.ckpt") for name in ("whole", "killed")]
    assert ends[0]["objective"].keys() == ends[1]["objective"].keys()
    assert any(key.startswith("critics.mask") for key in ends[0]["objective"])
    assert all(torch.equal(value, ends[1]["objective"][key]) for key, value in ends[0]["objective"].items())
    for name in ("whole", "killed"):
        assert [row["step"] for row in rows(tmp_path / name)] == [str(k) for k in range(1, 19)]


def test_best_weights_and_init_from_know_every_part_that_trains(
    adversarial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    first = Trainer(load_profile(str(adversarial), ["train.epochs=1"]), run)
    first.fit()
    assert store.load_model(run)[0](torch.randn(1, 700)).shape == (1, 2, 700)  # the separator alone is the model
    held = {name: store.read_weights(part_file(run, name)) for name in GROUPS[1:]}
    second = Trainer(load_profile(str(adversarial), [f"init_from={run}"]), tmp_path / "second")
    for name, state in held.items():
        own = second.objective.groups()[name].state_dict()
        assert all(torch.equal(own[key], value) for key, value in state.items())
    second.folder.release()
    again = Trainer(load_profile(str(adversarial), [f"init_from={next((run / 'best').iterdir())}"]), tmp_path / "again")
    own = again.objective.groups()["wave"].state_dict()
    assert all(torch.equal(own[key], value) for key, value in held["wave"].items())
    again.folder.release()
    monkeypatch.setenv("USEP_MODELS", str(run))
    listed = json.loads(CliRunner().invoke(app, ["models", "--json"]).stdout)
    assert {"best"} == {row["name"] for row in listed if row["path"].startswith(str(run))}
    part_file(run, "mask").unlink()
    assert "best_mask" not in reach.find_model(str(run)).name
    capsys.readouterr()
    Trainer(load_profile(str(adversarial), [f"init_from={run}"]), tmp_path / "third").folder.release()
    assert "keeps no weights of 'mask', which begins anew" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("optim.groups.wafe.lr=1e-3", r"optim\.groups\.wafe: unknown group 'wafe' \(did you mean 'wave'"),
        ("optim.groups.model.lr=1e-3", r"optim\.groups\.model: unknown group"),
        ("optim.groups.wave.betas=[0.5, 1.5]", r"optim\.groups\.wave\.betas"),
        ("optim.groups.wave.rate=1e-3", r"optim\.groups\.wave\.rate"),
    ],
)
def test_settings_of_groups_are_checked(adversarial: Path, tmp_path: Path, more: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Trainer(load_profile(str(adversarial), [more]), tmp_path / "run")


def test_groups_of_an_objective_without_any_are_refused(profile_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"optim\.groups\.critic: objective pit has no group beside"):
        Trainer(load_profile(str(profile_file), ["optim.groups.critic.lr=1e-3"]), tmp_path / "run")


def test_a_graph_is_handed_on_once() -> None:
    weight = torch.ones(3, requires_grad=True)
    made: list[int] = []

    def make() -> torch.Tensor:
        made.append(1)
        return 2 * weight

    shared = Shared(graphs=True)
    assert not shared.detached("x", make).requires_grad and not shared.detached("x", make).requires_grad
    assert shared.attached("x", make).requires_grad and len(made) == 1
    assert shared.attached("x", make).requires_grad and len(made) == 2
    apart = Shared(graphs=False)
    assert not apart.detached("y", make).requires_grad
    assert apart.attached("y", make).requires_grad and len(made) == 4
