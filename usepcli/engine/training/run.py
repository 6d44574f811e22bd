"""Training a profile in a run folder, or telling what that would take: what `usep train` does."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from usepcli import device
from usepcli.data.manifest import Manifest, Pool
from usepcli.engine.separation.ending import Ending
from usepcli.engine.training import hangs
from usepcli.engine.training.place import place
from usepcli.engine.training.runfolder import RunFolder
from usepcli.engine.training.states import SAVED
from usepcli.engine.training.watch import Watch
from usepcli.errors import BadInput, InputNotFound, UsageError
from usepcli.files import show
from usepcli.profile.load import Profile, load_profile
from usepcli.profile.unread import check_read
from usepcli.weights import cards, reach


def train(
    profile: str,
    out: Path | None = None,
    *,
    init_from: str = "",
    sets: Sequence[str] = (),
    dry_run: bool = False,
    force: bool = False,
) -> dict[str, Any]:
    """Train a profile, or go on with its run, and return where the model lies and what it scored.

    profile, sets: as in `load_profile`.  out: the run folder, by default $USEP_RUNS or runs, and the profile's name.
    init_from: a model's name, file or run folder: its architecture and its weights are what training begins with.
    dry_run: return sizes, steps, memory and time instead, and write nothing.  Data that are not there, a device that is
    none and a folder with a run of other settings are told before torch is loaded.
    """
    where = place()
    if where.world == 1 or dry_run:
        return _train(profile, out, init_from, sets, dry_run, force)
    watch = Watch(where)
    watch.asked = out
    with Ending(told=where.rank > 0, at_once=True):  # nothing to clear away, and others to be told of nothing
        try:
            return _train(profile, out, init_from, sets, dry_run, force, watch)
        except BaseException as error:
            watch.fail(error)


def _train(
    profile: str,
    out: Path | None,
    init_from: str,
    sets: Sequence[str],
    dry_run: bool,
    force: bool,
    watch: Watch | None = None,
) -> dict[str, Any]:
    loaded, folder = looked_at(profile, out, init_from, sets, force)
    if dry_run:
        from usepcli.engine.training.plan import plan

        return plan(loaded, lambda line: print(f"usep: {line}", file=sys.stderr))
    with (
        Ending(bool(watch and watch.rank), _kept(folder), at_once=watch is not None),
        hangs.limited(loaded.train.worker_timeout_s, folder, watch),
    ):
        from usepcli.engine.training.train import Trainer

        if watch:
            watch.asked = folder
        trainer = Trainer(loaded, folder, force, watch)
        trainer.fit()
    if not trainer.ranks.main:
        return {}
    facts: dict[str, Any] = {"run": str(folder), "steps": trainer.step}
    if (metric := trainer.validator.metric) and math.isfinite(trainer.best):
        facts[metric] = round(trainer.validator.sign * trainer.validator.best.scores[0][0], 3)
    return {**facts, "model": str(trainer.model_file)}


def train_ranks(
    ranks: int,
    profile: str,
    out: Path | None = None,
    *,
    init_from: str = "",
    sets: Sequence[str] = (),
    force: bool = False,
    as_json: bool = False,
    quiet: bool = False,
) -> int:
    """Train in several processes on this machine, and return their exit code; they print what there is to say.

    What is wrong with the command line, as `train` tells it, is raised here, before any of them is started.
    """
    if place().world > 1:
        raise UsageError("--ranks: this is one of several ranks already; leave it out below torchrun")
    _, folder = looked_at(profile, out, init_from, sets, force)
    from usepcli.engine.training.launch import launch

    line = [sys.executable, "-m", "usepcli", "train", "--profile", profile]
    line += ["-o", str(out)] if out else []
    line += ["--init-from", init_from] if init_from else []
    line += [word for one in sets for word in ("--set", one)]
    flags = {"--force": force, "--json": as_json, "--quiet": quiet}
    return launch(ranks, line + [name for name, given in flags.items() if given], folder)


def looked_at(profile: str, out: Path | None, init_from: str, sets: Sequence[str], force: bool) -> tuple[Profile, Path]:
    """Return a training's settings and folder, all looked at that needs no torch; errors as `train` has them."""
    loaded = settings(profile, init_from, sets)
    check_read(loaded)
    device.check(loaded.train.device)
    _look(loaded.data)
    folder = Path(os.path.expanduser(out or os.path.join(os.environ.get("USEP_RUNS", "runs"), loaded.name)))
    held = RunFolder(folder, take=False)
    loaded = held.as_begun(loaded)
    held.refuse_other(loaded.as_dict(), force)
    if held.earlier():
        held.refuse_data(loaded.data, force)
    return loaded, folder


def _kept(folder: Path) -> str:
    """Return what a signal before the first step is to be answered with where a run can go on; '' where none can."""
    saved = any((folder / name).exists() for name in SAVED)
    return f"nothing is lost of what {show(folder)} holds; run the same command to resume" if saved else ""


def settings(profile: str, init_from: str = "", sets: Sequence[str] = ()) -> Profile:
    """Return the profile that a training runs by; with init_from, its model is the one that the weights belong to."""
    if not init_from:
        return load_profile(profile, sets)
    try:
        path = reach.find_model(init_from)
    except InputNotFound as fault:
        raise InputNotFound(f"--init-from: {fault}") from fault
    model = cards.read_card(path)[0].model
    if not model:
        raise BadInput(f"--init-from: {show(path)}: does not say which model its weights belong to; import it first")
    return load_profile(profile, sets, flags={"init_from": init_from}, model=model)


def _look(data: Any) -> None:
    """Raise InputNotFound where a table that the profile names is not there."""
    for kind, places in ((Manifest, [data.manifest]), (Pool, data.pool)):
        for named in filter(None, places):
            path = Path(named)
            if not (path / kind.FILE if path.is_dir() else path).is_file():
                kind.read(path)
