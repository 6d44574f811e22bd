"""`usep calibrate`: how a model tells whether a sound is there at all, or which of its outputs are silent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from usepcli.cli import _options as options


def calibrate(
    model: options.ModelArg,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Manifest, or its folder; by default the model's own.", show_default=False),
    ] = None,
    split: Annotated[
        str,
        typer.Option("--split", help="Split of the manifest; by default the model's validation split, or valid."),
    ] = "",
    channels: options.Heard = "mix",
    limit: Annotated[int, typer.Option("--limit", min=0, help="The first N items only; 0: all.")] = 0,
    seed: options.Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write a copy; by default the model's own file changes.", show_default=False),
    ] = None,
    device: options.Device = "auto",
    threads: options.Threads = 0,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find out how a model tells what is there, and keep it on its card.

    A model by query is asked for the queries of every item and for as many of other items. What tells the answers apart
    becomes odds: a presence of 0.5 is reached as often by sounds that are there as by sounds that are not, where both
    are as frequent. `usep train` does this at its end wherever its validation split has queries, and usep evaluate
    --metric presence tells how it does on others.

    Of another model with several outputs it is found how far below the recording an output counts as silent, so that
    as many are left as there are sources: usep separate --sources auto goes by it. Without it, that is 30 dB.

    Take scenes that the model did not learn from. The weights stay as they are.

    \b
    Examples:
      usep calibrate runs/small_words
      usep calibrate runs/small_universal --data data/near
      usep calibrate words.safetensors --data data/scenes --split valid -o words_2.safetensors
    """
    asked = dict(locals())
    from usepcli.engine.scoring import calibrating

    say = options.hushed(quiet)
    facts = calibrating.calibrate(**options.but(asked, "as_json"), say=lambda line: say(f"usep: {line}"))
    options.report(facts, as_json)
