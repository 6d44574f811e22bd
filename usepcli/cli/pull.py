"""`usep pull`: a model from the Hugging Face Hub, or from a folder of its layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from usepcli.cli import _options as options
from usepcli.weights import public


def _repos(incomplete: str) -> list[str]:
    return [row.repo for row in public.rows() if row.repo.startswith(incomplete)]


def pull(
    repo: Annotated[
        str,
        typer.Argument(
            metavar="REPO[@REVISION]",
            help="OWNER/NAME of the Hub, a name of `usep models --public`, or a folder as ./folder.",
            autocompletion=_repos,
            show_default=False,
        ),
    ],
    file: Annotated[
        str, typer.Option("--file", help="The one file to take; empty: what the repository holds.", show_default=False)
    ] = "",
    sha256: Annotated[
        str, typer.Option("--sha256", help="Refuse any other file than the one with this sum.", show_default=False)
    ] = "",
    name: Annotated[
        str, typer.Option("--name", help="Name for --model; by default the repository's.", show_default=False)
    ] = "",
    licence: options.Licence = "",
    licence_weights: options.LicenceWeights = "",
    licence_code: options.LicenceCode = "",
    training_data: options.TrainingData = "",
    sample_rate: options.SampleRate = 0,
    text_encoder: options.TextEncoder = "",
    fit_level: options.FitLevel = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of models; by default usep/models in the cache.", show_default=False),
    ] = None,
    token_env: Annotated[str, typer.Option("--token-env", help="Variable that holds a token, if any.")] = "HF_TOKEN",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Fetch a model, check it, and keep it under a name.

    Only this command and `usep push` use the network. Without a revision the Hub is asked which commit its main
    branch stands at; that commit is fetched, printed and recorded beside the model. Every file is compared with the
    sum that the Hub states, and with --sha256. HF_ENDPOINT and HF_HUB_OFFLINE are respected.

    A repository of usep is taken as it is. One of another toolkit is known by its files, read as tensors and plain
    text alone, and becomes a model file of usep whose output is the toolkit's; a tensor without a place is refused.
    One that is asked in words takes --text-encoder (docs/words.md). `usep models --public` lists what can be had. The
    licences of code, weights and training data stand in its card.

    \b
    Examples:
      usep pull speechbrain/sepformer-wsj02mix
      usep separate meeting.wav -o separated --model sepformer-wsj02mix
      usep pull nielsr/audiosep-demo --text-encoder ./roberta-base
      usep pull OWNER/two_talkers@4f2a9c1 --sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
      usep pull ./two_talkers -o models
    """
    asked = dict(locals())
    from usepcli.engine.exchange import hub_pull
    from usepcli.engine.separation.ending import Ending
    from usepcli.weights import reach

    with Ending():
        facts = hub_pull.pull(**options.but(asked, "as_json"), say=options.hushed(quiet))
    meant = reach.known().get(facts["name"], [])
    if not meant or not meant[0].samefile(facts["path"]):
        other = f"means {meant[0]}" if meant else "is looked for in ./models, $USEP_MODELS and the cache"
        options.hushed(quiet)(f"usep: note: the name {facts['name']} {other}; use --model {facts['path']}")
    options.report(facts, as_json)
