"""`usep import`: a checkpoint of another toolkit becomes a model file of usep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from usepcli import registry
from usepcli.cli import _options as options


def _makers(incomplete: str) -> list[str]:
    return [name for name in registry.MAKERS if name.startswith(incomplete)]


def import_model(
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="CHECKPOINT", help="Torch, safetensors or ONNX file, or a folder.", show_default=False),
    ],
    out: options.Out,
    kind: Annotated[
        str,
        typer.Option("--kind", help="Maker by name; empty: whose it looks like.", autocompletion=_makers),
    ] = "",
    licence: options.Licence = "",
    licence_weights: options.LicenceWeights = "",
    licence_code: options.LicenceCode = "",
    training_data: options.TrainingData = "",
    name: Annotated[str, typer.Option("--name", help="Name in the card; empty: that of the output file.")] = "",
    sample_rate: options.SampleRate = 0,
    mask: Annotated[str, typer.Option("--mask", help="Activation of the masks (torchaudio): sigmoid or relu.")] = "",
    blocks: Annotated[int, typer.Option("--blocks", min=0, help="Blocks in one repeat (torchaudio).")] = 0,
    text_encoder: options.TextEncoder = "",
    fit_level: options.FitLevel = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a model file of usep from a checkpoint of another toolkit.

    Whose checkpoints are known is told by `usep models --public`. An ONNX file needs a YAML file of its name beside
    it, with sample_rate, outputs or stems, and input: wave or stft (docs/onnx.md). The file, or the folder of several
    files, must lie on this machine; it is read as tensors and plain values, no code in it is run, and every tensor must
    find its place. The result separates as the toolkit does, sample by sample, and `usep info` tells where it came from
    and the licences of code, weights and training data. A model that learned by a measure without level (SI-SNR) may
    give quiet or loud sources: a note says so, --fit-level mends it.

    \b
    Examples:
      usep import pytorch_model.bin -o wham.safetensors
      usep import ./sepformer-wham -o wham_sepformer.safetensors
      usep import vocals.onnx -o models/vocals.safetensors
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
            "licences": done.card.licences,
            "sha256": read_card(done.path)[1],
        },
        as_json,
    )
