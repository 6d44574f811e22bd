"""`usep import`: a checkpoint of another toolkit becomes a model file of usep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from usepcli.cli import _options as options


def import_model(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="Torch or safetensors file.", show_default=False)
    ],
    out: options.Out,
    kind: Annotated[str, typer.Option("--kind", help="asteroid or torchaudio; empty: what the file looks like.")] = "",
    licence: Annotated[
        str, typer.Option("--licence", help="Licence of the training data, where the file states none.")
    ] = "",
    training_data: Annotated[
        str, typer.Option("--training-data", help="What it learned from, where the file does not say.")
    ] = "",
    name: Annotated[str, typer.Option("--name", help="Name in the card; empty: that of the output file.")] = "",
    sample_rate: Annotated[
        int, typer.Option("--sample-rate", min=0, help="Rate in Hz, where the file states none (0).")
    ] = 0,
    mask: Annotated[str, typer.Option("--mask", help="Activation of the masks (torchaudio): sigmoid or relu.")] = "",
    blocks: Annotated[int, typer.Option("--blocks", min=0, help="Blocks in one repeat (torchaudio).")] = 0,
    fit_level: Annotated[
        bool, typer.Option("--fit-level", help="Bring the sum of the outputs to the level of the input, by one gain.")
    ] = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a model file of usep from a checkpoint of another toolkit.

    Known are asteroid's ConvTasNet and DPRNNTasNet, as saved by its serialize(), and state dicts of torchaudio's
    ConvTasNet. The file must lie on this machine; it is read as tensors and plain values, and no code in it is run.
    The result separates as the toolkit does, sample by sample, and `usep info` tells where it came from. A model that
    learned by a measure without level (SI-SNR) may give quiet or loud sources: a note says so, --fit-level mends it.

    \b
    Examples:
      usep import pytorch_model.bin -o wham.safetensors
      usep import conv_tasnet.pt -o libri2mix.safetensors --sample-rate 8000 --mask relu --blocks 8
    """
    asked = dict(locals())
    from usepcli.engine.exchange import foreign
    from usepcli.engine.separation.ending import Ending
    from usepcli.weights.cards import read_card

    with Ending():
        done = foreign.import_checkpoint(**options.but(asked, "as_json", "quiet"))
    for note in done.notes:
        options.hushed(quiet)(f"usep: note: {checkpoint}: {note}")
    options.report(
        {
            "model": str(done.path),
            "origin": done.card.origin,
            "architecture": done.card.model["name"],
            "parameters": done.model.n_params,
            "sample_rate": done.card.sample_rate,
            "outputs": done.card.n_src,
            "training_data": done.card.training_data,
            "licence": done.card.licence,
            "sha256": read_card(done.path)[1],
        },
        as_json,
    )
