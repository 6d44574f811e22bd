"""The first form of `usep remix`: other gains for the sources of one recording."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from usepcli.cli import _options as options
from usepcli.errors import UsageError

if TYPE_CHECKING:
    from usepcli.engine.mixing.automation import Curve
    from usepcli.engine.mixing.inputs import Stems
    from usepcli.engine.mixing.levels import Goal
    from usepcli.engine.mixing.remix import Remix
    from usepcli.engine.separation.ending import Ending
    from usepcli.separator.separator import Separator, Watch

_USUAL_MODEL = "default"


def run(ctx: typer.Context) -> None:
    """Mix, and print what was done with the levels before and after."""
    from usepcli.engine.mixing import remix as engine
    from usepcli.engine.mixing.automation import read_automation
    from usepcli.engine.mixing.desk import desk
    from usepcli.engine.mixing.inputs import check_stems, find_stems
    from usepcli.engine.mixing.levels import Goal
    from usepcli.engine.separation.ending import Ending

    asked: dict[str, Any] = ctx.params
    # The values in a context are those of the command line, before paths become paths.
    inputs, out = [Path(name) for name in asked["inputs"]], Path(asked["out"])
    goal = Goal(asked["lufs"], asked["true_peak"], asked["peak"])
    stems = find_stems(inputs, asked["file"])
    curves = read_automation(Path(asked["automation"])) if asked["automation"] else {}
    info, subtype = check_stems(stems.paths), asked["subtype"].upper()
    form = engine.check_output(out, info, stems.paths, subtype, asked["overwrite"])
    separator = _separator(asked, inputs, stems, curves)
    names = separator.names() if separator else stems.names
    mixer = desk(
        names, asked["gain"], asked["mute"], asked["pan"], curves, f"--automation {_show(asked['automation'])}"
    )
    mixer.channels(info.channels)
    if stems.ledger and not asked["quiet"]:
        _say(f"{stems.ledger}: lists these files with the gain that they were written with; name it to undo the gain")
    if stems.left_out and not asked["quiet"]:
        _say(f"{_show(inputs[0])}: separate left these near-silent sources out: {stems.left_out}")
    if asked["dry_run"]:
        facts = {"output": str(out), "subtype": form, "gains_db": engine.decibels(names, mixer.gains)}
        options.report(_finite(facts) if asked["as_json"] else facts, asked["as_json"])
        return
    with Ending() as ending:
        record = engine.remix(
            stems, out, mixer, separator=separator, subtype=subtype, goal=goal, overwrite=asked["overwrite"],
            watch=_watch(asked["quiet"], ending), check=ending.check,
        )  # fmt: skip
    if not asked["quiet"]:
        _note(record, goal)
    _print(record, asked["as_json"])


def _separator(
    asked: Mapping[str, Any], inputs: Sequence[Path], stems: Stems, curves: Mapping[str, Curve]
) -> Separator | None:
    """Return the model that makes the sources: the one asked for, or `default` where one file's sources are named."""
    single = len(inputs) == 1 and tuple(inputs) == stems.paths
    model = asked["model"]
    if model is not None and not single:
        raise UsageError(
            f"--model takes one file to separate, found {len(stems.paths)} stems; leave --model out to sum stems"
        )
    if model is None:
        named = {text.rpartition("=")[0] for text in (*asked["gain"], *asked["pan"])} | {*asked["mute"], *curves}
        # A file named by its own name is a stem.
        if not single or not named - {*stems.names, ""}:
            return None
        model = _USUAL_MODEL
        if not asked["quiet"]:
            _say(f"{_show(inputs[0])}: its sources are named, so the model '{model}' separates it first (see --model)")
    from usepcli.separator.separator import Separator

    return Separator.load(model, asked["device"], asked["threads"])


def _watch(quiet: bool, ending: Ending) -> Watch:
    from usepcli.report.progress import progress

    def watch(blocks: Iterable[Any], total: int, name: str) -> Iterator[Any]:
        for block in progress(blocks, total, desc=name, unit="block", quiet=quiet):
            ending.check()
            yield block

    return watch


def _note(record: Remix, goal: Goal) -> None:
    """Say on stderr where the result is not what was asked for, or was turned down or limited."""
    top = goal.ceiling_db
    kept = "nothing clips" if top is None else f"the true peak stays at {top:g} dBTP"
    if record.limited_db:
        _say(
            f"{record.output}: limited by up to {record.limited_db:.1f} dB, in {100 * record.limited_share:.1f} % of "
            f"the time, so that {kept}"
        )
    if goal.lufs is None:
        if record.gain_db:
            _say(f"{record.output}: turned down by {-record.gain_db:.2f} dB so that {kept}")
    elif not math.isfinite(record.lufs_after):
        why = "shorter than 0.4 s" if math.isnan(record.lufs_after) else "silent"
        _say(f"{record.output}: {why}, so its loudness was left as it is")
    elif abs(record.lufs_after - goal.lufs) > 0.2:
        why = f"as loud as it gets where {kept}; --peak limit goes further"
        if record.limited_db:
            why = "more would be limited too hard"
        _say(f"{record.output}: {record.lufs_after:.1f} LUFS instead of {goal.lufs:g}: {why}")
    if top is not None and record.true_peak_after > top + 0.1:
        _say(f"{record.output}: the true peak is {record.true_peak_after:.2f} dBTP: this format moves the peaks")


def _print(record: Remix, as_json: bool) -> None:
    facts = asdict(record)
    if as_json:
        typer.echo(json.dumps(_finite(facts), ensure_ascii=False))
        return
    from usepcli.engine import tables

    table = [
        {"": when, **{unit: facts.pop(f"{name}_{when}") for name, unit in _UNITS.items()}}
        for when in ("before", "after")
    ]
    options.report({name: value for name, value in facts.items() if value or name == "gain_db"})
    typer.echo(tables.render(table))


_UNITS = {"lufs": "LUFS", "true_peak": "dBTP", "peak": "peak dBFS"}


def _finite(value: Any) -> Any:
    """Return a value for JSON, which knows neither infinity nor nan: silence and "too short" become null."""
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _show(path: Any) -> str:
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def _say(text: str) -> None:
    sys.stderr.write(_show(text) + "\n")
