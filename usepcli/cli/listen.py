"""`usep listen`: a blind listening test, made and scored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from usepcli.cli import _help
from usepcli.cli import _options as options

listen = options.group(
    """Make a blind listening test, or count its answers.

    A test is one page, test.html, that works from disk and does not know what it plays; key.csv beside it does.
    Listeners hear sounds of one loudness and save their answers as CSV, which `usep listen score` counts.

    \b
    Examples:
      usep listen make default -o listen -n 30
      usep listen make default --against speech_unsupervised -o ab -n 30
      usep listen score listen
    """
)


def complete_kind(incomplete: str) -> list[str]:
    """Return the kinds of listening tests whose names start with `incomplete`."""
    return [name for name in ("preference", "which", "words") if name.startswith(incomplete)]


@listen.command("make", cls=_help.Command)
def make(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the test.", show_default=False)],
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL|RUN",
            help="Released model, .safetensors file or run folder; by default the latest run.",
            autocompletion=options.complete_model,
            show_default=False,
        ),
    ] = None,
    trials: Annotated[int, typer.Option("--trials", "-n", min=1, help="Questions.")] = 30,
    against: Annotated[
        str,
        typer.Option(
            "--against", metavar="MODEL|DIR", help="Second system: model or folder of estimates.", show_default=False
        ),
    ] = "",
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            help="which (Which do you hear? A, B, both, neither), words (the same, A and B being the queries) or "
            "preference (A or B); preference with --against, words where all sources have queries.",
            autocompletion=complete_kind,
            show_default=False,
        ),
    ] = "",
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Manifest, or its folder; by default the model's own.", show_default=False),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            "--split", help="Split of the manifest; by default the model's test split, or test.", show_default=False
        ),
    ] = "",
    estimates: Annotated[
        Path | None,
        typer.Option("--estimates", help="Folder of separated files, in place of MODEL.", show_default=False),
    ] = None,
    references: Annotated[
        Path | None, typer.Option("--references", help="Folder of true sources.", show_default=False)
    ] = None,
    mixtures: Annotated[Path | None, typer.Option("--mixtures", help="Folder of mixtures.", show_default=False)] = None,
    channels: options.Heard = "each",
    seed: options.Seed = 0,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Draw from the first items only; 0: from all.")] = 0,
    device: options.Device = "auto",
    threads: options.Threads = 0,
    as_json: options.Json = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a blind test for listeners, and its key.

    A trial of kind which lets listeners hear an estimate and two references, one of them its own; of kind words the
    estimate alone, and they read what both are called; preference lets them choose between two systems. Questions
    are drawn with --seed, every item once before any comes twice.

    \b
    Examples:
      usep listen make default -o listen -n 30
      usep listen make --estimates separated --references data/two/wav/test -o listen
    """
    asked = dict(locals())
    from usepcli.engine.scoring import listen as work

    options.report(work.make(**options.but(asked, "as_json"), say=options.hushed(quiet)), as_json)


@listen.command("score", cls=_help.Command)
def score(
    answers: Annotated[
        list[Path],
        typer.Argument(metavar="ANSWERS", help="Saved answers, or folders with answers*.csv.", show_default=False),
    ],
    key: Annotated[
        Path | None,
        typer.Option("--key", help="The test's key.csv; by default the one beside the answers.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder of listening.csv; by default that of the answers.", show_default=False
        ),
    ] = None,
    as_json: options.Json = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Count answers, with intervals, and write listening.csv.

    \b
    Examples:
      usep listen score listen
      usep listen score anna.csv ben.csv --key listen/key.csv -o counted
    """
    asked = dict(locals())
    from usepcli.engine import tables
    from usepcli.engine.scoring import listen as work
    from usepcli.engine.scoring import listening_score
    from usepcli.engine.scoring.results import strict

    say = options.hushed(quiet)
    done = work.score(**options.but(asked, "as_json", "quiet"), say=say)
    if as_json:
        options.report({"rows": strict(done.rows), "notes": listening_score.NOTES, "out": str(done.out)}, True)
    else:
        typer.echo("\n\n".join(tables.render(table) for table in listening_score.shown(done.rows)))
    say(f"written: {done.out}")
