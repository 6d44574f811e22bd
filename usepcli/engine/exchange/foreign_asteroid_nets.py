"""What asteroid's ConvTasNet, DPRNNTasNet and DPTNet are in our names, and what its networks on a basis share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from usepcli.engine.exchange.foreign_parts import count, joined, one_of, plain, renamed, size, whole
from usepcli.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

_NORMS = {
    "gLN": "gln", "GlobLN": "gln", "cgLN": "cumln", "CumLN": "cumln", "cLN": "channel", "ChanLN": "channel",
}  # fmt: skip
_MASKS = {"sigmoid": "sigmoid", "relu": "relu", "softmax": "softmax", "linear": "linear"}
_ACTIVATIONS = {"relu": "relu", "linear": "linear", "None": "linear"}
_LONGEST_CHUNK = 10_000  # frames; no tensor tells, and memory grows with it
_RNNS = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn", "lstm": "lstm", "gru": "gru", "rnn": "rnn"}

# What its constructors take for an argument that is not given.
BASIS = {"fb_name": "free", "kernel_size": 16, "stride": 8, "in_chan": None, "out_chan": None}
BASIS |= {"mask_act": "sigmoid", "encoder_activation": None}
_NORM = {"norm_type": "gLN"}
CONVTASNET = BASIS | _NORM | {
    "n_filters": 512, "n_blocks": 8, "n_repeats": 3, "bn_chan": 128, "hid_chan": 512, "skip_chan": 128,
    "conv_kernel_size": 3, "causal": False,
}  # fmt: skip
DPRNN = BASIS | _NORM | {
    "n_filters": 64, "bn_chan": 128, "hid_size": 128, "chunk_size": 100, "hop_size": None, "n_repeats": 6,
    "bidirectional": True, "rnn_type": "LSTM", "num_layers": 1, "dropout": 0, "use_mulcat": False,
}  # fmt: skip

DPTNET = BASIS | _NORM | {
    "n_filters": 64, "mask_act": "relu", "encoder_activation": "relu", "n_heads": 4, "ff_hid": 256, "chunk_size": 100,
    "hop_size": None, "n_repeats": 6, "ff_activation": "relu", "bidirectional": True, "dropout": 0,
}  # fmt: skip

BASIS_RULES = (
    (r"(encoder|decoder)\.filterbank\._filters", r"basis.\1.weight"),
    (r"masker\.bottleneck\.(.+)", r"inlet.\1"),
)
_CONVTASNET_RULES = (
    *BASIS_RULES,
    # A causal convolution stands in a sequence with the module that cuts its tail.
    (r"masker\.TCN\.(\d+)\.shared_block\.3\.0\.(.+)", r"blocks.\1.body.3.\2"),
    (r"masker\.TCN\.(\d+)\.shared_block\.(.+)", r"blocks.\1.body.\2"),
    (r"masker\.TCN\.(\d+)\.(res|skip)_conv\.(.+)", r"blocks.\1.\2.\3"),
    (r"masker\.mask_net\.(.+)", r"head.\1"),
)
_DPRNN_RULES = (
    *BASIS_RULES,
    (r"masker\.net\.(\d+)\.intra_RNN\.rnn\.(.+)", r"within.\1.rnn.\2"),
    (r"masker\.net\.(\d+)\.inter_RNN\.rnn\.(.+)", r"across.\1.rnn.\2"),
    (r"masker\.net\.(\d+)\.intra_linear\.(.+)", r"within.\1.out.\2"),
    (r"masker\.net\.(\d+)\.inter_linear\.(.+)", r"across.\1.out.\2"),
    (r"masker\.net\.(\d+)\.intra_norm\.(.+)", r"within.\1.norm.\2"),
    (r"masker\.net\.(\d+)\.inter_norm\.(.+)", r"across.\1.norm.\2"),
    (r"masker\.first_out\.(.+)", r"spread.\1"),
    (r"masker\.net_out\.0\.(.+)", r"value.\1"),
    (r"masker\.net_gate\.0\.(.+)", r"gate.\1"),
    (r"masker\.mask_net\.(.+)", r"head.\1"),
)
_DPTNET_RULES = (
    *BASIS_RULES,
    (r"masker\.in_norm\.(.+)", r"inlet.0.\1"),
    *(
        (rf"masker\.layers\.(\d+)\.{number}\.{part}", rf"{path}.\1.{to}")
        for number, path in ((0, "within"), (1, "across"))
        for part, to in (
            (r"mha\.in_proj_(weight|bias)", r"inlet.\2"), (r"mha\.out_proj\.(.+)", r"outlet.\2"),
            (r"recurrent\.(.+)", r"rnn.\2"), (r"linear\.(.+)", r"out.\2"),
            (r"norm_mha\.(.+)", r"first.norm.\2"), (r"norm_ff\.(.+)", r"second.norm.\2"),
        )
    ),
    (r"masker\.first_out\.(.+)", r"spread.\1"),
    (r"masker\.net_out\.0\.(.+)", r"value.\1"),
    (r"masker\.net_gate\.0\.(.+)", r"gate.\1"),
)  # fmt: skip


def check(args: Mapping[str, Any], where: str) -> None:
    """Refuse what has no counterpart here: other filterbanks, masks on other bins, the RNN of two products."""
    one_of(where, "fb_name", args["fb_name"], {"free": "free", "FreeFB": "free"})
    for key in ("in_chan", "out_chan"):
        if args[key] not in (None, args["n_filters"]):
            raise BadInput(f"{where}: {key} is {plain(args[key])}; expected n_filters, {plain(args['n_filters'])}")
    if args.get("use_mulcat"):
        raise BadInput(f"{where}: use_mulcat is true; usep has DPRNN without multiplied RNNs alone")


def on_basis(args: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return our settings of the learned basis and the masks; BadInput for what has no counterpart here."""
    check(args, where)
    return {
        "filters": whole(where, "n_filters", args["n_filters"], 1),
        "kernel": whole(where, "kernel_size", args["kernel_size"], 1),
        "stride": whole(where, "stride", args["stride"] or args["kernel_size"] // 2, 1),
        "activation": one_of(where, "encoder_activation", str(args["encoder_activation"]), _ACTIVATIONS),
        "mask": one_of(where, "mask_act", args["mask_act"], _MASKS),
    }


def _common(args: Mapping[str, Any], common: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the settings that the three of this module share."""
    norm = one_of(where, "norm_type", args["norm_type"], _NORMS)
    return {**common, **on_basis(args, where), "padding": "none", "norm": norm}


def _in_chunks(args: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the settings of the two that go along and across chunks."""
    return {
        "chunk": whole(where, "chunk_size", args["chunk_size"], 2, _LONGEST_CHUNK),
        "chunk_hop": whole(where, "hop_size", args["hop_size"] or args["chunk_size"] // 2, 1, _LONGEST_CHUNK),
        "repeats": whole(where, "n_repeats", args["n_repeats"], 1),
    }


def convtasnet(
    args: Mapping[str, Any], common: dict[str, Any], state: Mapping[str, Tensor], where: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return settings and weights."""
    common = _common(args, common, where)
    causal = bool(args["causal"])
    model = {
        "name": "convtasnet", **common, "causal": causal,
        # Its constructor takes the norm of single frames where a causal model asks for the global one.
        "norm": "channel" if causal and common["norm"] == "gln" else common["norm"],
        "bottleneck": whole(where, "bn_chan", args["bn_chan"], 1),
        "hidden": whole(where, "hid_chan", args["hid_chan"], 1),
        "skip": whole(where, "skip_chan", args["skip_chan"] or 0),
        "block_kernel": whole(where, "conv_kernel_size", args["conv_kernel_size"], 1),
        "blocks": whole(where, "n_blocks", args["n_blocks"], 1),
        "repeats": whole(where, "n_repeats", args["n_repeats"], 1),
    }  # fmt: skip
    weights = joined(renamed(state, _CONVTASNET_RULES, where), where)
    same_depth(where, count(weights, "blocks"), model["blocks"] * model["repeats"])
    return model, weights


def dprnn(
    args: Mapping[str, Any], common: dict[str, Any], state: Mapping[str, Tensor], where: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return settings and weights."""
    common = _common(args, common, where)
    both_ways = bool(args["bidirectional"])
    model = {
        "name": "dprnn", **common, "bidirectional": both_ways,
        "causal": not both_ways and common["norm"] == "channel",
        "dim": whole(where, "bn_chan", args["bn_chan"], 1),
        "hidden": whole(where, "hid_size", args["hid_size"], 1), **_in_chunks(args, where),
        "layers": whole(where, "num_layers", args["num_layers"], 1),
        "rnn": one_of(where, "rnn_type", args["rnn_type"], _RNNS),
    }  # fmt: skip
    weights = renamed(state, _DPRNN_RULES, where)
    same_depth(where, count(weights, "within"), model["repeats"])
    return model, weights


def dptnet(
    args: Mapping[str, Any], common: dict[str, Any], state: Mapping[str, Tensor], where: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return settings and weights."""
    common = _common(args, common, where)
    one_of(where, "ff_activation", args["ff_activation"], {"relu": "relu"})
    model = {
        "name": "dprnn", **common, "path": "dptnet_rows", "bottleneck": False, "dim": common["filters"],
        "bidirectional": bool(args["bidirectional"]), "heads": whole(where, "n_heads", args["n_heads"], 1),
        "hidden": whole(where, "ff_hid", args["ff_hid"], 1), **_in_chunks(args, where),
    }  # fmt: skip
    weights = renamed(state, _DPTNET_RULES, where)
    same_depth(where, count(weights, "within"), model["repeats"])
    # It averages the chunks in which a frame lies, where usep's adds them: the layer before takes the factor.
    for name in ("spread.1.weight", "spread.1.bias"):
        size(weights, name, where)
        weights[name] = weights[name] * (model["chunk_hop"] / model["chunk"])
    return model, weights


def same_depth(where: str, found: int, stated: int) -> None:
    """Compare before anything is built, so that a file cannot ask for more than it holds."""
    if found != stated:
        raise BadInput(f"{where}: weights of {found} blocks, but the settings speak of {stated}")
