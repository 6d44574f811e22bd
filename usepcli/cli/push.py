"""`usep push`: a model to the Hugging Face Hub, or to a folder of its layout."""

from __future__ import annotations

from typing import Annotated

import typer

from usepcli.cli import _options as options


def push(
    model: options.ModelArg,
    repo: Annotated[
        str, typer.Argument(metavar="REPO", help="OWNER/NAME of the Hub, or a folder as ./folder.", show_default=False)
    ],
    datasets: Annotated[
        list[str], typer.Option("--dataset", help="Training set as the Hub names it; may be repeated.")
    ] = [],  # noqa: B006 (typer wants a list)
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    token_env: Annotated[str, typer.Option("--token-env", help="Variable that holds the token.")] = "HF_TOKEN",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Publish a model with its card: model.safetensors, config.json and README.md.

    The head of README.md carries tags, licence and every score with its data and protocol; a model whose card states
    no licence of the training data is refused. The token comes from the variable of --token-env and from nowhere
    else. The commit is printed.

    \b
    Examples:
      usep push default ./two_talkers
      usep push runs/small_pit OWNER/small_pit --private --token-env HF_TOKEN
    """
    asked = dict(locals())
    from usepcli.engine.exchange import hub_push
    from usepcli.engine.separation.ending import Ending

    with Ending():
        facts = hub_push.push(**options.but(asked, "as_json"))
    options.report(facts, as_json)
