"""Checkpoints of asteroid (Pariente et al. 2020): the dictionary that `model.serialize()` gives, torch-saved.

Its keys are model_name, model_args (the constructor's arguments), state_dict, infos, and in published files
dataset, task and licenses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from usepcli.engine.exchange.foreign_parts import (
    Found,
    Stated,
    count,
    joined,
    one_of,
    plain,
    rate_of,
    renamed,
    size,
    some,
    whole,
)
from usepcli.engine.exchange.foreign_source import Source
from usepcli.errors import BadInput, UsageError, choices

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
_BASIS = {"fb_name": "free", "kernel_size": 16, "stride": 8, "in_chan": None, "out_chan": None}
_BASIS |= {"norm_type": "gLN", "mask_act": "sigmoid", "encoder_activation": None}
_CONVTASNET = _BASIS | {
    "n_filters": 512, "n_blocks": 8, "n_repeats": 3, "bn_chan": 128, "hid_chan": 512, "skip_chan": 128,
    "conv_kernel_size": 3, "causal": False,
}  # fmt: skip
_DPRNN = _BASIS | {
    "n_filters": 64, "bn_chan": 128, "hid_size": 128, "chunk_size": 100, "hop_size": None, "n_repeats": 6,
    "bidirectional": True, "rnn_type": "LSTM", "num_layers": 1, "dropout": 0, "use_mulcat": False,
}  # fmt: skip

_DPTNET = _BASIS | {
    "n_filters": 64, "mask_act": "relu", "encoder_activation": "relu", "n_heads": 4, "ff_hid": 256, "chunk_size": 100,
    "hop_size": None, "n_repeats": 6, "ff_activation": "relu", "bidirectional": True, "dropout": 0,
}  # fmt: skip

_NORM_PARTS = ((r"(.+)\.gamma", r"\1.weight"), (r"(.+)\.beta", r"\1.bias"), (r"(.+)", r"\1"))
_BASIS_RULES = (
    (r"(encoder|decoder)\.filterbank\._filters", r"basis.\1.weight"),
    (r"masker\.bottleneck\.(.+)", r"inlet.\1"),
)
_CONVTASNET_RULES = (
    *_BASIS_RULES,
    # A causal convolution stands in a sequence with the module that cuts its tail.
    (r"masker\.TCN\.(\d+)\.shared_block\.3\.0\.(.+)", r"blocks.\1.body.3.\2"),
    (r"masker\.TCN\.(\d+)\.shared_block\.(.+)", r"blocks.\1.body.\2"),
    (r"masker\.TCN\.(\d+)\.(res|skip)_conv\.(.+)", r"blocks.\1.\2.\3"),
    (r"masker\.mask_net\.(.+)", r"head.\1"),
)
_DPRNN_RULES = (
    *_BASIS_RULES,
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
    *_BASIS_RULES,
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

ABOUT = "asteroid's ConvTasNet, DPRNNTasNet and DPTNet"
CODE = "MIT"


def knows(source: Source) -> bool:
    """Return whether a file, or pytorch_model.bin of a folder, is such a dictionary."""
    name = source.weights(r"pytorch_model\.bin", r"best_model\.pth")
    return bool(name) and {"model_name", "model_args", "state_dict"} <= set(source.raw(name))


def read(source: Source, stated: Stated) -> Found:
    """Return what the dictionary holds; BadInput if it is of another architecture or has unknown settings."""
    file = source.weights(r"pytorch_model\.bin", r"best_model\.pth")
    raw, where = source.raw(file), source.at(file)
    name, state = plain(raw["model_name"]), source.state(file)
    if name not in _READERS:
        raise BadInput(f"{where}: {choices('asteroid model', name, _READERS)}")
    if not isinstance(raw["model_args"], Mapping):
        raise BadInput(f"{where}: model_args is a {type(raw['model_args']).__name__}; expected a dictionary")
    if stated.mask or stated.blocks:
        raise UsageError(f"{where}: states its mask and its blocks itself; leave --mask and --blocks out")
    defaults, reader = _READERS[name]
    args = dict(raw["model_args"])
    if unknown := [plain(key) for key in args if key not in defaults and key not in ("n_src", "sample_rate")]:
        raise BadInput(f"{where}: settings that usep does not have: {some(unknown)}")
    absent = {key: value for key, value in defaults.items() if key not in args}
    args = absent | args
    _check(args, where)
    common = {
        "n_src": whole(where, "n_src", args.get("n_src"), 1),
        "sample_rate": rate_of(args.get("sample_rate"), stated, where),
        "filters": whole(where, "n_filters", args["n_filters"], 1),
        "kernel": whole(where, "kernel_size", args["kernel_size"], 1),
        "stride": whole(where, "stride", args["stride"] or args["kernel_size"] // 2, 1),
        "padding": "none",
        "activation": one_of(where, "encoder_activation", str(args["encoder_activation"]), _ACTIVATIONS),
        "norm": one_of(where, "norm_type", args["norm_type"], _NORMS),
        "mask": one_of(where, "mask_act", args["mask_act"], _MASKS),
    }
    plainly = renamed(state, _NORM_PARTS, where)
    model, weights = reader(args, common, plainly, where)
    found = Found(f"asteroid {name}", model, weights)
    if absent:
        said = ", ".join(f"{key}={value}" for key, value in absent.items())
        found.notes.append(f"not stated in the file, so asteroid's own defaults hold: {said}")
    _history(raw, found)
    return found


def _check(args: Mapping[str, Any], where: str) -> None:
    """Refuse what has no counterpart here: other filterbanks, masks on other bins, the RNN of two products."""
    one_of(where, "fb_name", args["fb_name"], {"free": "free", "FreeFB": "free"})
    for key in ("in_chan", "out_chan"):
        if args[key] not in (None, args["n_filters"]):
            raise BadInput(f"{where}: {key} is {plain(args[key])}; expected n_filters, {plain(args['n_filters'])}")
    if args.get("use_mulcat"):
        raise BadInput(f"{where}: use_mulcat is true; usep has DPRNN without multiplied RNNs alone")


def _convtasnet(
    args: Mapping[str, Any], common: dict[str, Any], state: Mapping[str, Tensor], where: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
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
    _same_depth(where, count(weights, "blocks"), model["blocks"] * model["repeats"])
    return model, weights


def _dprnn(
    args: Mapping[str, Any], common: dict[str, Any], state: Mapping[str, Tensor], where: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    both_ways = bool(args["bidirectional"])
    model = {
        "name": "dprnn", **common, "bidirectional": both_ways,
        "causal": not both_ways and common["norm"] == "channel",
        "dim": whole(where, "bn_chan", args["bn_chan"], 1),
        "hidden": whole(where, "hid_size", args["hid_size"], 1),
        "chunk": whole(where, "chunk_size", args["chunk_size"], 2, _LONGEST_CHUNK),
        "chunk_hop": whole(where, "hop_size", args["hop_size"] or args["chunk_size"] // 2, 1, _LONGEST_CHUNK),
        "repeats": whole(where, "n_repeats", args["n_repeats"], 1),
        "layers": whole(where, "num_layers", args["num_layers"], 1),
        "rnn": one_of(where, "rnn_type", args["rnn_type"], _RNNS),
    }  # fmt: skip
    weights = renamed(state, _DPRNN_RULES, where)
    _same_depth(where, count(weights, "within"), model["repeats"])
    return model, weights


def _dptnet(
    args: Mapping[str, Any], common: dict[str, Any], state: Mapping[str, Tensor], where: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    one_of(where, "ff_activation", args["ff_activation"], {"relu": "relu"})
    model = {
        "name": "dprnn", **common, "path": "dptnet_rows", "bottleneck": False, "dim": common["filters"],
        "bidirectional": bool(args["bidirectional"]), "heads": whole(where, "n_heads", args["n_heads"], 1),
        "hidden": whole(where, "ff_hid", args["ff_hid"], 1),
        "chunk": whole(where, "chunk_size", args["chunk_size"], 2, _LONGEST_CHUNK),
        "chunk_hop": whole(where, "hop_size", args["hop_size"] or args["chunk_size"] // 2, 1, _LONGEST_CHUNK),
        "repeats": whole(where, "n_repeats", args["n_repeats"], 1),
    }  # fmt: skip
    weights = renamed(state, _DPTNET_RULES, where)
    _same_depth(where, count(weights, "within"), model["repeats"])
    # It averages the chunks in which a frame lies, where usep's adds them: the layer before takes the factor.
    for name in ("spread.1.weight", "spread.1.bias"):
        size(weights, name, where)
        weights[name] = weights[name] * (model["chunk_hop"] / model["chunk"])
    return model, weights


def _same_depth(where: str, found: int, stated: int) -> None:
    """Compare before anything is built, so that a file cannot ask for more than it holds."""
    if found != stated:
        raise BadInput(f"{where}: weights of {found} blocks, but the settings speak of {stated}")


def _history(raw: Mapping[str, Any], found: Found) -> None:
    """Take over what a published file says of data, licences, authors and scores."""
    held = raw.get("infos")
    infos: Mapping[str, Any] = held if isinstance(held, Mapping) else {}
    found.training_data = " ".join(plain(raw[key]) for key in ("dataset", "task") if raw.get(key))
    licences = raw.get("licenses")
    rows = [row for row in licences if isinstance(row, Mapping)] if isinstance(licences, (list, tuple)) else []
    found.licence = "; ".join(_licence(row) for row in rows)
    people = [plain(row["author"]) for row in rows if row.get("author")]
    found.credits = "; ".join(dict.fromkeys([*map(plain, filter(None, [infos.get("uploader")])), *people]))
    versions = infos.get("software_versions")
    if isinstance(versions, Mapping):
        found.versions = {plain(k).removesuffix("_version"): plain(v) for k, v in versions.items()}
    metrics = infos.get("final_metrics")
    if isinstance(metrics, Mapping):
        found.scores = [
            {"metric": plain(key), "value": float(value), "data": found.training_data,
             "protocol": "stated in the file, not measured by usep"}
            for key, value in metrics.items() if isinstance(value, (int, float)) and abs(value) < 1e9
        ]  # fmt: skip


def _licence(row: Mapping[str, Any]) -> str:
    said = plain(row.get("license", row.get("licence", ""))) or "unstated"
    return f"{said}{', non-commercial' if row.get('non_commercial') else ''} ({plain(row.get('title', 'untitled'))})"


_Reader = Callable[
    [Mapping[str, Any], dict[str, Any], "Mapping[str, Tensor]", str], tuple[dict[str, Any], "dict[str, Tensor]"]
]
_READERS: dict[str, tuple[dict[str, Any], _Reader]] = {
    "ConvTasNet": (_CONVTASNET, _convtasnet),
    "DPRNNTasNet": (_DPRNN, _dprnn),
    "DPTNet": (_DPTNET, _dptnet),
}
