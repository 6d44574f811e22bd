"""What asteroid's SuDoRM-RF, original and improved, and its LSTMTasNet are in our names.

Its SuDoRM-RF has one decoder for all outputs, no bias on the basis, as many channels in a block as filters, and fills
frames up to the coarsest resolution; its LSTMTasNet hears frames at their own level, and has no skips.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from usepcli.engine.exchange.foreign_asteroid_nets import BASIS, on_basis, same_depth
from usepcli.engine.exchange.foreign_parts import count, one_of, plain, renamed, size, whole
from usepcli.engine.exchange.foreign_sudormrf import BLOCK
from usepcli.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

_NARROW = {"in_chan": None, "kernel_size": 21, "n_filters": 512, "stride": None, "bn_chan": 128}
SUDORMRF = BASIS | _NARROW | {
    "num_blocks": 16, "upsampling_depth": 4, "mask_act": "softmax", "encoder_activation": "relu",
}  # fmt: skip
IMPROVED = SUDORMRF | {"mask_act": "relu", "encoder_activation": None}
LSTM = BASIS | {
    "n_filters": 64, "rnn_type": "lstm", "n_layers": 4, "hid_size": 512, "dropout": 0.3, "bidirectional": True,
}  # fmt: skip

_BLOCK = (
    *BLOCK, (r"conv_1x1_exp\.conv\.(.+)", r"narrow.0.\2"), (r"conv_1x1_exp\.norm\.(.+)", r"narrow.1.\2"),
    (r"module_act\.norm\.(.+)", r"last.0.\2"), (r"module_act\.act\.(.+)", r"last.1.\2"),
)  # fmt: skip
_UCONV_RULES = (
    # Stored twice, under the encoder and under the module that fills its input up.
    (r"encoder\.(?:encoder\.)?filterbank\._filters", "basis.encoder.weight"),
    (r"decoder\.filterbank\._filters", "basis.decoder.weight"),
    (r"masker\.ln\.(.+)", r"inlet.0.\1"),
    (r"masker\.(?:bottleneck|l1)\.(.+)", r"inlet.1.\1"),
    *((rf"masker\.sm\.(\d+)\.{part}", rf"blocks.\1.{to}") for part, to in _BLOCK),
    (r"masker\.mask_net\.(.+)", r"head.\1"),
    (r"masker\.reshape_before_masks\.(.+)", r"head.widen.\1"),
    (r"masker\.m\.(.+)", r"head.\1"),
)
_LSTM_RULES = (
    (r"encoder\.(?:encoder_relu\.)?filterbank\._filters", "basis.encoder.weight"),
    (r"encoder\.encoder_sig\.filterbank\._filters", "basis.gate.weight"),
    (r"decoder\.filterbank\._filters", "basis.decoder.weight"),
    (r"masker\.bn_layer\.(.+)", r"norm.\1"),
    (r"masker\.masker\.0\.rnn\.(\w+)_l(\d+)(_reverse)?", r"layers.\2.lstm.\1_l0\3"),
    (r"masker\.masker\.1\.(.+)", r"head.\1"),
)
_MASKS = {"sigmoid": "sigmoid", "relu": "relu", "linear": "linear"}


def _uconv(args: Mapping[str, Any], common: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the settings that both share; BadInput where its frames are no multiple of the coarsest."""
    basis = on_basis(args, where)
    depth = whole(where, "upsampling_depth", args["upsampling_depth"], 1, 12)
    hop = max(1, basis["kernel"] // 2)
    if basis["stride"] != hop:
        raise BadInput(f"{where}: stride is {plain(args['stride'])}; usep has half the kernel alone, {hop}")
    # Samples are filled up to a multiple of hop and of 2^depth both.
    unit = 2**depth // math.gcd(hop, 2**depth)
    if unit % 2 ** (depth - 1):
        raise BadInput(
            f"{where}: kernel_size {basis['kernel']} and upsampling_depth {depth} cut frames apart at the coarsest; "
            "usep has whole ones alone"
        )
    return {
        "name": "sudormrf", **common, **basis, "dim": whole(where, "bn_chan", args["bn_chan"], 1),
        "hidden": basis["filters"], "blocks": whole(where, "num_blocks", args["num_blocks"], 1), "depth": depth,
        "decoder": "shared", "unit": unit,
    }  # fmt: skip


def improved(
    args: Mapping[str, Any], common: dict[str, Any], state: Mapping[str, Tensor], where: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return settings and weights of the improved network."""
    model = {**_uconv(args, common, where), "slopes": "each"}
    weights = renamed(state, _UCONV_RULES, where)
    same_depth(where, count(weights, "blocks"), model["blocks"])
    return model, weights


def sudormrf(
    args: Mapping[str, Any], common: dict[str, Any], state: Mapping[str, Tensor], where: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return settings and weights of the original network."""
    import torch

    model = {**_uconv(args, common, where), "variant": "original"}
    weights, filters = renamed(state, _UCONV_RULES, where), model["filters"]
    same_depth(where, count(weights, "blocks"), model["blocks"])
    # What its basis has not, and a step that it leaves out where nothing changes size, as what does nothing.
    weights["basis.encoder.bias"], weights["basis.decoder.bias"] = torch.zeros(filters), torch.zeros(1)
    if model["dim"] == filters and "head.widen.weight" not in weights:
        weights["head.widen.weight"], weights["head.widen.bias"] = torch.eye(filters)[..., None], torch.zeros(filters)
    size(weights, "head.weight", where, 4)
    weights["head.weight"] = weights["head.weight"].flatten(1)
    return model, weights


def lstm(
    args: Mapping[str, Any], common: dict[str, Any], state: Mapping[str, Tensor], where: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return settings and weights of LSTMTasNet, whatever rnn_type says: its networks are LSTMs."""
    both_ways = bool(args["bidirectional"])
    one_of(where, "mask_act", args["mask_act"], _MASKS)  # its softmax is one over time
    basis = on_basis(args, where)
    if basis.pop("activation") != "linear":
        raise BadInput(f"{where}: encoder_activation is {plain(args['encoder_activation'])}; usep has None alone")
    model = {
        "name": "tasnet", **common, **basis, "padding": "none", "hidden": whole(where, "hid_size", args["hid_size"], 1),
        "layers": whole(where, "n_layers", args["n_layers"], 1), "bidirectional": both_ways, "causal": not both_ways,
        "norm": "gln" if both_ways else "cumln", "skips": False,
    }  # fmt: skip
    weights = renamed(state, _LSTM_RULES, where)
    same_depth(where, count(weights, "layers"), model["layers"])
    return model, weights
