"""`usep train`: train a profile, or go on with its run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from usepcli.cli import _options as options
from usepcli.errors import UsageError


def train(
    profile: options.ProfileOpt = "",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Run folder; by default runs/<profile name>.", show_default=False),
    ] = None,
    init_from: Annotated[
        str,
        typer.Option(
            "--init-from",
            help="Begin with this model's weights and architecture: a name, a .safetensors file or a run folder.",
            autocompletion=options.complete_model,
            show_default=False,
        ),
    ] = "",
    sets: options.Sets = [],  # noqa: B006 - Typer copies it
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print every setting with where it comes from, and stop.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print sizes, steps, memory and time (three measured steps), write nothing."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on in a folder that was started with other settings.")
    ] = False,
    ranks: Annotated[
        int,
        typer.Option("--ranks", min=1, help="Processes on this machine that share each batch; with GPUs, one each."),
    ] = 1,
    sweep: Annotated[
        list[str],
        typer.Option(
            "--sweep",
            metavar="FILE.yaml|KEY=VALUE,VALUE",
            help="Many trainings, one run folder each below --out, and sweep.csv: a file with a grid or a list of "
            "settings, or the values of one key, may be repeated.",
        ),
    ] = [],  # noqa: B006 - Typer copies it
    shard: options.Shard = "",
    merge: options.Merge = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a separator from a profile.

    A run is a folder: train.csv, valid.csv, curves.png and .svg, last.ckpt, and best.safetensors, the mean of the
    best validated weights; with valid.also, scores.png and .svg have the scores of each epoch side by side, and in
    the folder of a sweep those of all its runs. The same command goes on from the last checkpoint after any
    interruption. Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP (a closed terminal) finish the step, save, and exit 75; a second
    one ends it at once. What one of several ranks meets ends all of them.

    Examples:

      usep train --profile small_pit --set data.manifest=data/two

      usep train --profile fine_tune --init-from default

      usep train --profile small_pit --ranks 2 -o runs/both

      usep train --profile small_pit --sweep optim.lr=1e-3,3e-4 --sweep seed=0,1 -o runs/rates

      torchrun --nnodes 2 --nproc-per-node 4 ... -m usepcli train --profile small_pit -o runs/eight
    """
    asked = options.but(dict(locals()), "sweep", "shard", "merge")
    if sweep:
        _sweep(sweep, {**asked, "shard": shard, "merge": merge})
        return
    if shard or merge:
        raise UsageError("--shard and --merge share out the runs of a --sweep: name one, or leave them out")
    if not profile:
        raise typer.BadParameter(
            "missing; name the profile to train, see usep profiles, or a file with --sweep", param_hint="'--profile'"
        )
    if print_config:
        from usepcli.engine.training.run import settings
        from usepcli.profile.load import render_config

        typer.echo(render_config(settings(profile, init_from, sets)))
        return
    from usepcli.engine.training import run

    asked = options.but(asked, "print_config", "as_json", "quiet", "ranks")
    if ranks > 1 and not dry_run:
        raise typer.Exit(run.train_ranks(ranks, as_json=as_json, quiet=quiet, **options.but(asked, "dry_run")))
    with options.silence(quiet):
        facts = run.train(**asked)
    if facts:  # of several processes one answers
        options.report(facts, as_json)


def _sweep(sweep: list[str], asked: dict[str, Any]) -> None:
    from usepcli.engine import tables
    from usepcli.engine.training import sweep as sweeping

    if asked["print_config"] or asked["dry_run"]:
        raise UsageError("--print-config and --dry-run speak of one training: leave --sweep out")
    as_json, quiet = asked["as_json"], asked["quiet"]

    def show(rows: list[dict[str, Any]]) -> None:
        if not as_json:
            columns = [key for key in rows[0] if not key.endswith(("_low", "_high", "_n")) and key != "reason"]
            typer.echo(tables.render(rows, columns))

    with options.silence(quiet):
        facts = sweeping.train_all(
            sweep,
            **options.but(asked, "print_config", "dry_run", "as_json", "quiet"),
            say=options.hushed(quiet),
            show=show,
        )
    if as_json or asked["shard"]:
        options.report(facts, as_json)
    options.tell_shard(asked["shard"], quiet)
