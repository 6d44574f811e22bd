"""The second form of `usep remix`: --shuffle MANIFEST, a set of pseudo-mixtures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from usepcli.cli import _options as options
from usepcli.errors import PartialFailure, UsageError

if TYPE_CHECKING:
    from usepcli.engine.pseudo.pseudo_set import Summary

# Below this the residual is what rounding to 16 bits leaves, and no source.
_ROUNDING_DB = -60.0
_SETTINGS = (
    "kind",
    "channel_shuffle",
    "n_remix",
    "residual",
    "batch",
    "rounds",
    "split",
    "seconds",
    "seed",
    "normalize",
)
_OF_GAINS = ("gain", "mute", "pan", "automation", "file", "lufs", "true_peak", "peak")


def check(ctx: typer.Context) -> None:
    """UsageError unless the options given belong to one form of the command."""
    given = [name for name in (*_SETTINGS, *_OF_GAINS) if _given(ctx, name)]
    if ctx.params["shuffle"] is None:
        foreign = [name for name in given if name in _SETTINGS]
        if foreign:
            raise UsageError(
                f"{_flag(foreign[0])} belongs to --shuffle MANIFEST; name the set, or leave the option out"
            )
        if not ctx.params["inputs"]:
            raise UsageError(
                "no input: name STEMs, a folder or an outputs.csv to add up, a FILE to separate, or --shuffle MANIFEST"
            )
        return
    if ctx.params["inputs"]:
        raise UsageError(f"--shuffle takes its mixtures from the manifest; leave {ctx.params['inputs'][0]} out")
    foreign = [name for name in given if name in _OF_GAINS]
    if foreign:
        raise UsageError(f"{_flag(foreign[0])} has no meaning with --shuffle: all sources keep their levels")
    if ctx.params["model"] is not None and "residual" in given:
        raise UsageError("--residual belongs to listed sources: the outputs of a --model add up to the mixture")


def run(ctx: typer.Context) -> None:
    """Make the set and print what it holds; PartialFailure where some mixtures could not be used."""
    from usepcli.data.manifest import Manifest
    from usepcli.engine.pseudo.plan import Settings
    from usepcli.engine.pseudo.pseudo_set import remix_set
    from usepcli.engine.separation.ending import Ending

    asked: dict[str, Any] = ctx.params
    chosen = {name: asked[name] for name in _SETTINGS}
    settings = Settings(**chosen, subtype=asked["subtype"].upper() or "FLOAT")
    passed = {name: asked[name] for name in ("model", "device", "threads", "overwrite", "dry_run", "quiet")}
    # The values in a context are those of the command line, before paths become paths.
    with Ending() as ending:
        done = remix_set(
            Manifest.read(asked["shuffle"]), Path(asked["out"]), settings, check=ending.check, **passed
        )  # fmt: skip
    options.report(done.facts(), asked["as_json"])
    if not asked["quiet"]:
        _note(done, asked["dry_run"])
    if done.unusable:
        name, reason = next(iter(done.unusable.items()))
        raise PartialFailure(
            f"{len(done.unusable)} mixtures could not be used and were left out, e.g. {name}: {reason}; "
            f"all of them are in {done.out / 'remix.csv'}"
        )


def _note(done: Summary, dry_run: bool) -> None:
    """Say on stderr what a user may not expect in the set."""
    if dry_run:
        _say(f"nothing was written; about {done.mebibytes:g} MiB would be in {done.out}")
    if done.kept:
        _say(f"{done.kept} pseudo-mixtures were there already and stayed")
    if done.silent:
        _say(f"{done.silent} pseudo-mixtures of silent sources alone were left out")
    if done.residual_db is not None and done.residual_db < _ROUNDING_DB:
        _say("the listed sources add up to the mixtures: the residual is a silent source; see --no-residual")


def _given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _say(text: str) -> None:
    sys.stderr.write(text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n")
