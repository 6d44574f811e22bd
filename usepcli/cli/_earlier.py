"""Options of version 0.1 that went into a command of their own: they still work, hidden, and say what to type now."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from usepcli.cli import _options as options
from usepcli.errors import UsageError

# What `usep evaluate` knew of the listening test, and what `usep listen` calls it.
NAMES = ("listening_test", "trials", "against", "listening_kind", "listening_score", "key")
ListeningTest = Annotated[Path | None, typer.Option("--listening-test", hidden=True)]
Trials = Annotated[int, typer.Option("--trials", "-n", min=1, hidden=True)]
Against = Annotated[str, typer.Option("--against", hidden=True)]
Kind = Annotated[str, typer.Option("--listening-kind", hidden=True)]
ListeningScore = Annotated[list[Path], typer.Option("--listening-score", hidden=True)]
Key = Annotated[Path | None, typer.Option("--key", hidden=True)]

_FILES = ("data", "split", "estimates", "references", "mixtures")
_MEANS = ("seed", "limit", "device", "threads")


def listen(asked: Mapping[str, Any]) -> None:
    """Do what the listening options of `usep evaluate` ask for, as `usep listen` does it."""
    from usepcli.cli import listen as command

    _check(asked)
    shared = {name: asked[name] for name in ("overwrite", "as_json", "quiet")}
    if asked["listening_score"]:
        line = ["score", *map(str, asked["listening_score"]), *_given(key=asked["key"], out=asked["out"])]
        _tell(line, asked)
        command.score(asked["listening_score"], key=asked["key"], out=asked["out"], **shared)
        return
    same = {name: asked[name] for name in (*_FILES, *_MEANS, "against", "trials")}
    usual = {"seed": 0, "limit": 0, "device": "auto", "threads": 0, "trials": 30}
    named = {name: value for name, value in same.items() if value != usual.get(name)}
    model = [asked["model"]] if asked["model"] else []
    kind = asked["listening_kind"]
    _tell(["make", *model, *_given(out=asked["listening_test"], kind=kind, **named)], asked)
    command.make(asked["listening_test"], asked["model"], kind=kind, **same, **shared)


def _given(**options: Any) -> list[str]:
    return [word for name, value in options.items() if value for word in (f"--{name}", str(value))]


def _tell(words: list[str], asked: Mapping[str, Any]) -> None:
    more = [f"--{name}" for name in ("overwrite", "quiet") if asked[name]] + ["--json"] * asked["as_json"]
    options.say(
        f"usep: note: the listening test has a command of its own; type: usep listen {shlex.join(words + more)}"
    )


def _check(asked: Mapping[str, Any]) -> None:
    """UsageError for options that did not go together in `usep evaluate`."""
    test, answers, files = asked["listening_test"], asked["listening_score"], [asked[name] for name in _FILES]
    if test is None and (asked["against"] or asked["listening_kind"]):
        raise UsageError("--against and --kind belong to `usep listen make MODEL -o DIR`")
    if asked["key"] is not None and not answers:
        raise UsageError("--key is read by `usep listen score ANSWERS`")
    if answers and (asked["model"] is not None or any(files)):
        what = f"'{asked['model']}'" if asked["model"] is not None else "--data, --estimates and the like"
        raise UsageError(
            f"--listening-score reads answers alone: leave {what} away; of several listeners give the folder, or the "
            "option once for each file"
        )
    if test is not None and (asked["report"] or answers):
        other = "--report" if asked["report"] else "--listening-score"
        raise UsageError(f"--listening-test writes a page and scores nothing: leave {other} away")
