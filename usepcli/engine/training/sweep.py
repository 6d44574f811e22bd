"""Many trainings under one roof: each in a folder of its own, scored when it is done, and one table of all.

A run that fails is a row with its reason and stops no other; a signal saves the one under way, and the same command
goes on. What is there is read from the folders, so that shares need no common state: whoever takes them together
writes sweep.csv.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from usepcli import files, guard, registry
from usepcli.engine import shards, sweeps, tables
from usepcli.engine.sweeps import Run, Sweep
from usepcli.engine.training import run as training
from usepcli.engine.training import status
from usepcli.errors import (
    BadInput,
    ConfigError,
    InputNotFound,
    MissingDependency,
    OutputError,
    PartialFailure,
    Stopped,
    UsageError,
)
from usepcli.files import read_json
from usepcli.profile.load import Profile

TABLE, PICTURE = "sweep.csv", "sweep_scores"
_MISSING = "not begun"
Rows = list[dict[str, Any]]


def train_all(
    sweep: Sequence[str],
    profile: str = "",
    out: Path | None = None,
    *,
    sets: Sequence[str] = (),
    init_from: str = "",
    force: bool = False,
    ranks: int = 1,
    shard: str = "",
    merge: bool = False,
    say: Callable[[str], None] = lambda line: None,
    show: Callable[[Rows], None] = lambda rows: None,
) -> dict[str, Any]:
    """Train and score all runs of a sweep, or this share of them, and return where they lie and how many are done.

    sweep: --sweep as it was given. Every run's settings are looked at before the first one begins. Without a share, or
    with merge, sweep.csv tells of all. Stopped after a signal, PartialFailure where runs have failed.
    """
    plan = sweeps.read(sweep)
    profile = profile or plan.profile
    if not profile:
        raise UsageError("--sweep: no profile; name one with --profile, or in the file")
    share = shards.asked(shard, merge)
    folder = _folder(profile, out, sweep)
    mine = [] if merge else list(share.of(plan.runs) if share else plan.runs)
    _check_scores(plan)
    wanted = [_looked_at(profile, folder / one.name, init_from, [*sets, *one.sets], force) for one in mine]
    _check_built({one.name: settings for one, settings in zip(mine, wanted, strict=True)})
    for number, (each, settings) in enumerate(zip(mine, wanted, strict=True), 1):
        if _done(folder / each.name, settings.as_dict()):
            _evaluate(folder / each.name, plan, say)
            continue
        say(f"run {number} of {len(mine)}: {each.name}")
        line = _line(profile, folder / each.name, [*sets, *each.sets], init_from, force)
        _train(folder / each.name, line, ranks, f"{number - 1} of {len(mine)} runs are done")
        _evaluate(folder / each.name, plan, say)
    rows = [_row(each, plan, folder / each.name) for each in plan.runs]
    missing = [row for row in rows if row["state"] != status.FINISHED or row["reason"]]
    facts = {"sweep": str(folder), "runs": len(rows), "done": len(rows) - len(missing)}
    if share:
        say(f"shard {share}: {len(mine)} runs are over; {len(missing)} of all {len(rows)} are not done")
        _refuse_missing([row for row in missing if row["run"] in {one.name for one in mine}], len(mine))
        return facts
    tables.write_csv(folder / TABLE, rows, _columns(rows, plan))
    _draw(folder, [row["run"] for row in rows])
    show(rows)
    _refuse_missing(missing, len(rows), f"see {files.show(folder / TABLE)}; ")
    return {**facts, "table": str(folder / TABLE)}


def _draw(folder: Path, names: Sequence[str]) -> None:
    """Draw the scores of all runs over their epochs, where matplotlib is present and any run has some."""
    from usepcli.report import epochs, plots

    runs = {name: place for name in names if (place := folder / name / "valid.csv").is_file()}
    asked = [_record(folder / name).get("profile", {}).get("valid", {}) for name in runs]
    metrics = dict.fromkeys(name for valid in asked for name in (valid.get("metric"), *valid.get("also", [])) if name)
    with suppress(MissingDependency, BadInput):  # nothing to draw
        epochs.beside(runs, list(metrics), *(folder / f"{PICTURE}.{form}" for form in plots.FORMS))


def _refuse_missing(missing: Rows, count: int, more: str = "") -> None:
    """PartialFailure for the rows of runs that have failed or were not begun."""
    if missing:
        first = missing[0]
        raise PartialFailure(
            f"{len(missing)} of {count} runs are not done, e.g. {first['run']}: {first['reason'] or _MISSING}; {more}"
            "the same command tries them again"
        )


def _folder(profile: str, out: Path | None, asked: Sequence[str]) -> Path:
    if out is not None:
        return out
    return Path(os.path.expanduser(os.environ.get("USEP_RUNS", "runs"))) / sweeps.folder_name(asked, profile)


def _check_scores(plan: Sweep) -> None:
    """Raise now what `evaluate` would say of the scores that the file asks for, once the first run is done."""
    from usepcli.engine.scoring import jobs

    asked = plan.evaluate
    metric = asked.get("metric", [])
    try:
        jobs.measures(_listed(metric), asked.get("protocol", ""), False, jobs.Folders())
    except UsageError as fault:
        raise ConfigError(f"--sweep: evaluate: {fault}") from None
    if (data := asked.get("data")) and not Path(data).exists():
        raise InputNotFound(f"--sweep: evaluate.data: {data} does not exist")


def _looked_at(profile: str, folder: Path, init_from: str, sets: Sequence[str], force: bool) -> Profile:
    """Return the settings of a run, looked at as `train` does; what is wrong is told with the run's name."""
    try:
        return training.looked_at(profile, folder, init_from, sets, force)[0]
    except ConfigError as fault:
        raise ConfigError(f"--sweep: run {folder.name}: {fault}") from fault


def _check_built(wanted: Mapping[str, Profile]) -> None:
    """Raise now what a run's model, objective and optimisers would say of settings that no profile can judge alone."""
    from usepcli.engine.training import parts, stepping
    from usepcli.weights import build

    seen = set[str]()
    for name, settings in wanted.items():
        asked = {key: settings.as_dict()[key] for key in ("model", "loss", "objective", "optim")}
        key = json.dumps([asked, settings.data.segment_s], default=str)
        if key in seen:
            continue
        seen.add(key)
        try:
            objective = parts.objective(settings, build.model(settings.model))
            stepping.groups(settings, objective.groups())
        except ConfigError as fault:
            raise ConfigError(f"--sweep: run {name}: {fault}") from fault


def _line(profile: str, folder: Path, sets: Sequence[str], init_from: str, force: bool) -> list[str]:
    line = [sys.executable, "-m", "usepcli", "train", "--profile", profile, "-o", str(folder)]
    line += ["--init-from", init_from] if init_from else []
    line += [word for one in sets for word in ("--set", one)]
    return line + (["--force"] if force else [])


def _train(folder: Path, line: Sequence[str], ranks: int, so_far: str) -> None:
    """Run a training in processes of its own, so that whatever it meets leaves the next one alone."""
    from usepcli.engine.training.launch import launch

    told: list[int] = []
    code = launch(ranks, line, folder, quiet=True, told=told)
    # A signal that came while the last step was done ends the run with 0, and the next one is not to begin.
    if told or code == Stopped.code or code in (129, 130, 143):
        raise Stopped(f"stopped in {files.show(folder)}; {so_far}; run the same command to go on")


def _done(folder: Path, settings: Mapping[str, Any] | None = None) -> bool:
    """Whether a run came to its end, with these settings: more steps, say, are a training to go on with."""
    if status.read(folder).get("state") != status.FINISHED:
        return False
    return settings is None or _record(folder).get("profile") == json.loads(json.dumps(settings))


def _record(folder: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        found = read_json(folder / "run.json")
        return found if isinstance(found, dict) else {}
    return {}


def _evaluate(folder: Path, plan: Sweep, say: Callable[[str], None]) -> None:
    """Score a finished run, unless that is done; what cannot be scored is told in its row."""
    if not _done(folder) or _scores_itself(folder):
        return
    from usepcli.engine.scoring.run import evaluate

    asked = _wanted(folder, plan)
    asked["data"] = Path(asked["data"]) if asked.get("data") else None

    def score(anew: bool) -> None:
        evaluate(str(folder), **asked, out=_place(folder), overwrite=anew, quiet=True)

    try:
        try:
            score(False)
        except OutputError:  # scores of other settings, or of other weights
            score(True)
    except Exception as fault:
        say(f"warning: {folder.name}: {guard.reason(fault, folder.name)}")


def _wanted(folder: Path, plan: Sweep) -> dict[str, Any]:
    """Return what a run is scored by, as `evaluate` takes it."""
    wanted = dict(plan.evaluate) or _by_default(folder)
    return wanted | {"metric": _listed(wanted.get("metric", []))}


def _listed(metric: str | list[str]) -> list[str]:
    return [metric] if isinstance(metric, str) else metric


def _by_default(folder: Path) -> dict[str, Any]:
    """Return what scores a run where the sweep does not say: its validation metric on its validation split."""
    settings = _record(folder).get("profile", {})
    valid, data = settings.get("valid", {}), settings.get("data", {})
    return {"metric": [valid.get("metric") or "si-snri"], "split": data.get("valid_split") or "valid"}


def _scores_itself(folder: Path) -> bool:
    """Whether a run trained no separator: its validation has scored what it learned, and nothing else can."""
    return _record(folder).get("profile", {}).get("objective", {}).get("name") in registry.PREPARING


def _own_scores(folder: Path) -> dict[str, Any]:
    """Return the scores of the validation that chose the weights of such a run, {} where there was none."""
    rows = tables.read_csv(folder / "valid.csv") if (folder / "valid.csv").is_file() else []
    best = next((row for row in reversed(rows) if rows[-1].get("chosen") == row["step"]), {})
    known = ("epoch", "step", "best", "seconds", "skipped", "chosen")
    return {name: value for name, value in best.items() if name not in known}


def _place(folder: Path) -> Path:
    return folder / "sweep_scores"


def _scores(folder: Path, wanted: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the summary of a run's scores, [] where none were made as they are wanted."""
    with suppress(OSError, ValueError):
        found = read_json(_place(folder) / "evaluate.json")
        asked = found.get("asked", {}) if isinstance(found, dict) else {}
        if asked and all(asked.get(key) == value for key, value in wanted.items()):
            return [row for row in found.get("summary", []) if row.get("system", "separated") == "separated"]
    return []


def _row(each: Run, plan: Sweep, folder: Path) -> dict[str, Any]:
    how = status.read(folder)
    row: dict[str, Any] = {"run": each.name, **{key: each.settings.get(key, "") for key in plan.keys}}
    row |= {"state": how.get("state", ""), "reason": how.get("reason", "")}
    if row["state"] == status.FINISHED and _scores_itself(folder):
        return row | _own_scores(folder)
    scores = _scores(folder, _wanted(folder, plan)) if row["state"] == status.FINISHED else []
    if row["state"] == status.FINISHED and not scores:
        row["reason"] = "trained, but not scored as asked"
    for score in scores:
        name = score["metric"]
        row |= {name: score["mean"], f"{name}_low": score["ci95_low"], f"{name}_high": score["ci95_high"]}
        row[f"{name}_n"] = score["n"]
    return row


def _columns(rows: Rows, plan: Sweep) -> list[str]:
    scores = [key for row in rows for key in row if key not in ("run", "state", "reason", *plan.keys)]
    return ["run", *plan.keys, "state", *dict.fromkeys(scores), "reason"]
