"""Weights of torchaudio.models.ConvTasNet: a state dict, whose sizes are the settings but for three.

The activation of the masks, the blocks of one repeat and the sample rate leave no trace in the weights.
"""

from __future__ import annotations

from usepcli.engine.exchange.foreign_parts import Found, Stated, count, joined, renamed
from usepcli.engine.exchange.foreign_source import Source
from usepcli.errors import BadInput, UsageError, choices

_RULES = (
    (r"(encoder|decoder)\.weight", r"basis.\1.weight"),
    (r"mask_generator\.input_norm\.(.+)", r"inlet.0.\1"),
    (r"mask_generator\.input_conv\.(.+)", r"inlet.1.\1"),
    (r"mask_generator\.conv_layers\.(\d+)\.conv_layers\.(.+)", r"blocks.\1.body.\2"),
    (r"mask_generator\.conv_layers\.(\d+)\.(res|skip)_out\.(.+)", r"blocks.\1.\2.\3"),
    (r"mask_generator\.output_prelu\.(.+)", r"head.0.\1"),
    (r"mask_generator\.output_conv\.(.+)", r"head.1.\1"),
)

MASKS = ("sigmoid", "relu")


ABOUT = "torchaudio's ConvTasNet"
CODE = "BSD-2-Clause"


def knows(source: Source) -> bool:
    """Return whether the names in a single file are those of such a model."""
    return bool(source.single) and "mask_generator.input_conv.weight" in source.tensors(source.single)


def read(source: Source, stated: Stated) -> Found:
    """Return settings from shapes and weights; UsageError where an option has to say what shapes do not."""
    state, where = source.state(source.single), source.where
    needed = {"--sample-rate": stated.sample_rate, "--mask": stated.mask, "--blocks": stated.blocks}
    weights = joined(renamed(state, _RULES, where), where)
    depth = count(weights, "blocks")
    if lacking := [option for option, value in needed.items() if not value]:
        raise UsageError(
            f"{where}: weights of torchaudio's ConvTasNet do not tell {', '.join(lacking)}; say what it was built with"
            f" (conv_tasnet_base: --mask relu --blocks 8), {depth} blocks in all"
        )
    if stated.mask not in MASKS:
        raise UsageError(f"{where}: {choices('mask', stated.mask, MASKS)}")
    if depth % stated.blocks:
        raise UsageError(f"{where}: {depth} blocks in all; --blocks {stated.blocks} does not divide them")
    try:
        filters, _, kernel = weights["basis.encoder.weight"].shape
        outputs, bottleneck = weights["head.1.weight"].shape[:2]
        hidden, taps = weights["blocks.0.body.3.weight"].shape
    except (KeyError, ValueError) as fault:
        raise BadInput(f"{where}: not the weights of torchaudio's ConvTasNet ({fault})") from fault
    model = {
        "name": "convtasnet", "n_src": outputs // filters, "sample_rate": stated.sample_rate, "filters": filters,
        "kernel": kernel, "stride": kernel // 2, "padding": "both", "activation": "linear",
        "bottleneck": bottleneck, "hidden": hidden, "skip": bottleneck, "block_kernel": taps,
        "blocks": stated.blocks, "repeats": depth // stated.blocks, "mask": stated.mask,
    }  # fmt: skip
    return Found("torchaudio ConvTasNet", model, weights)
